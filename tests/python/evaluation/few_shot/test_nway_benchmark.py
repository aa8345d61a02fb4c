"""The N-way benchmark: divisions in space of all classes, rows, resuming, tables."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timl
from few_shot_boxes import BOXES
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier
from timl.cli import app
from timl.data import CropHarvest
from timl.data.regions.splits import split_classes_in_space, split_in_space
from timl.evaluation.few_shot import NWAY_ROWS, FewShotFold, few_shot_folds, nway_benchmark
from timl.evaluation.few_shot.nway_tasks import NWayFewShotTask, nway_regions
from timl.evaluation.report import write_few_shot_report
from timl.evaluation.rows import EstimatorRow, find_rows
from typer.testing import CliRunner

NAMES = ("maize", "wheat", "potato", "grapes", "soybean")
KINDS = ("cereals", "cereals", "root_tuber", "fruits_nuts", "oilseeds")
OPTIONS: dict[str, Any] = {
    "regions": BOXES, "workers": 1, "progress": False, "budgets": (5, 25, None), "epochs": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> CropHarvest:
    """Four regions of three surveys with five classes, of which the last is rare and in one place.

    Class c is larger in band c.
    """
    rng = np.random.default_rng(0)
    count = 1200
    region, kind = np.repeat(np.arange(4), count // 4), np.arange(count) % 20 // 4
    kind[(kind == 4) & (np.arange(count) % 5 > 1)] = 0
    lat = rng.uniform(0, 0.9, count)
    lat[kind == 4] = 0.5
    lon = np.where(kind == 4, 0.5, rng.uniform(0, 0.9, count))
    series = rng.normal(size=(count, 12, 18)).astype(np.float32)
    series[np.arange(count), :, kind] += 2
    labels = pd.DataFrame(
        {
            "dataset": np.array(["first", "second", "third", "third"])[region],
            "index": np.arange(count),
            "lat": lat + np.array([0, 10, 20, 20.5])[region],
            "lon": lon,
            "label": np.array(NAMES)[kind],
            "classification_label": np.array(KINDS)[kind],
            "is_crop": 1,
            "is_test": 0,
        }
    )
    labels.loc[::10, ["label", "classification_label"]] = "pasture", None
    labels.loc[::10, "is_crop"] = 0
    root = tmp_path_factory.mktemp("n-way")
    (root / "labels.geojson").write_text(labels.to_json())
    statistics = {"mean": np.zeros(18), "std": np.ones(18)}
    return CropHarvest.from_series(labels, series, **statistics, ndvi="true", root=root)


@pytest.fixture(scope="module")
def folds(data: CropHarvest) -> list[FewShotFold]:
    return few_shot_folds(data, BOXES)


def drawn(folds: list[FewShotFold], ways: int | None = None) -> list[NWayFewShotTask]:
    found = [r.draw(0) for fold in folds for r in nway_regions(fold, ways, "label", 1)]
    assert found and all(task is not None for task in found)
    return [task for task in found if task is not None]


def test_every_class_is_on_both_sides_and_they_are_apart(folds: list[FewShotFold]) -> None:
    places = folds[0].tasks.data.labels.set_index("position")[["lat", "lon"]]
    for task in drawn(folds):
        assert {"maize", "wheat"} < set(task.task.classes)
        if task.task.bounding_box.name in ("R0", "R10"):  # there it is in one place
            assert "soybean" not in task.task.classes
        for train, test in zip(task.train, task.test, strict=True):
            assert min(len(train), len(test)) >= 10
        one, other = (
            places.loc[np.concatenate(part)].to_numpy() for part in (task.train, task.test)
        )
        assert 111.19 * np.sqrt(((one[:, None] - other[None]) ** 2).sum(-1)).min() >= 1.85
        assert task.distance_km >= 2


def test_budgets_are_nested_and_rare_classes_give_all(folds: list[FewShotFold]) -> None:
    for task in drawn(folds):
        sizes = [len(train) for train in task.train]
        assert task.budgets([5, max(sizes) + 1, None]) == [5, None]
        five, ten = task.with_labels(5), task.with_labels(10)
        assert all(set(a) < set(b) for a, b in zip(five.train, ten.train, strict=True))
        most = task.with_labels(max(sizes))
        assert [len(train) for train in most.train] == sizes
        assert task.with_labels(None) is task


def test_two_classes_are_divided_as_positives_and_negatives() -> None:
    rng = np.random.default_rng(1)
    lat, lon, y = rng.uniform(0, 1, 200), rng.uniform(0, 1, 200), np.arange(200) % 2
    binary = split_in_space(lat, lon, y == 0, least_train=10)
    classes = split_classes_in_space(lat, lon, y)
    assert binary is not None and classes is not None
    np.testing.assert_array_equal(binary.test, classes.test)
    np.testing.assert_array_equal(binary.train, classes.train)


def test_so_many_ways_are_drawn_anew(folds: list[FewShotFold]) -> None:
    regions = [r for fold in folds for r in nway_regions(fold, 3, "label", 3)]
    chosen = {region.draw(n).task.classes for region in regions for n in range(3)}  # type: ignore[union-attr]
    assert {len(classes) for classes in chosen} == {3} and len(chosen) > 1


def test_meta_trained_rows_see_nothing_of_the_held_out_fold(folds: list[FewShotFold]) -> None:
    from timl.data import nway_tasks_of

    for fold in folds:
        trained = nway_tasks_of(fold.training, 3, k=5, query=5)
        positions = {int(p) for i in range(len(trained)) for s in trained.samples(i) for p in s}
        held = {
            int(p) for task in drawn([fold]) for part in (task.train, task.test)
            for s in part for p in s
        }  # fmt: skip
        assert not positions & held


@pytest.mark.parametrize(
    "name", ["random-forest", "logistic-regression-described", "gradient-boosting",
             "nearest-class-mean", "extra-trees-described", "strong-without-learning"]
)  # fmt: skip
def test_rows_learn_from_ten_labels(folds: list[FewShotFold], name: str, tmp_path: Path) -> None:
    from timl.evaluation.rows import Settings

    task = drawn(folds)[0].with_labels(10)
    ready = NWAY_ROWS[name].prepare(Settings(1, 1, 0), folds[0].training, tmp_path, False)
    predicted = ready.adapt(task, 0)  # type: ignore[arg-type]
    assert np.mean(predicted == task.test_arrays[1]) > 1.5 / len(task.train)


def test_estimators_that_others_bring_are_rows(data: CropHarvest, tmp_path: Path) -> None:
    rows = [
        "nearest-class-mean",
        KNeighborsClassifier(3),
        EstimatorRow(name="tree", title="Tree", estimator=DecisionTreeClassifier(), balanced=True),
    ]
    options = {**OPTIONS, "budgets": (10,)}
    result = nway_benchmark(data, tmp_path, rows, **options)
    means = result.table().set_index("row")["mean"]
    assert list(means.index) == ["nearest-class-mean", "k-neighbors-classifier", "tree"]
    assert (means > 0.4).all()
    assert result.provenance["rows"]["tree"]["balanced"] is True
    page = write_few_shot_report(result, tmp_path).read_text("utf-8")
    assert "Macro F1 of Tree from 10 labels" in page
    assert "wheat" in page and "AUC ROC" not in page
    with pytest.raises(ValueError, match="row k-neighbors-classifier"):
        nway_benchmark(data, tmp_path, ["maml", KNeighborsClassifier(5)], **options)


def test_the_command(data: CropHarvest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timl, "CropHarvest", lambda folder: data)
    boxes, out = tmp_path / "boxes.json", tmp_path / "out"
    boxes.write_text(json.dumps([dataclasses.asdict(box) for box in BOXES]))
    words = f"benchmark --data world --out {out} --regions {boxes} --ways 3 --workers 1 --quiet"
    words += " --by classification_label --rows nearest-class-mean,sklearn.tree:ExtraTreeClassifier"
    done = CliRunner().invoke(app, [*words.split(), "--compare-with", "nearest-class-mean"])
    assert done.exit_code == 0, done.output
    assert "## macro_f1" in done.output and (out / "n-way.html").is_file()
    settings = json.loads((out / "n-way.json").read_text("utf-8"))["settings"]
    assert (settings["ways"], settings["by"]) == (3, "classification_label")


def test_the_same_for_any_workers_and_after_a_kill(data: CropHarvest, tmp_path: Path) -> None:
    row = dataclasses.replace(NWAY_ROWS["timl"], ways=3, steps=3)
    rows = ["nearest-class-mean", row]
    options = {**OPTIONS, "scored": ["R0"], "budgets": (5, None)}
    one = nway_benchmark(data, tmp_path / "one", rows, **options)
    two = nway_benchmark(data, tmp_path / "two", rows, **{**options, "workers": 2})
    times = ["seconds", "training_seconds"]
    frame = one.frame().drop(columns=times)
    pd.testing.assert_frame_equal(frame, two.frame().drop(columns=times))
    cells = tmp_path / "one" / "cells.jsonl"
    content = cells.read_bytes()
    cells.write_bytes(content[: len(content) * 2 // 3])
    again = nway_benchmark(data, tmp_path / "one", rows, **options)
    pd.testing.assert_frame_equal(frame, again.frame().drop(columns=times))
    assert again.cells[0] == one.cells[0]
    scores = frame[["macro_f1", "accuracy", "balanced_accuracy", "mean_iou"]]
    assert ((scores >= 0) & (scores <= 1)).all(axis=None)
    tests = one.compare("timl")
    assert list(tests["other"]) == ["nearest-class-mean"] * len(one.budgets)
    assert "Nearest class mean" in (tmp_path / "one" / "n-way.md").read_text("utf-8")
    assert len(one.plot().axes[0].lines) == 2
    with pytest.raises(ValueError, match="score is 'auc_roc': choose of macro_f1"):
        one.table("auc_roc")
    with pytest.raises(ValueError, match="ways = 'all'"):
        nway_benchmark(data, tmp_path / "one", rows, ways=3, **options)


def test_what_cannot_be_asked_for(data: CropHarvest, tmp_path: Path) -> None:
    for options, message in (
        ({"ways": 1}, "ways is 1"),
        ({"ways": 12}, "no held-out region has 12 classes"),
        ({"rows": ["colour"]}, "rows holds 'colour': choose of random-forest"),
        ({"rows": []}, "no row is given"),
        ({"rows": ["maml", "maml"]}, "several rows are called maml"),
        ({"rows": [find_rows(["maml"])[0]]}, "row 'maml' is a MetaTrainedRow, which tells two"),
        ({"epochs": 0}, "epochs is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            nway_benchmark(data, tmp_path, **{**OPTIONS, **options})


def test_on_a_gpu_the_scores_are_those_of_the_cpu(
    data: CropHarvest, tmp_path: Path, gpu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("timl.meta.strong.forest.TREES", 3)
    options = {**OPTIONS, "budgets": (5,), "epochs": 1, "scored": ["R0"]}
    strong, brief = "strong-without-learning", dataclasses.replace(NWAY_ROWS["timl"], steps=2)
    for benchmark, rows in ((nway_benchmark, [brief]), (timl.few_shot_benchmark, [strong])):
        folder = tmp_path / benchmark.__name__
        here = benchmark(data, folder / "cpu", rows, **options)
        there = benchmark(data, folder / "gpu", rows, **options, device=gpu)
        names = ["row", "task", "labels", *(set(vars(here.cells[0])) & {"accuracy", "auc_roc"})]
        one, other = (pd.DataFrame(map(vars, result.cells))[names] for result in (here, there))
        pd.testing.assert_frame_equal(one, other, atol=0.02)
        assert there.provenance["settings"]["device"] == "cuda"
