"""CropHarvest's rules, and the tasks they make of the real data set."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from timl.data import BBox, CropHarvest, Task, meta_tasks
from timl.data.tasks.task import Balance, positives_and_negatives, training_rows

BOX = BBox(0, 1, 10, 11, "here")


def rows(*samples: tuple[str | None, bool], **columns: object) -> pd.DataFrame:
    """One sample per (label, is_crop), inside the box; position = row number."""
    frame = pd.DataFrame(samples, columns=["label", "is_crop"])
    frame = frame.assign(lat=0.5, lon=10.5, is_test=False, position=range(len(frame)))
    return frame.assign(**columns)


def divide(
    frame: pd.DataFrame, target: str, balance: Balance = False
) -> tuple[list[int], list[int]]:
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


def other_crops_and_non_crops(others: int, non_crops: int) -> pd.DataFrame:
    """One maize, then so many wheat and so many water."""
    return rows(("maize", True), *[("wheat", True)] * others, *[("water", False)] * non_crops)


@pytest.mark.parametrize(
    ("others", "non_crops", "repeats"),
    [(3, 20, 7), (3, 18, 6), (20, 3, 1), (4, 4, 1), (5, 0, 1), (0, 5, 1)],
)
def test_balancing_repeats_other_crops_to_at_least_as_many_as_non_crops(
    others: int, non_crops: int, repeats: int
) -> None:
    frame = other_crops_and_non_crops(others, non_crops)
    positives, negatives = divide(frame, "maize", balance=True)
    assert positives == [0]
    wheat = list(range(1, others + 1))
    assert negatives == wheat * repeats + list(range(others + 1, others + non_crops + 1))
    assert sorted(set(negatives)) == divide(frame, "maize", balance=False)[1]


# The first of what the shuffle of cropharvest 0.2 to 0.7 makes of 0 .. n - 1 with its seed 42.
@pytest.mark.parametrize(
    ("non_crops", "kept"),
    [
        (20, [2, 19, 0, 1, 3, 4]),
        (100, [58, 42, 57, 43, 56, 44]),
        (43, [1, 0, 2, 3, 4, 5]),
        (6, None),
        (0, None),
    ],
)
def test_cutting_keeps_as_many_non_crops_as_other_crops(
    non_crops: int, kept: list[int] | None
) -> None:
    frame = other_crops_and_non_crops(6, non_crops)
    negatives = divide(frame, "maize", balance="cut")[1]
    assert negatives[:6] == [1, 2, 3, 4, 5, 6]
    drawn = [position - 7 for position in negatives[6:]]
    assert sorted(drawn) == list(range(non_crops)) if kept is None else drawn == kept


def test_only_a_crops_negatives_are_balanced() -> None:
    for target in ("crop", "forest"):
        for balance in (True, "cut"):
            assert divide(MIXED, target, balance) == divide(MIXED, target)
    with pytest.raises(ValueError, match="balance_negative_crops is 'yes'"):
        Task(balance_negative_crops="yes")  # type: ignore[arg-type]


def test_samples_without_a_series_count_for_the_balance_and_are_then_dropped() -> None:
    frame = rows(("maize", True), ("wheat", True), ("wheat", True), *[("water", False)] * 4)
    frame["position"] = [0, -1, 5, 1, 2, 3, -1]
    assert divide(frame, "maize", balance=True)[1] == [5, 5, 1, 2, 3]
    assert len(divide(frame, "maize", balance="cut")[1]) in (2, 3)


def test_externally_contributed_labels_are_used_unless_told_otherwise() -> None:
    frame = rows(("maize", True), ("wheat", True), externally_contributed_dataset=[False, True])
    assert training_rows(frame, BOX).index.tolist() == [0, 1]
    assert training_rows(frame, BOX, externally_contributed=False).index.tolist() == [0]
    older = frame.drop(columns="externally_contributed_dataset")
    assert training_rows(older, BOX, externally_contributed=False).index.tolist() == [0, 1]


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
    columns = ["region", "label", "classification_label", "positives", "negatives"]
    assert set(table[columns].itertuples(index=False, name=None)) == expected
    assert (table["k"] == table[["positives", "negatives"]].min(axis=1)).all()
    assert (table["repeated_negatives"] == table["negatives"]).all()
    for positives, negatives in zip(tasks.positives, tasks.negatives, strict=True):
        both = np.concatenate([positives, negatives])
        assert len(np.unique(both)) == len(both)
    everything = meta_tasks(realcrops, withhold=False)
    others = [task for task in everything if task.classification_label == "non_crop"]
    assert len(others) == len(everything) - 111 > 0


def test_balanced_tasks_tell_unique_from_repeated_negatives(realcrops: CropHarvest) -> None:
    plain, repeated, cut = (
        meta_tasks(realcrops, withhold=False, balance_negative_crops=balance).table()
        for balance in (False, True, "cut")
    )
    # Kenya's maize: 59 other crops, 14 non-crops; Corsica's citrus: 170 and 269.
    expected = {
        ("Kenya", "maize"): [(73, 73), (73, 73), (73, 73)],
        ("France-Corsica", "citrus"): [(439, 439), (439, 609), (340, 340)],
    }
    for key, counts in expected.items():
        for table, count in zip((plain, repeated, cut), counts, strict=True):
            row = table.set_index(["region", "label"]).loc[key]
            assert (row["negatives"], row["repeated_negatives"]) == count


def test_a_history_tells_which_tasks_were_forgotten(realcrops: CropHarvest) -> None:
    @dataclass
    class History:
        task_ids: list[str]
        forgotten: np.ndarray

    tasks = meta_tasks(realcrops)[:4]
    history = History([tasks[2].id, tasks[0].id, "elsewhere_crop"], np.array([17, -1, 3]))
    forgotten = tasks.table(history)["forgotten"]
    assert forgotten[[0, 2]].tolist() == [False, True]
    assert forgotten[[1, 3]].isna().all()
    assert "forgotten" not in tasks.table()


def test_tables_select_tasks(realcrops: CropHarvest) -> None:
    tasks = realcrops.tasks(withhold=False)
    chosen = tasks.subset(tasks.table().query("classification_label == 'cereals'").index)
    assert {task.classification_label for task in chosen} == {"cereals"}
    assert len(chosen) < len(tasks)


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
