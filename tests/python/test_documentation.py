"""The code in the documentation runs as it stands, and the site's pages are all in its menu."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from timl.cli import app
from typer.testing import CliRunner

DOCUMENTS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```", re.DOTALL | re.MULTILINE)

RUN_WHOLE = [
    "explanation/meta-step.md",
    "how-to/pytorch.md",
    "tutorial/first-classifier.md",
]


@pytest.mark.parametrize("name", RUN_WHOLE)
def test_the_blocks_of_a_page_run_one_after_the_other(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((DOCUMENTS / name).read_text(encoding="utf-8"))
    assert blocks
    variables: dict[str, object] = {}
    for language, block in blocks:
        if language == "python":
            exec(block, variables)
        else:
            run(block)


def run(block: str) -> None:
    """Run the lines of a shell block, which must all be commands of timl."""
    for line in block.replace("\\\n", " ").splitlines():
        program, *arguments = shlex.split(line, comments=True)
        assert program == "timl"
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
