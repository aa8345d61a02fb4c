"""From points of several classes to a map: one call, its report, and the commands."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import timl
import torch
from timl.cli import app
from timl.data import CropHarvest, OwnCropTypes, Scene, own_points, simulate, simulate_scene
from timl.evaluation.cross_validation import CropTypeValidation
from timl.evaluation.report.classes import class_blocks
from timl.evaluation.report.document import Table
from timl.maps import PointsMap, from_points
from timl.maps.drawing.legend import CLASS_COLOURS
from timl.maps.from_points import shown_points
from timl.meta import unlearned_kernel
from timl.nn import DeepKernel
from timl.normalization import normalization_of
from typer.testing import CliRunner, Result

CLASSES = ["maize", "grapes", "<b>alfalfa & $x^2$</b>"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Scene whose table of points calls the labels crop, and one of them by a hostile name."""
    folder = tmp_path_factory.mktemp("scene")
    simulate(folder / "world", countries=4, samples=1000, seed=0)
    scene = simulate_scene(folder / "scene", folder / "world", size=96, points=40)
    table = pd.read_csv(scene.points)
    common = table["label"].value_counts().index[:3]
    table = table[table["label"].isin(common)]
    table["label"] = table["label"].map(dict(zip(common, CLASSES, strict=True)))
    table.rename(columns={"label": "crop"}).to_csv(scene.points, index=False)
    return scene


@pytest.fixture(scope="module")
def kernel(scene: Scene) -> DeepKernel:
    """Deep kernel that learned nothing: it takes a second."""
    data = CropHarvest(scene.folder.parent / "world")
    return unlearned_kernel(data.series(np.arange(len(data))), normalization_of(data))


@pytest.fixture(scope="module")
def points(scene: Scene, kernel: DeepKernel) -> OwnCropTypes:
    return own_points(scene.points, scene.export, like=kernel, classes=CLASSES, label_column="crop")


@pytest.fixture(scope="module")
def made(
    scene: Scene,
    kernel: DeepKernel,
    points: OwnCropTypes,
    tmp_path_factory: pytest.TempPathFactory,
) -> PointsMap:
    out = tmp_path_factory.mktemp("map")
    few = functools.partial(timl.learning_curve, sizes=[12], draws=1)  # all sizes take long
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(from_points, "learning_curve", few)
        return timl.map_points(
            kernel, points, scene.export, out, members=2, block_km=0.3, progress=False
        )


@pytest.fixture
def same_curve(made: PointsMap, monkeypatch: pytest.MonkeyPatch) -> None:
    """The learning curve of the map that was made: it takes most of the time."""
    monkeypatch.setattr(from_points, "learning_curve", lambda *given, **named: made.curve)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_map_is_that_of_the_steps_one_by_one(
    made: PointsMap, kernel: DeepKernel, points: OwnCropTypes, scene: Scene, tmp_path: Path
) -> None:
    classifier = timl.finetune(kernel, points)
    files = timl.predict_map(
        classifier,
        scene.export,
        tmp_path / "m.tif",
        ensemble=timl.finetune_ensemble(kernel, points, 2),
        progress=False,
    )
    with rasterio.open(files.map) as file, rasterio.open(made.files.map) as found:
        assert found.descriptions[:4] == ("probability", "class", "uncertainty", "unlike")
        np.testing.assert_array_equal(found.read(), file.read())
        sizes = np.bincount(found.read(2).astype(int).ravel())
    assert made.threshold is None and made.files.classes is not None
    assert made.hectares == pytest.approx(dict(enumerate(sizes * scene.pixel_hectares)), rel=0.01)
    again = timl.nn.StrongClassifier.from_pretrained(made.report.parent / "classifier")
    x = torch.from_numpy(points.train_arrays()[0])
    torch.testing.assert_close(again(x), classifier(x), rtol=0, atol=0)


def test_resampled_labels_keep_every_class(kernel: DeepKernel, points: OwnCropTypes) -> None:
    from timl.meta.ensemble import _resampled

    for member in range(5):
        drawn = _resampled(points, 1, member)
        assert isinstance(drawn, OwnCropTypes) and drawn.counts == points.counts
        assert len(set(drawn.positions)) < len(points.positions)
        for number in range(len(CLASSES)):
            own = set(points.positions[points.codes == number])
            assert set(drawn.positions[drawn.codes == number]) <= own


