"""From labelled points to a map: one call, one command, and what they leave behind."""

from __future__ import annotations

import functools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import rasterio
import timl
import torch
from timl.cli import app
from timl.data import CropHarvest, Scene, own_points, simulate, simulate_scene
from timl.data.sources import windows
from timl.maps import from_points
from timl.meta import unlearned_kernel
from timl.nn import DeepKernel
from timl.normalization import normalization_of
from typer.testing import CliRunner

KILLS = int(os.environ.get("TIML_TEST_KILLS", "1"))


@pytest.fixture(scope="module", autouse=True)
def short_curve() -> Iterator[None]:
    """Learning curves of two sizes: all of them take longer than the rest of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        few = functools.partial(timl.learning_curve, sizes=[12], draws=1)
        patch.setattr(from_points, "learning_curve", few)
        yield


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("scene")
    simulate(folder / "world", countries=4, samples=1000, seed=0)
    return simulate_scene(folder / "scene", folder / "world", size=128, points=40)


@pytest.fixture(scope="module")
def kernel(scene: Scene) -> DeepKernel:
    """Deep kernel that learned nothing: it takes a second."""
    data = CropHarvest(scene.folder.parent / "world")
    series = data.series(np.arange(len(data)))
    return unlearned_kernel(series, normalization_of(data))


@pytest.fixture(scope="module")
def points(scene: Scene, kernel: DeepKernel) -> timl.data.own.points.OwnPoints:
    return own_points(scene.points, scene.export, like=kernel.normalization)


@pytest.fixture(scope="module")
def made(scene, kernel, points, tmp_path_factory) -> timl.maps.PointsMap:
    out = tmp_path_factory.mktemp("map")
    with pytest.warns(UserWarning, match="too close together"):
        return timl.map_points(kernel, points, scene.export, out, members=2, progress=False)


@pytest.fixture
def same_curve(made, monkeypatch) -> None:
    """The learning curve of the map that was made: it takes most of the time."""
    monkeypatch.setattr(from_points, "learning_curve", lambda *given, **named: made.curve)


class Addresses(HTMLParser):
    """Addresses of everything that a page would load, and of its links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href")]


def test_one_call_makes_map_scores_and_report(made, points, scene) -> None:
    with rasterio.open(made.files.map) as file:
        assert file.descriptions == ("probability", "class", "uncertainty", "unlike")
        probability, kind, uncertainty, unlike = file.read()
        assert file.tags()["TIML_TARGET"] == "crop"
        assert "/" not in file.tags()["TIML_SOURCE"]
    np.testing.assert_array_equal(kind, (probability >= np.float32(made.threshold)))
    assert 0 < uncertainty.mean() < 0.5 and (unlike >= 0).all()
    with rasterio.open(scene.truth) as file:
        crops = {n for n, label in scene.legend.items() if label in set(_crops(scene))}
        truth = np.isin(file.read(1), list(crops))
    assert ((kind == 1) == truth).mean() > 0.75
    assert made.hectares[1] == pytest.approx(kind.sum() * scene.pixel_hectares, rel=0.01)
    text = made.report.read_text("utf-8")
    assert f"{made.validation.scores['auc_roc'].value:.3f}" in text
    loaded = Addresses(text).loaded
    outside = {a.split(",")[0] for a in loaded if not a.startswith("#")}
    assert outside == {"data:image/png;base64", "map.html", "map.tif"}
    table = pd.read_csv(made.report.parent / "scores.csv", index_col="score")
    assert table.loc["auc_roc", "value"] == made.validation.scores["auc_roc"].value
    again = timl.nn.StrongClassifier.from_pretrained(made.report.parent / "classifier")
    x = torch.from_numpy(points.train_arrays()[0])
    torch.testing.assert_close(again(x), made.classifier(x), rtol=0, atol=0)


def _crops(scene: Scene) -> list[str]:
    table = pd.read_csv(scene.points)
    return table.loc[table["is_crop"] == 1, "label"].tolist()


def test_the_ensemble_sees_resampled_labels_and_has_a_seed(kernel, points) -> None:
    x = torch.from_numpy(points.train_arrays()[0])
    first, second = timl.finetune_ensemble(kernel, points, 2, seed=3)
    assert not torch.equal(first(x), second(x))
    torch.testing.assert_close(
        timl.finetune_ensemble(kernel, points, 3, seed=3)[1](x), second(x), rtol=0, atol=0
    )
    with pytest.raises(ValueError, match="members is 1: give at least 2"):
        timl.finetune_ensemble(kernel, points, 1)


def test_the_map_is_that_of_the_classifier_and_its_twin(made, scene) -> None:
    from timl.data import read_export
    from timl.reference import strong_evaluate

    normalization = made.classifier.normalization
    read = read_export(scene.export, normalization["ndvi"], "pixel")
    measured = read.series.astype(np.float32).astype(np.float64)
    x = (measured - normalization["mean"]) / normalization["std"]
    chosen = np.arange(0, len(x), 97)
    arguments = made.classifier.double().arguments(True)
    logits, distances = strong_evaluate(torch.from_numpy(x[chosen]), *arguments)
    made.classifier.float()
    with rasterio.open(made.files.map) as file:
        probability, _, _, unlike = file.read()
    expected = torch.sigmoid(logits).numpy()
    difference = np.abs(probability.ravel()[chosen] - expected)
    # a tree may send a rounded number to another leaf: that moves one vote of a hundred
    assert np.mean(difference < 1e-4) > 0.97 and difference.max() < 0.05
    np.testing.assert_allclose(unlike.ravel()[chosen], distances, rtol=1e-3)


