"""The demonstration, tiny: scores, a map on the scene's pixels, an area, and going on again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from timl.cli import app
from timl.demo import Demonstration, demo
from timl.nn import TIML
from typer.testing import CliRunner

rasterio = pytest.importorskip("rasterio")
pytest.importorskip("matplotlib")
pytest.importorskip("shapely")

TINY = {
    "countries": 4,
    "samples": 1000,
    "epochs": 1,
    "kernel_steps": 2,
    "size": 64,
    "points": 20,
    "workers": 1,
}


pytestmark = pytest.mark.usefixtures("few_labels")


@pytest.fixture(scope="module")
def shown(few_labels: None, tmp_path_factory: pytest.TempPathFactory) -> Demonstration:
    return demo(tmp_path_factory.mktemp("demo"), **TINY, progress=False)


def test_it_scores_five_methods_in_countries_that_were_held_out(shown: Demonstration) -> None:
    assert set(shown.result.titles) == {cell.row for cell in shown.result.cells}
    assert len(shown.result.titles) == 5
    assert shown.scene.country in {cell.region for cell in shown.result.cells}
    text = shown.text.read_text("utf-8")
    area = f"Area of {shown.target}: {shown.area.estimate:.0f} ha"
    assert "| Strong protocol |" in text and area in text
    page = shown.report.read_text("utf-8")
    assert "Strong protocol" in page and area in page and "data:image/png;base64," in page


def test_the_map_lies_on_the_export_and_the_model_has_a_kernel(shown: Demonstration) -> None:
    with rasterio.open(shown.map.map) as found, rasterio.open(shown.scene.export) as export:
        assert (found.crs, found.transform) == (export.crs, export.transform)
        assert found.descriptions == ("probability", "class", "unlike")
        probability, kind, _ = found.read()
    assert ((probability >= 0.5) == kind).all() and np.isfinite(probability).all()
    assert shown.area.counted == pytest.approx(kind.sum() / 100, rel=0.01)
    assert shown.area.low <= shown.area.estimate <= shown.area.high
    assert shown.map.page.is_file() and shown.map.quicklook.is_file() and shown.map.item.is_file()
    assert TIML.from_pretrained(shown.model).deep_kernel is not None
    assert shown.figure.read_bytes().startswith(b"\x89PNG")


def test_the_command_goes_on_with_what_is_there(shown: Demonstration) -> None:
    out = shown.figure.parent
    finished = (out / "few-shot" / "cells.jsonl").read_bytes()
    options = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    result = CliRunner().invoke(app, ["demo", "--out", str(out), *options, "--quiet"])
    assert result.exit_code == 0, result.output
    assert "next:" in result.output and str(shown.report) in result.output.replace("\n", "")
    assert (out / "few-shot" / "cells.jsonl").read_bytes() == finished


def test_a_command_simulates_a_world_with_a_scene(tmp_path: Path) -> None:
    arguments = ["simulate", "--out", "world", "--scene", "scene", "--quiet"]
    arguments += ["--countries=4", "--samples=1000", "--size=64", "--points=3"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "64 x 64 pixels of" in result.output
    assert len((tmp_path / "scene" / "points.csv").read_text("utf-8").splitlines()) == 4