def test_the_report_has_the_scores_of_the_classes(made: PointsMap, points: OwnCropTypes) -> None:
    text, folder = made.report.read_text("utf-8"), made.report.parent
    assert made.validation is not None and made.curve is not None
    assert f"{made.validation.scores['macro_f1'].value:.3f}" in text
    assert f"from {len(points.codes)} points of 3 classes" in text and "<b>" not in text
    sections = re.findall(r'<section id="([a-z-]+)"', text)
    assert sections == ["map", "accuracy", "more-points", "area", "origin"]
    for words in ("Confusion matrix", "producer's", "weighted mean", "macro F1"):
        assert words in text or words.replace("'", "&#39;") in text
    assert made.files.classes is not None and made.files.classes.name in text
    scores = pd.read_csv(folder / "scores.csv", index_col=["class", "score"])
    assert scores.loc[("all", "macro_f1"), "value"] == pytest.approx(
        made.validation.scores["macro_f1"].value
    )
    confusion = pd.read_csv(folder / "confusion.csv", index_col="class")
    assert confusion.to_numpy().sum() == len(points.codes)
    assert pd.read_csv(folder / "learning-curve.csv").columns[1] == "macro_f1"
    assert set(shown_points(points)["label"]) == set(CLASSES)


def test_confusion_within_an_fao_class_is_shown_apart(made: PointsMap) -> None:
    assert isinstance(made.validation, CropTypeValidation)
    kinds = ("cereals", "cereals", None)
    scores = dataclasses.replace(made.validation.class_scores, classification_labels=kinds)
    validation = dataclasses.replace(made.validation, class_scores=scores)
    table = class_blocks(validation, CLASS_COLOURS[:3])[-1]
    assert isinstance(table, Table) and "one group" in table.caption
    names = [row[0] for row in table.rows]
    assert names == ["cereals", "not known", "macro mean", "weighted mean"]
    assert not any(
        isinstance(block, Table) and block.caption.startswith("FAO")
        for block in class_blocks(made.validation, CLASS_COLOURS[:3])
    )  # three classes are of three there


