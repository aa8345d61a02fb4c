"""The report of a finished table: its sections, its files, what it refuses."""

from __future__ import annotations

import html.parser
import json
import math
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import timl
from timl.cli import app
from timl.data import BBox
from timl.evaluation import Row, Table1Result, find_rows, table1
from timl.evaluation.plotting import method_styles
from timl.evaluation.report import write_report
from timl.evaluation.report.document import Document, Picture, Section, Table, Text
from timl.evaluation.report.numbers import (
    count_text,
    estimate_text,
    exact_text,
    number_text,
    p_text,
)
from timl.evaluation.rows import MetaTrainedRow
from timl.evaluation.scores import evaluate_with_reliability
from typer.testing import CliRunner

HOSTILE = "<script>alert('$1|_*`')</script>"
ROWS: list[str | Path | Row] = [
    "logistic-regression",
    "timl",
    MetaTrainedRow(name="mine", title=HOSTILE, encoder=False),
]
REGIONS = [BBox(2, 2.9, 0, 1, HOSTILE), BBox(3, 3.9, 0, 1, "R3")]
SECTIONS = [
    "table", "ranking", "statistics", "sample-sizes", "confusion", "calibration", "learning",
    "forgetting", "embedding", "hardest", "run-times", "provenance",
]  # fmt: skip


class Page(html.parser.HTMLParser):
    """Elements of a page and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.fixture(scope="module")
def data(benchmarked_world: Path) -> timl.CropHarvest:
    return timl.CropHarvest(benchmarked_world)


@pytest.fixture(scope="module")
def finished(data: timl.CropHarvest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a table with hostile names and a forgotten task."""
    folder = tmp_path_factory.mktemp("table")
    options: dict[str, Any] = {"epochs": 2, "runs": 2, "steps": 2, "workers": 1, "progress": False}
    table1(
        data, folder, **options, rows=ROWS, regions=REGIONS,
        sample_sizes=[8, None], zero_shot=True,
    )  # fmt: skip
    history = folder / "timl" / "history.json"
    stored = json.loads(history.read_text())
    stored["tasks"][0]["forgotten"] = 0
    history.write_text(json.dumps(stored))
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "table"))


def write(data: timl.CropHarvest, folder: Path) -> Path:
    return write_report(Table1Result.load(folder), data, timl.meta_tasks(data, REGIONS), folder)