def test_points_that_cannot_be_divided_still_make_a_map(scene, kernel, tmp_path) -> None:
    table = pd.read_csv(scene.points)
    few = pd.concat([table[table["is_crop"] == 1][:2], table[table["is_crop"] == 0][:2]])
    points = own_points(few, scene.export, like=kernel.normalization)
    with pytest.warns(UserWarning, match="cannot be divided, so that there is no accuracy"):
        made = timl.map_points(
            kernel, points, scene.export, tmp_path, members=0, block_km=50, progress=False
        )
    assert made.validation is None and made.threshold == 0.5
    assert "No accuracy could be measured" in made.report.read_text("utf-8")


@pytest.mark.usefixtures("same_curve")
def test_names_of_labels_are_text_in_the_report(scene, kernel, tmp_path) -> None:
    table = pd.read_csv(scene.points)
    table["label"] = np.where(table["is_crop"] == 1, "<script>alert(1)</script>", "other")
    points = own_points(
        table,
        scene.export,
        like=kernel.normalization,
        target_label="<script>alert(1)</script>",
        classification_label="cereals",
    )
    with pytest.warns(UserWarning):
        made = timl.map_points(
            kernel, points, scene.export, tmp_path, members=0, block_km=50, progress=False
        )
    for path in (made.report, made.files.page):
        assert "<script>alert" not in path.read_text("utf-8")


# --- the command ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("same_curve")
def test_the_command_maps_from_points_and_with_a_classifier(scene, kernel, made, tmp_path) -> None:
    kernel.save_pretrained(tmp_path / "kernel")
    out = tmp_path / "out"
    run = CliRunner().invoke(
        app,
        [
            *("map", "--points", str(scene.points), "--exports", str(scene.export.parent)),
            *("--model", str(tmp_path / "kernel"), "--out", str(out), "--members", "2", "--quiet"),
            *("--block-km", "50"),
        ],
    )
    assert run.exit_code == 0, run.output
    assert str(out / "report.html") in run.output.replace("\n", "")
    with rasterio.open(out / "map.tif") as file, rasterio.open(made.files.map) as expected:
        np.testing.assert_array_equal(file.read([1, 3, 4]), expected.read([1, 3, 4]))
    run = CliRunner().invoke(
        app,
        [
            *("map", "--model", str(out / "classifier"), "--exports", str(scene.export)),
            *("--out", str(tmp_path / "other"), "--quiet"),
        ],
    )
    assert run.exit_code == 0, run.output
    with rasterio.open(tmp_path / "other" / "map.tif") as file, rasterio.open(out / "map.tif") as e:
        np.testing.assert_array_equal(file.read(1), e.read(1))


def test_commands_that_make_no_sense_say_so(scene, kernel, made, tmp_path) -> None:
    kernel.save_pretrained(tmp_path / "kernel")
    classifier = str(made.report.parent / "classifier")
    exports, points = str(scene.export), str(scene.points)
    cases = [
        (["--model", str(tmp_path / "kernel")], "not adapted to a task: give --points"),
        (["--model", classifier, "--members", "3"], "--members belong to --points"),
        (["--model", classifier, "--points", points], "an adapted classifier: leave out --points"),
        (["--model", str(tmp_path / "none")], "none"),
        (["--model", classifier, "--threshold", "1.5"], "threshold is 1.5"),
        (["--model", classifier, "--prevalence", "0"], "prevalence is 0"),
    ]
    for arguments, message in cases:
        run = CliRunner().invoke(
            app, ["map", *arguments, "--exports", exports, "--out", str(tmp_path / "o"), "--quiet"]
        )
        assert run.exit_code == 2, run.output
        assert message in run.output and "Traceback" not in run.output


def test_killed_at_any_moment_it_goes_on_to_the_same_map(
    scene, made, tmp_path, monkeypatch
) -> None:
    """TIML_TEST_KILLS sets the number of kills, for a longer run by hand."""
    classifier = made.report.parent / "classifier"
    script = f"""
import timl
from timl.data.sources import windows
windows._PIXELS = 2000
timl.predict_map(
    timl.nn.StrongClassifier.from_pretrained({str(classifier)!r}), {str(scene.export)!r},
    {str(tmp_path / "m.tif")!r}, progress=False, workers=2)
"""
    chosen = random.Random(0)
    for _ in range(KILLS):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
        parts = tmp_path / ".m.tif.parts"
        deadline = time.monotonic() + 60
        while not parts.is_dir() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(chosen.uniform(0, 1.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (tmp_path / "m.tif").is_file():  # it was faster
            with rasterio.open(tmp_path / "m.tif") as file:
                file.read()
            (tmp_path / "m.tif").unlink()
    monkeypatch.setattr(windows, "_PIXELS", 2000)
    read = timl.nn.StrongClassifier.from_pretrained(classifier)
    timl.predict_map(read, scene.export, tmp_path / "m.tif", progress=False, workers=2)
    with rasterio.open(tmp_path / "m.tif") as file, rasterio.open(made.files.map) as expected:
        np.testing.assert_array_equal(file.read(1), expected.read(1))
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["m.html", "m.json", "m.png", "m.tif"], left
