"""Files of a finished table that are damaged, foreign, or hold names that are made to harm."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timl
from commands import refusal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from timl.evaluation import Table1Result
from timl.evaluation.paper.cells import open_store

HARMFUL = "=cmd|' /C calc'!A0 <script>alert(1)</script> [/x] \x1b[2J\x9b31m"


@pytest.fixture(scope="module")
def finished(data: timl.CropHarvest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished table."""
    out = tmp_path_factory.mktemp("table")
    timl.table1(data, out, rows=["logistic-regression"], runs=1, workers=1, progress=False)
    return out


@pytest.fixture
def table(finished: Path, tmp_path: Path) -> Path:
    """Copy of the folder of a finished table."""
    return shutil.copytree(finished, tmp_path / "table")


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"null", b"[]", b"{}", b"3", b'"x"', b"\xff\xfe", b"[" * 100_000,
        b'{"rows": {}, "provenance": {}}', b'{"rows": [], "provenance": null}',
        b'{"rows": {"timl": 3}, "provenance": {"settings": {}, "data": {}}}',
    ],
)  # fmt: skip
def test_a_summary_of_something_else(benchmarked_world: Path, table: Path, content: bytes) -> None:
    (table / "table1.json").write_bytes(content)
    message = refusal("report", "--data", benchmarked_world, "--out", table)
    assert message.startswith(f"{table / 'table1.json'} is not")
    assert message.endswith("run timl table1 again")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data_=st.data())
def test_any_change_of_the_summary_is_read_or_refused(finished: Path, data_: Any) -> None:
    path = finished / "table1.json"
    whole = path.read_text()
    document = json.loads(whole)
    place: Any = document
    while isinstance(place, dict) and place:
        key = data_.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[key], dict) or data_.draw(st.booleans()):
            place[key] = data_.draw(st.none() | st.integers() | st.text(max_size=3) | st.just([]))
            break
        place = place[key]
    path.write_text(json.dumps(document))
    try:
        Table1Result.load(finished)
    except ValueError:
        pass
    finally:
        path.write_text(whole)


@pytest.mark.parametrize("line", [b"\xff\xfe\n", b"[" * 100_000 + b"\n", b"{}\n", b'{"key": 3}\n'])
def test_a_bad_line_of_the_cells_is_named(
    benchmarked_world: Path, table: Path, line: bytes
) -> None:
    with (table / "cells.jsonl").open("ab") as file:
        file.write(line)
    message = refusal("report", "--data", benchmarked_world, "--out", table)
    assert message.startswith(f"{table / 'cells.jsonl'}, line 3 is not a finished job")


@pytest.mark.parametrize("header", ["", "a,b", "row,benchmark\nx,y", "\x00"])
def test_a_foreign_csv(benchmarked_world: Path, table: Path, header: str) -> None:
    (table / "table1.csv").write_text(f"{header}\n")
    assert "run timl table1 again" in refusal("report", "--data", benchmarked_world, "--out", table)


def test_harmful_names_do_nothing(table: Path) -> None:
    result = Table1Result.load(table)
    harmful = replace(
        result,
        titles=dict.fromkeys(result.titles, HARMFUL),
        benchmarks=tuple(f"{HARMFUL}{name}" for name in result.benchmarks),
        cells=tuple(replace(c, benchmark=f"{HARMFUL}{c.benchmark}") for c in result.cells),
    )
    harmful.provenance["data"]["benchmarks"] = list(harmful.benchmarks)
    harmful.save(table)
    with (table / "table1.csv").open(newline="", encoding="utf-8") as file:
        assert all(line["benchmark"].startswith("'=cmd") for line in csv.DictReader(file))
    markdown = (table / "table1.md").read_text()
    assert "<script>" not in markdown and "\x1b" not in markdown and "\x9b" not in markdown
    assert "<script>" not in harmful._repr_html_()
    console = Console(width=200)
    with console.capture() as capture:
        console.print(harmful)
    assert "[2J" in capture.get() and "\x1b[2J" not in capture.get()
    assert "\x9b" not in capture.get()
    # and the table is read back all the same
    (table / "cells.jsonl").unlink()
    store = open_store(table)
    store.add("0" * 16, list(harmful.cells))
    assert Table1Result.load(table).cells == harmful.cells