@pytest.fixture(scope="module")
def written(
    data: timl.CropHarvest, finished: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The report of that table, in a copy of its folder."""
    return write(data, Path(shutil.copytree(finished, tmp_path_factory.mktemp("report") / "table")))


def test_the_page_has_every_section_and_needs_no_other_file(written: Path) -> None:
    text = written.read_text("utf-8")
    page = Page(text)
    folder = written.parent
    assert written == folder / "report.html"
    assert [attributes["id"] for attributes in page.all("section")] == SECTIONS
    assert page.all("html") == [{"lang": "en"}] and len(page.all("h1")) == 1
    assert "viewport" in text and "@media print" in text and "max-width: 40rem" in text
    headings = {attributes["id"] for attributes in page.all("h2")}
    assert all(s["aria-labelledby"] in headings for s in page.all("section"))
    # every picture is within the page, and is told in words
    images = page.all("img")
    assert len(images) == len(list(folder.glob("report-*.svg"))) == 14
    assert all(str(image["src"]).startswith("data:image/svg+xml;base64,") for image in images)
    assert all(len(str(image["alt"])) > 30 for image in images)
    assert not page.all("script", "link", "iframe", "object")
    assert [a["href"] for a in page.all("a") if not str(a["href"]).startswith("#")] == [
        "https://arxiv.org/abs/2202.02124"
    ]
    assert "url(" not in text and "@import" not in text
    for picture in folder.glob("report-*.svg"):
        assert not re.search(r"(?:href|src|resource)=\"(?!#|data:)", picture.read_text("utf-8"))


def test_what_the_report_says(data: timl.CropHarvest, written: Path) -> None:
    result = Table1Result.load(written.parent)
    text = written.read_text("utf-8")
    assert estimate_text(result.estimate("timl", "mean", "f1")) in text
    assert data.checksum in text and timl.__version__ in text
    assert "TIML forgot 1 of 1" in text
    for name in ("zero-shot", "specificity", "Expected calibration error", "median of a cell"):
        assert name in text


def test_names_are_text_and_not_markup(written: Path) -> None:
    assert "<script" not in written.read_text("utf-8")
    markdown = written.with_suffix(".md").read_text("utf-8")
    assert "<script" not in markdown and r"'\$1\|\_\*\`'" in markdown
    tables = re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE)
    assert len(tables) > 8
    for table in tables:  # a bar in a name makes no column
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_markdown_has_the_sections_and_its_figures_are_there(written: Path) -> None:
    markdown = written.with_suffix(".md").read_text("utf-8")
    assert markdown.count("\n## ") == len(SECTIONS)
    figures = re.findall(r"\]\((report-[\w-]+\.svg)\)", markdown)
    assert figures and all((written.parent / name).is_file() for name in figures)


def test_a_report_that_cannot_be_finished_leaves_the_earlier_one(
    data: timl.CropHarvest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "report.html"
    path.write_text("earlier")
    replace = os.replace

    def fail(source: Any, target: Any) -> None:
        if Path(target) == path:
            raise OSError("no space left")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write(data, folder)
    assert path.read_text() == "earlier" and not list(folder.glob(".*.tmp"))


def test_the_same_table_gives_the_same_report(
    data: timl.CropHarvest, folder: Path, written: Path
) -> None:
    assert write(data, folder).read_bytes() == written.read_bytes()


def test_of_other_data_or_tasks_no_report_is_written(data: timl.CropHarvest, folder: Path) -> None:
    result = Table1Result.load(folder)
    with pytest.raises(ValueError, match="give the same regions as to table1"):
        write_report(result, data, timl.meta_tasks(data), folder)
    result.provenance["data"]["checksum"] = "other"
    with pytest.raises(ValueError, match="but the table is of other"):
        write_report(result, data, timl.meta_tasks(data, REGIONS), folder)
    assert not list(folder.glob("report*"))


def test_a_table_of_baselines_alone_has_a_report(data: timl.CropHarvest, tmp_path: Path) -> None:
    result = table1(data, tmp_path, rows=["logistic-regression"], runs=1, progress=False)
    text = write_report(result, data, None, tmp_path).read_text("utf-8")
    sections = [str(s["id"]) for s in Page(text).all("section")]
    filled = {"sample-sizes", "learning", "forgetting", "embedding", "hardest"} ^ {*SECTIONS}
    assert sections == [*(name for name in SECTIONS if name in filled), "absent"]
    assert "Learning curves: no row of this table was meta-trained" in text
    assert "Scores by number of labels: give timl table1 the option" in text


def test_a_finished_table_is_read_as_it_was(data: timl.CropHarvest, folder: Path) -> None:
    rows = find_rows(ROWS)
    options: dict[str, Any] = {"runs": 2, "steps": 2, "progress": False, "regions": REGIONS}
    again = table1(data, folder, 2, rows=rows, sample_sizes=[8, None], zero_shot=True, **options)
    loaded = Table1Result.load(folder)
    assert loaded.cells == again.cells and loaded.titles == again.titles
    assert loaded.benchmarks == again.benchmarks
    assert str(loaded) == str(again)
    (folder / "cells.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"is not in cells\.jsonl: run timl table1 again"):
        Table1Result.load(folder)
    (folder / "table1.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"table1\.csv is missing"):
        Table1Result.load(folder)


def test_cells_count_for_the_calibration_curve(data: timl.CropHarvest) -> None:
    benchmark = data.benchmarks[0]
    y = benchmark.test.y
    probability = [1.0 if label == 1 else 0.05 for label in y]
    _, bins = evaluate_with_reliability(probability, benchmark)
    positives, negatives = int((y == 1).sum()), int((y == 0).sum())
    assert bins[0] == (negatives, 0, pytest.approx(0.05 * negatives))
    assert bins[9] == (positives, positives, positives)
    assert all(one == (0, 0, 0.0) for one in bins[1:9])


def test_the_command_writes_it_again(
    data: timl.CropHarvest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--data", str(data.root), "--out", str(tmp_path)]
    quick = ["--rows", "logistic-regression", "--runs", "1", "--quiet"]
    done = CliRunner().invoke(app, ["table1", *arguments, *quick])
    assert done.exit_code == 0, done.output
    assert f"report: {tmp_path / 'report.html'}" in done.stdout
    first = (tmp_path / "report.html").read_bytes()
    (tmp_path / "report.html").unlink()
    again = CliRunner().invoke(app, ["report", *arguments])
    assert again.exit_code == 0, again.output
    assert (tmp_path / "report.html").read_bytes() == first

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    without = CliRunner().invoke(app, ["table1", *arguments, *quick])
    assert without.exit_code == 0
    assert 'no report: it needs matplotlib, pip install "timl[plot]"' in without.stdout
    refused = CliRunner().invoke(app, ["report", *arguments])
    assert refused.exit_code == 2 and "the report needs matplotlib" in refused.stderr


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (number_text(-0.0004), "0.000"),
        (number_text(0.5, signed=True), "+0.500"),
        (number_text(-1.2345, signed=True), "\N{MINUS SIGN}1.234"),
        (number_text(math.nan), "none"),
        (count_text(12.0), "12"),
        (p_text(0.0004), "<\N{NO-BREAK SPACE}0.001"),
        (exact_text(120.7997999999999), "120.8"),
        (exact_text(-1e-05), "\N{MINUS SIGN}0.00001"),
        (exact_text(200.0), "200"),
    ],
)
def test_numbers_have_one_format(text: str, wanted: str) -> None:
    assert text == wanted


def test_methods_look_alike_in_every_figure() -> None:
    styles = method_styles(["mine", "strong", "yours", "random-forest"])
    assert method_styles(["random-forest"])["random-forest"] == styles["random-forest"]
    many = method_styles([f"row-{i}" for i in range(40)] + ["timl", "maml"])
    assert len(set(many.values())) == 42


def test_a_document_in_both_forms() -> None:
    table = Table("a & b", ["x", "y"], [["p", "1"], ["q", "2"]], [[0, 2], [0, 1]])
    picture = Picture("drawn", b"<svg/>", "what it shows", "a caption")
    section = Section("s", "Part", [Text("words"), table, picture])
    document = Document("Title", "summary", [section])
    page = document.to_html()
    assert '<a href="#s">Part</a>' in page and "a &amp; b" in page
    assert "<td>1°</td>" in page and "<td><strong>2*</strong></td>" in page
    assert "| q | **2**\\* |" in document.to_markdown()
    assert "![what it shows](drawn.svg)" in document.to_markdown()
