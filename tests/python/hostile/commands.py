"""The command line, called within this process."""

from __future__ import annotations

from timl.cli import app
from typer.testing import CliRunner, Result


def run(*words: object) -> Result:
    """Run a command."""
    return CliRunner().invoke(app, [str(word) for word in words])


def refusal(*words: object) -> str:
    """Return the one line in which a command is refused."""
    result = run(*words)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == "" and result.stderr.count("\n") == 1, result.output
    return result.stderr.removeprefix("timl: ").rstrip("\n")
