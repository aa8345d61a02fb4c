"""Names from files and arguments: of rows, which become folders, and of data, which are shown."""

from __future__ import annotations

import string
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from timl.evaluation.rows import find_rows
from timl.text import csv_cell, drawn, markdown_cell, printable

ROW = 'title = "A row"\nmethod = "baseline"\nkind = "logistic-regression"\n'


@pytest.mark.parametrize(
    "name",
    [
        "..", "...", "a.b", "a b", "cells.jsonl", "table1.csv", "é", "-/x", "a\n", "a\x1b[31m",
        "=cmd|' /C calc'!A0", "<script>", "world", "World", "mean", "CON", "lpt1", "a" * 81, "",
    ],
)  # fmt: skip
def test_a_row_is_called_by_a_word(name: str, tmp_path: Path) -> None:
    row = replace(find_rows(["logistic-regression"])[0], name=name)
    with pytest.raises(ValueError, match="a row is called"):
        find_rows([row])


@pytest.mark.parametrize("file", ["...toml", "cells.jsonl.toml", "a b.toml", "world.toml"])
def test_a_rows_file_gives_a_word(file: str, tmp_path: Path) -> None:
    import tomllib
    from timl.evaluation.rows import reading

    own = (Path(reading.__file__).parent / "logistic-regression.toml").read_text()
    assert tomllib.loads(own)
    (tmp_path / file).write_text(own)
    with pytest.raises(ValueError, match="a row is called"):
        find_rows([tmp_path / file])


@pytest.mark.parametrize("title", ["", " ", "a\x1b[2J", "a\nb", "a\u202eb", 3])
def test_a_title_is_one_line_of_characters(title: object) -> None:
    row = replace(find_rows(["logistic-regression"])[0], name="own", title=title)
    with pytest.raises(ValueError, match="row 'own' has the title"):
        find_rows([row])


@pytest.mark.parametrize("others", [("own", "OWN"), ("own", "own-1"), ("own-12", "own")])
def test_two_rows_have_two_folders(others: tuple[str, str]) -> None:
    row = find_rows(["logistic-regression"])[0]
    with pytest.raises(ValueError, match=r"rows are called own"):
        find_rows([replace(row, name=name) for name in others])


@given(st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=80))
def test_words_are_taken(name: str) -> None:
    row = find_rows(["logistic-regression"])[0]
    if name.lower() not in ("con", "prn", "aux", "nul", "mean", "world"):
        assert find_rows([replace(row, name=f"x{name}")])[0].name == f"x{name}"


@given(st.text())
def test_what_is_shown_moves_no_cursor(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in shown)
    assert printable(shown) == shown


@given(st.text())
def test_a_cell_of_markdown_stays_one_cell(text: str) -> None:
    cell = markdown_cell(text)
    assert "<" not in cell and ">" not in cell and "\n" not in cell
    assert cell.replace("\\\\", "").count("|") == cell.replace("\\\\", "").count("\\|")


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_computes_no_name(text: str) -> None:
    assert csv_cell(text) == f"'{text}"


@given(st.text(string.ascii_letters, min_size=1), st.text())
def test_other_names_stay_as_they_are_in_csv(first: str, rest: str) -> None:
    assert csv_cell(first + rest) == first + rest


@given(st.text())
def test_a_name_in_a_figure_is_no_formula(text: str) -> None:
    cbook = pytest.importorskip("matplotlib.cbook")
    assert not cbook.is_math_text(drawn(text))


HARMFUL = "$\\frac$ <script>alert(1)</script> [/x] | \x1b[2J\x9b31m\n# more"
"""What breaks markup of every kind, formulas of matplotlib, and terminals."""


def test_names_of_classes_are_text_in_a_table_of_areas() -> None:
    from timl.area import estimate_area

    sample = pd.DataFrame({"map_class": [0, 0, 1, 1, 1], "reference": [0, 1, 1, 1, 0]})
    made = estimate_area(sample, {0: 10.0, 1: 20.0})
    made = replace(made, classes=(HARMFUL, "=1+1"))
    markdown = made.to_markdown()
    assert "<script>" not in markdown and "\x1b" not in markdown and "\x9b" not in markdown
    assert [line.count(" | ") for line in markdown.splitlines()[2:4]] == [
        markdown.splitlines()[0].count(" | ")
    ] * 2
    assert "\x1b" not in repr(made) and len(repr(made).splitlines()) == 4


def test_names_of_tasks_are_text_in_scores_over_the_season() -> None:
    from timl.evaluation.in_season import InSeason, InSeasonCell

    cell = InSeasonCell(3, 0, 0.5, 0.5, 0.5, 0.2, 10, 20)
    made = InSeason(HARMFUL, 1, (cell,), {})
    assert "<script>" not in made._repr_html_() and "\x1b" not in made._repr_html_()
    pytest.importorskip("matplotlib")
    made.plot().canvas.draw()


def test_a_folder_of_any_name_is_text_in_a_notebook(tmp_path: Path) -> None:
    from timl.data import CropHarvest
    from worlds import write_benchmarked_world

    shown = CropHarvest(write_benchmarked_world(tmp_path / "<script>x"))._repr_html_()
    assert "<script>" not in shown and "&lt;script&gt;" in shown


@pytest.mark.parametrize("title", ["[/x]", "[red]", HARMFUL, "[link=x]y[/link]"])
def test_a_title_is_text_beside_a_bar(title: str, capsys: pytest.CaptureFixture[str]) -> None:
    from timl.evaluation.runner.progress import progress_bar

    with progress_bar(title, 2, show=True) as advance:
        advance()
    shown = capsys.readouterr().err
    assert "\x1b[2J" not in shown and "\x9b" not in shown
    assert title.split()[0] in shown
