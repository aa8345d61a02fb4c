"""The few-shot benchmark: nothing leaks, budgets are nested, and results repeat."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import timl
from few_shot_boxes import BOXES
from sklearn.tree import ExtraTreeClassifier
from timl.data import BBox, CropHarvest
from timl.evaluation.few_shot import (
    FewShotFold,
    few_shot_benchmark,
    few_shot_folds,
    split_at_random,
    split_in_space,
)
from timl.evaluation.few_shot.groups import fold_groups, neighbour_groups, origins
from timl.evaluation.report import write_few_shot_report
from timl.evaluation.rows import EstimatorRow, find_rows

SIMPLE = ["logistic-regression-cv", "gradient-boosting", "nearest-class-mean"]
POOLED = [
    "random-forest-pooled",
    "logistic-regression-pooled",
    "gradient-boosting-pooled",
    "nearest-class-mean-pooled",
]


@pytest.fixture(scope="module")
def real_folds(realcrops: CropHarvest) -> list[FewShotFold]:
    """Folds of real surveys, each a new country."""
    with pytest.warns(UserWarning, match="cannot be divided in space"):
        return few_shot_folds(realcrops, draws=1)


def test_districts_that_overlap_or_are_of_one_country_stay_together() -> None:
    boxes = [*BOXES, BBox(50, 51, 0, 1, "Brazil_1"), BBox(60, 61, 0, 1, "Brazil_2")]
    groups = neighbour_groups(boxes)
    assert groups == [[0], [1], [2, 3], [4, 5]]
    folds = fold_groups(groups, [1] * 6, 3, seed=0)
    assert sorted(map(len, folds)) == [2, 2, 2]
    assert sorted(i for fold in folds for i in fold) == list(range(6))


def test_no_sample_to_be_scored_has_a_sister_in_the_training(real_folds: list[FewShotFold]) -> None:
    # a sister: of the same survey, or in the same country
    known = origins(real_folds[0].tasks.data)
    assert len(real_folds) == 8 and sum(len(fold.tasks) for fold in real_folds) == 107
    for fold in real_folds:
        scored, trained = (
            np.unique(np.concatenate([*tasks.positives, *tasks.negatives]))
            for tasks in (fold.tasks, fold.training)
        )
        for names in (known.surveys, known.countries):
            assert not set(names[scored]) & set(names[trained]), fold
        assert fold.nearest_training_km > 90
        assert len(fold.training) > 70


def test_a_survey_of_one_country_is_of_it_at_the_border_too(realcrops: CropHarvest) -> None:
    known = origins(realcrops)
    assert set(known.countries[known.surveys == "aafc-canada"]) == {"Canada"}
    assert len(set(known.countries[known.surveys == "wc-global"])) > 20


def test_a_new_district_may_have_sisters_in_the_training(data: CropHarvest) -> None:
    folds = few_shot_folds(data, [*BOXES[:3], BBox(30, 31, 0, 1, "R30")], held_out="district")
    assert {fold.held_out for fold in folds} == {"district"}
    with pytest.raises(ValueError, match="held_out is 'continent': give 'country' or 'district'"):
        few_shot_folds(data, BOXES, held_out="continent")  # type: ignore[arg-type]


def test_no_sample_of_a_held_out_box_is_trained_on(
    data: CropHarvest, folds: list[FewShotFold]
) -> None:
    places = data.labels.set_index("position")[["lat", "lon"]]
    assert len(folds) == 3 and sum(len(fold.tasks) for fold in folds) >= 6
    for fold in folds:
        lat, lon = places.loc[
            np.concatenate([*fold.training.positives, *fold.training.negatives])
        ].T.to_numpy()
        held = [box for box in BOXES if box.name in fold.regions]
        assert held and not any(box.contains(lat, lon).any() for box in held)


def test_parts_are_apart_and_budgets_nested(folds: list[FewShotFold]) -> None:
    for fold in folds:
        for index in range(len(fold.tasks)):
            for draw in range(3):
                task = fold.draw(index, draw)
                trained = np.concatenate([task.positives, task.negatives])
                assert not np.isin(trained, task.test_positions).any()
                labels = fold.tasks.data.labels.set_index("position")
                a, b = (
                    labels.loc[part, ["lat", "lon"]].to_numpy()
                    for part in (trained, task.test_positions)
                )
                apart = 111.19 * np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1)).min()
                assert task.distance_km >= 2 and apart >= 1.85  # longitude is shorter at 20 degrees
                five, ten = task.with_labels(5), task.with_labels(10)
                assert set(five.positives) < set(ten.positives)
                assert set(five.negatives) < set(ten.negatives)
                loose = fold.draw(index, draw, spatial=False)
                assert len(loose.positives) == len(task.positives)
                assert len(loose.test.y) == len(task.test.y)


def test_samples_in_one_place_cannot_be_divided() -> None:
    here, positive = np.zeros(80), np.arange(80) % 2 == 0
    assert split_in_space(here, here, positive) is None
    apart = np.linspace(0, 5, 80)
    split = split_in_space(apart, here, positive)
    assert split is not None and split.distance_km >= 2
    loose = split_at_random(apart, here, positive, split)
    assert not np.isin(loose.train, loose.test).any()
    with pytest.raises(ValueError, match="block_km is 0"):
        split_in_space(apart, here, positive, block_km=0)


@pytest.mark.parametrize("name", [*SIMPLE, *POOLED])
def test_baselines_learn_from_ten_labels(
    folds: list[FewShotFold], name: str, tmp_path: Path
) -> None:
    settings = timl.evaluation.rows.Settings(1, 1, 0)
    prepared = find_rows([name])[0].prepare(settings, folds[0].training, tmp_path, False)
    task = folds[0].draw(0)
    scores = timl.evaluate(prepared.adapt(task.with_labels(5), 0), task)
    assert scores.auc_roc > 0.6


def test_the_same_seed_gives_the_same_for_any_workers_and_after_a_kill(
    data: CropHarvest, tmp_path: Path, dask_client: Any
) -> None:
    options: dict[str, Any] = {
        "draws": 1, "epochs": 1, "budgets": (5, None), "regions": BOXES,
        "random_splits": True, "progress": False,
    }  # fmt: skip
    tree = EstimatorRow(name="tree", title="Random tree", estimator=ExtraTreeClassifier())
    rows = [tree, "nearest-class-mean-pooled"]
    one = few_shot_benchmark(data, tmp_path / "one", rows, workers=1, **options)
    two = few_shot_benchmark(data, tmp_path / "two", rows, workers=2, **options)
    with joblib.parallel_config(backend="dask"):
        dask = few_shot_benchmark(data, tmp_path / "dask", rows, **options)
    assert [found.provenance["workers"] for found in (one, two, dask)] == [1, 2, 2]
    times = ["seconds", "training_seconds"]
    pd.testing.assert_frame_equal(one.frame().drop(columns=times), two.frame().drop(columns=times))
    pd.testing.assert_frame_equal(one.frame().drop(columns=times), dask.frame().drop(columns=times))
    cells = tmp_path / "one" / "cells.jsonl"
    content = cells.read_bytes()
    cells.write_bytes(content[: len(content) * 2 // 3])
    again = few_shot_benchmark(data, tmp_path / "one", rows, workers=1, **options)
    assert again.cells[0] == one.cells[0]  # kept, its seconds too
    pd.testing.assert_frame_equal(
        one.frame().drop(columns=times), again.frame().drop(columns=times)
    )
    table = again.table()
    assert set(table["labels"]) == {"5", "all"} and table["at_random"].notna().all()
    tests = again.compare("nearest-class-mean-pooled")
    assert list(tests["other"]) == ["tree"] * 2 and (tests["p_corrected"] <= 1).all()
    assert set(tests["regions"]) <= {3, 4} and set(tests["surveys"]) == {3}
    assert "Random tree" in again.to_markdown()
    assert len(again.plot().axes[0].lines) == 2
    page = write_few_shot_report(again, tmp_path / "one").read_text("utf-8")
    assert "Random divisions" in page and "a new country" in page and "data:image/svg" in page
    assert len(re.findall(r"p, surveys</th>", page)) == 2  # a table for each number of labels
    assert "<script" not in page and "http" not in page.split("<body>")[1].replace("http-equiv", "")
    harmful = dataclasses.replace(again, titles={**again.titles, "tree": "<script>alert(1)"})
    assert "<script" not in write_few_shot_report(harmful, tmp_path / "harmful").read_text("utf-8")
    alone = dataclasses.replace(
        again, titles={"tree": "Alone"}, cells=tuple(c for c in again.cells if c.row == "tree")
    )
    assert "one method only" in write_few_shot_report(alone, tmp_path / "alone").read_text("utf-8")
    with pytest.raises(ValueError, match="row is 'none'"):
        again.compare("none")
    cells.write_text("no cell\n")
    with pytest.raises(ValueError, match="line 1 is not a finished job"):
        few_shot_benchmark(data, tmp_path / "one", rows, workers=1, **options)


def test_the_time_is_estimated_by_a_short_trial_that_leaves_nothing(
    data: CropHarvest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("timl.evaluation.runner.experiment._FEW", 1)
    rows = ["nearest-class-mean", "strong"]
    options: dict[str, Any] = {
        "epochs": 1, "budgets": (5,), "regions": BOXES, "workers": 1, "scored": [BOXES[0].name],
    }  # fmt: skip
    settings = timl.evaluation.rows.Settings(1, 1, 0)
    small = [row.with_training_steps(settings, 5)[0] for row in find_rows(rows)]
    told = few_shot_benchmark(data, tmp_path / "told", small, **options, progress=True)
    shown = capsys.readouterr().err
    assert re.search(
        r"about (a minute|\d+ min) for \d+ jobs and 1 trainings in 1 process, by", shown
    )
    plain = few_shot_benchmark(data, tmp_path / "plain", small, **options, progress=False)
    times = ["seconds", "training_seconds"]
    pd.testing.assert_frame_equal(
        told.frame().drop(columns=times), plain.frame().drop(columns=times)
    )
    few_shot_benchmark(data, tmp_path / "told", small, **options, progress=True)
    assert "by a short trial" not in capsys.readouterr().err  # nothing is left to compute


def test_only_the_folds_of_some_regions_are_computed(data: CropHarvest, tmp_path: Path) -> None:
    rows = ["nearest-class-mean", "nearest-class-mean-pooled"]
    options: dict[str, Any] = {
        "epochs": 1, "budgets": (5,), "regions": BOXES, "workers": 1, "progress": False,
    }  # fmt: skip
    whole = few_shot_benchmark(data, tmp_path, rows, **options)
    last = whole.cells[-1]
    part = few_shot_benchmark(data, tmp_path, rows, scored=[last.region], **options)
    assert part.cells == tuple(cell for cell in whole.cells if cell.fold == last.fold)
    with pytest.raises(ValueError, match="no fold holds out France: give some of"):
        few_shot_benchmark(data, tmp_path, rows, scored=["France"], **options)


def test_what_cannot_be_asked_for(data: CropHarvest, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="folds is 1"):
        few_shot_folds(data, BOXES, 1)
    with pytest.raises(ValueError, match=r"budgets is \[0\]"):
        few_shot_benchmark(data, tmp_path, budgets=(0,))
    with pytest.raises(ValueError, match=r"none of .* tasks can be divided"):
        few_shot_folds(data, BOXES, distance_km=500)
