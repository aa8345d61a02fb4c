"""CropHarvest's rules, and the tasks they make of the real data set."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from timl.data import BBox, CropHarvest, Task, meta_tasks
from timl.data.tasks import positives_and_negatives, training_rows

BOX = BBox(0, 1, 10, 11, "here")


def rows(*samples: tuple[str | None, bool], **columns: object) -> pd.DataFrame:
    """One sample per (label, is_crop), inside the box; position = row number."""
    frame = pd.DataFrame(samples, columns=["label", "is_crop"])
    frame = frame.assign(lat=0.5, lon=10.5, is_test=False, position=range(len(frame)))
    return frame.assign(**columns)


def divide(frame: pd.DataFrame, target: str, balance: bool = False) -> tuple[list[int], list[int]]:
    positives, negatives = positives_and_negatives(frame, Task(BOX, target, balance))
    return positives.tolist(), negatives.tolist()


MIXED = rows(
    ("maize", True),
    ("wheat", True),
    (None, True),
    ("forest", False),
    (None, False),
    ("maize", True),
    ("water", False),
)


def test_crop_versus_non_crop_takes_everything() -> None:
    assert divide(MIXED, "crop") == ([0, 1, 2, 5], [3, 4, 6])


def test_a_crop_stands_against_other_named_crops_and_all_non_crops() -> None:
    assert divide(MIXED, "maize") == ([0, 5], [1, 3, 4, 6])


def test_a_non_crop_stands_against_all_other_names_and_crops_without_one() -> None:
    assert divide(MIXED, "forest") == ([3], [0, 1, 2, 5, 6])


def test_an_unknown_label_has_no_positives() -> None:
    assert divide(MIXED, "rice")[0] == []


def test_balanced_non_crops_are_as_many_as_other_crops_and_always_the_same() -> None:
    frame = rows(("maize", True), *[("wheat", True)] * 3, *[("water", False)] * 20)
    positives, negatives = divide(frame, "maize", balance=True)
    assert positives == [0]
    assert negatives[:3] == [1, 2, 3]
    # What random.seed(42) and random.shuffle make of 0 .. 19, as in the cropharvest package.
    assert [position - 4 for position in negatives[3:]] == [19, 5, 14]
    assert divide(frame, "maize", balance=True) == (positives, negatives)
    # fewer non-crops than other crops: all of them stay
    assert sorted(divide(MIXED.iloc[:4], "maize", balance=True)[1]) == [1, 3]


def test_samples_without_a_series_are_dropped_after_balancing() -> None:
    frame = rows(("maize", True), ("wheat", True), ("wheat", True), *[("water", False)] * 2)
    frame["position"] = [0, -1, -1, 1, 2]
    assert sorted(divide(frame, "maize", balance=True)[1]) == [1, 2]


def test_test_rows_and_places_outside_are_no_training_rows() -> None:
    frame = rows(*[("maize", True)] * 4, is_test=[False, True, False, False])
    frame["lat"] = [0.0, 0.5, 1.0, 1.01]
    assert training_rows(frame, BOX).index.tolist() == [0, 2]


def readme_table(shared_data: Path) -> set[tuple[str, str, str, int, int]]:
    text = (shared_data / "realcrops" / "README.md").read_text().split("## Training tasks")[1]
    pattern = r"^\| ([\w-]+) \| ([^|]+) \| (\w+) \| (\d+) \| (\d+) \| [\w-]* ?\|$"
    found = re.findall(pattern, text, flags=re.MULTILINE)
    return {
        (region, "crop" if label == "crop vs non-crop" else label, kind, int(p), int(n))
        for region, label, kind, p, n in found
    }


def test_all_tasks_of_the_real_data_set_equal_its_table(
    shared_data: Path, realcrops: CropHarvest
) -> None:
    expected = readme_table(shared_data)
    tasks = meta_tasks(realcrops, withhold=False, non_crop_labels=False)
    table = tasks.table()
    assert len(expected) == len(table) == 111
    assert set(table.itertuples(index=False, name=None)) == expected
    for positives, negatives in zip(tasks.positives, tasks.negatives, strict=True):
        both = np.concatenate([positives, negatives])
        assert len(np.unique(both)) == len(both)
    everything = meta_tasks(realcrops, withhold=False)
    others = [task for task in everything if task.classification_label == "non_crop"]
    assert len(others) == len(everything) - 111 > 0


def test_benchmarks_are_withheld_by_default(realcrops: CropHarvest) -> None:
    withheld = {(b.task.bounding_box.name, b.task.target_label) for b in realcrops.benchmarks}
    kept = {(task.bounding_box.name, task.target_label) for task in meta_tasks(realcrops)}
    everything = meta_tasks(realcrops, withhold=False)
    assert len(withheld) == 3
    assert kept == {(t.bounding_box.name, t.target_label) for t in everything} - withheld


def test_a_split_is_a_partition_that_only_the_seed_decides(realcrops: CropHarvest) -> None:
    tasks = meta_tasks(realcrops)
    training, validation = tasks.split(0.1, seed=3)
    assert len(validation) == round(len(tasks) / 10)
    assert sorted([*training.numbers, *validation.numbers]) == list(range(len(tasks)))
    again = tasks.split(0.1, seed=3)
    assert [task.id for task in again[1]] == [task.id for task in validation]
    assert any(
        (tasks.split(0.1, seed=seed)[1].numbers != validation.numbers).any() for seed in (4, 5)
    )
    np.testing.assert_array_equal(validation.info, tasks.info[validation.numbers])
    number = int(validation.numbers[0])
    np.testing.assert_array_equal(validation.positives[0], tasks.positives[number])
    assert [task.id for task in tasks[2:5]] == [tasks[i].id for i in (2, 3, 4)]


def test_larger_episodes_leave_fewer_tasks(realcrops: CropHarvest) -> None:
    tasks = meta_tasks(realcrops, k=20, query=10, inner_steps=3)
    smallest = tasks.table()[["positives", "negatives"]].min().min()
    assert smallest >= 65
    assert 0 < len(tasks) < len(meta_tasks(realcrops))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"query": 7}, "query is 7"),
        ({"inner_steps": 0}, "inner_steps is 0"),
        ({"regions": [BBox(-89, -88, 0, 1, "ice")]}, "no task has 14 positives"),
    ],
)
def test_wrong_sizes_are_refused(
    realcrops: CropHarvest, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        meta_tasks(realcrops, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fraction is 1"):
        meta_tasks(realcrops).split(1)
