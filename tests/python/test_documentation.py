"""The code in the documentation runs as it stands, and commands have the options it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from timl.cli import app
from typer.testing import CliRunner

DOCUMENTS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```", re.DOTALL | re.MULTILINE)

PAGES = sorted(path.relative_to(DOCUMENTS).as_posix() for path in DOCUMENTS.rglob("*.md"))
NEEDS_THE_RECORD = ["how-to/coming-from-cropharvest.md", "how-to/download-the-record.md"]
NEEDS_A_GPU = ["how-to/gpu.md"]
RUN_WHOLE = [
    page
    for page in PAGES
    if page not in (*NEEDS_THE_RECORD, *NEEDS_A_GPU)
    and BLOCK.search((DOCUMENTS / page).read_text("utf-8"))
]


@pytest.mark.usefixtures("small_forests", "few_labels")
@pytest.mark.parametrize("name", RUN_WHOLE)
def test_the_blocks_of_a_page_run_one_after_the_other(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # starting processes takes longer than their work
    blocks = BLOCK.findall((DOCUMENTS / name).read_text(encoding="utf-8"))
    assert blocks
    variables: dict[str, object] = {}
    for language, block in blocks:
        if language == "python":
            exec(block, variables)
        else:
            run(block)


@pytest.mark.parametrize("page", [*PAGES, "../README.md"])
def test_python_of_a_page_compiles_and_its_commands_have_the_options_it_gives(page: str) -> None:
    text = (DOCUMENTS / page).read_text(encoding="utf-8")
    for block in re.findall(r"^```(?:python|py)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if ">>>" not in block:
            compile(block, page, "exec")
    known: Any = typer.main.get_command(app)
    for line in re.findall(r"(?:^|`)timl ([a-z0-9]+(?: [^`\n]*)?)", text, re.MULTILINE):
        name, *arguments = shlex.split(line, comments=True)
        if name not in known.commands:
            continue
        options = {
            text
            for option in known.commands[name].params
            for text in (*option.opts, *option.secondary_opts)
        }
        assert {text for text in arguments if text.startswith("--")} <= {*options, "--help"}, line


def test_what_the_page_on_the_code_names_is_in_the_files_it_links_to() -> None:
    page = DOCUMENTS / "explanation/where-things-are.md"
    named = re.findall(r"\[`([\w.]+)`\]\((\.\./\.\./[^)]+)\)", page.read_text(encoding="utf-8"))
    assert named
    for name, link in named:
        source = (page.parent / link).read_text(encoding="utf-8")
        for part in name.split("."):
            assert re.search(rf"\b{part}\b", source), f"{name} is not in {link}"


def run(block: str) -> None:
    """Run the lines of a shell block, all of them commands of timl."""
    for line in block.replace("\\\n", " ").splitlines():
        program, *arguments = shlex.split(line, comments=True)
        assert program == "timl"
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