def test_pictures_of_scores_have_the_colours_of_the_map() -> None:
    from timl.evaluation.report.drawings import class_bars, confusion

    for count in (2, 32):
        names = [f"class {number} of a name that is very long indeed" for number in range(count)]
        colours = CLASS_COLOURS[:count]
        score = [(0.5, 0.4, 0.7), (float("nan"), float("nan"), float("nan"))] * (count // 2)
        counts = np.eye(count, dtype=np.int64)
        counts[0, 0] = 0
        for drawing in (
            class_bars(names, {"F1": score, "IoU": score}, colours),
            confusion(names, counts, colours),
        ):
            found = drawing.decode().lower()
            assert all(colour.lower() in found for colour in colours[:: count - 1])


def test_stated_shares_are_those_of_calibrated_logits(
    made: PointsMap,
    kernel: DeepKernel,
    points: OwnCropTypes,
    scene: Scene,
    same_curve: None,
    tmp_path: Path,
) -> None:
    shares = dict(zip(CLASSES, (0.7, 0.2, 0.1), strict=True))
    stated = timl.map_points(
        kernel, points, scene.export, tmp_path, members=0, block_km=0.3, prevalence=shares,
        class_probabilities=False, progress=False,
    )  # fmt: skip
    assert made.validation is not None
    calibration = made.validation.calibrate()
    with rasterio.open(made.files.map) as file:
        given = file.read(list(range(5, 8))).astype(np.float64)
    assert not isinstance(calibration.intercept, float)
    even = given**calibration.slope * np.exp(calibration.intercept)[:, None, None]
    expected = even * np.array(list(shares.values()))[:, None, None]
    expected /= expected.sum(axis=0)
    with rasterio.open(stated.files.map) as file:
        assert file.descriptions == ("probability", "class", "unlike")
        np.testing.assert_allclose(file.read(1), expected.max(axis=0), atol=1e-4)


def test_classes_that_cannot_be_scored_or_shown_say_so(
    kernel: DeepKernel, points: OwnCropTypes, scene: Scene, tmp_path: Path
) -> None:
    lone = points.with_samples((points.codes != 2) | (np.cumsum(points.codes == 2) == 1))
    with pytest.warns(UserWarning, match="cannot be divided, .* give at least 2 of each"):
        made = timl.map_points(kernel, lone, scene.export, tmp_path, members=0, progress=False)  # type: ignore[arg-type]
    assert made.validation is None
    assert "No accuracy could be measured" in made.report.read_text("utf-8")
    cases: list[tuple[dict[str, object], str]] = [
        ({"threshold": 0.4}, "threshold is 0.4, and the points are of the classes maize"),
        ({"prevalence": 0.4}, "give a share of each, by name"),
        ({"prevalence": {"maize": 1.0}}, "prevalence is of maize: give the shares of"),
    ]
    for given, message in cases:
        with pytest.raises(ValueError, match=message):
            timl.map_points(kernel, points, scene.export, tmp_path / "none", **given)  # type: ignore[arg-type]


# --- the commands --------------------------------------------------------------------------------


def test_the_command_maps_all_classes_of_a_column(
    made: PointsMap, kernel: DeepKernel, scene: Scene, same_curve: None, tmp_path: Path
) -> None:
    kernel.save_pretrained(tmp_path / "kernel")
    done = run(
        "map", "--points", scene.points, "--exports", scene.export, "--model", tmp_path / "kernel",
        "--classes", ",".join(CLASSES), "--label-column", "crop", "--block-km", 0.3,
        "--members", 2, "--quiet", "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "CropTypeValidation(3 classes: overall accuracy" in done.output
    with rasterio.open(tmp_path / "out" / "map.tif") as file, rasterio.open(made.files.map) as e:
        np.testing.assert_array_equal(file.read(), e.read())


@pytest.mark.parametrize("several", [False, True])
def test_a_model_is_fine_tuned_on_points_for_the_map(
    made: PointsMap, kernel: DeepKernel, scene: Scene, tmp_path: Path, several: bool
) -> None:
    kernel.save_pretrained(tmp_path / "kernel")
    options = ["--classes", "all"] if several else ["--target", "maize", "--class", "cereals"]
    start = ["finetune", "--model", tmp_path / "kernel", "--points", scene.points]
    done = run(
        *start, "--exports", scene.export, "--label-column", "crop", *options,
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert f"timl map --model {tmp_path / 'out'}" in done.output.replace("\n", "")
    task = own_points(
        scene.points, scene.export, like=kernel, label_column="crop",
        **({"classes": "all"} if several else
           {"target_label": "maize", "classification_label": "cereals"}),
    )  # type: ignore[call-overload]  # fmt: skip
    expected, found = timl.finetune(kernel, task), timl.nn.load_pretrained(tmp_path / "out")
    x = torch.from_numpy(task.train_arrays()[0])
    torch.testing.assert_close(found(x), expected(x), rtol=0, atol=0)
    mapped = run(
        "map", "--model", tmp_path / "out", "--exports", scene.export, "--out", tmp_path / "map",
        "--quiet",
    )  # fmt: skip
    assert mapped.exit_code == 0, mapped.output


def test_places_kept_for_the_test_are_scored(
    kernel: DeepKernel, scene: Scene, tmp_path: Path
) -> None:
    kernel.save_pretrained(tmp_path / "kernel")
    table = pd.read_csv(scene.points)
    table["is_test"] = np.arange(len(table)) % 3 == 0
    table.to_csv(tmp_path / "points.csv", index=False)
    done = run(
        "finetune", "--model", tmp_path / "kernel", "--points", tmp_path / "points.csv",
        "--exports", scene.export, "--label-column", "crop", "--classes", "all",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "ClassScores(3 classes: overall accuracy" in done.output


def test_options_that_do_not_belong_together_are_refused(
    made: PointsMap, kernel: DeepKernel, scene: Scene, tmp_path: Path
) -> None:
    kernel.save_pretrained(tmp_path / "kernel")
    model = ["--model", tmp_path / "kernel", "--out", tmp_path / "o"]
    points, exports = ["--points", scene.points], ["--exports", scene.export]
    own = [*points, *exports, "--label-column", "crop"]
    classifier = ["--model", made.report.parent / "classifier", "--out", tmp_path / "o"]
    cases = [
        (["map", *model, *own, "--classes", "all", "--target", "maize"],
         "--target belong to a map of one target: leave out --classes"),
        (["map", *model, *own, "--classes", "maize,rye"], "--classes is ['maize', 'rye']"),
        (["map", *model, *own, "--classes", "all", "--threshold", 0.3], "--threshold is 0.3"),
        (["map", *model, *own, "--classes", "all", "--prevalence", 0.3], "give a share of each"),
        (["map", *model, *own, "--prevalence", "maize=.5,grapes=.5"],
         "give the share of the positive class alone"),
        (["map", *classifier, *exports, "--label-column", "crop"], "belong to --points"),
        (["finetune", *model], "--benchmark or --data is missing: give both"),
        (["finetune", *model, "--data", tmp_path], "--benchmark or --data is missing"),
        (["finetune", *model, "--classes", "all"], "--classes belong to --points"),
        (["finetune", *model, *points], "give the --exports that hold their series"),
        (["finetune", *model, *own, "--benchmark", "Kenya"], "--benchmark is given too"),
        (["finetune", *classifier, *own], "an adapted classifier: give a meta-trained model"),
    ]  # fmt: skip
    for arguments, message in cases:
        done = run(*arguments)
        assert done.exit_code == 2, (message, done.output)
        assert message in " ".join(done.output.split()), done.output
        assert not (tmp_path / "o").exists() or not any((tmp_path / "o").iterdir())
