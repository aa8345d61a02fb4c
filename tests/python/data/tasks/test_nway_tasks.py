"""N-way tasks and episodes: which classes, how they are drawn, what is withheld."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timl.data import (
    CLASSES,
    CropHarvest,
    NWaySampler,
    NWayTask,
    NWayTaskSet,
    meta_tasks,
    nway_tasks,
    nway_tasks_of,
)
from timl.data.regions.boxes import BBox


@pytest.fixture(scope="module")
def tasks(realcrops: CropHarvest) -> NWayTaskSet:
    return nway_tasks(realcrops, 3, k=4, query=3)


def labels_of(data: CropHarvest, positions: np.ndarray) -> set[str]:
    return set(data.labels.set_index("position")["label"].loc[positions])


def test_every_region_with_enough_classes_is_a_task(
    realcrops: CropHarvest, tasks: NWayTaskSet
) -> None:
    assert len(tasks) > 10 and "regions" in repr(tasks)
    for index, task in enumerate(tasks):
        assert len(task.classes) >= 3
        for name, positions in zip(task.classes, tasks.samples(index), strict=True):
            assert len(positions) >= 7 and labels_of(realcrops, positions) == {name}
    table = tasks.table()
    assert set(table["classification_label"]) <= set(CLASSES)
    assert (
        nway_tasks(realcrops, 3, non_crop_labels=False).table()["class"].isin(table["class"]).all()
    )
    by_class = nway_tasks(realcrops, 2, by="classification_label").table()
    assert set(by_class["class"]) <= set(CLASSES)
    assert (by_class["class"] == by_class["classification_label"]).all()


def test_what_benchmarks_ask_for_is_withheld(realcrops: CropHarvest, tasks: NWayTaskSet) -> None:
    everything = nway_tasks(realcrops, 3, k=4, query=3, withhold=False).table()
    kept = tasks.table()
    pairs = [set(zip(t["region"], t["class"], strict=True)) for t in (everything, kept)]
    assert pairs[1] < pairs[0]
    boxes = {
        task.bounding_box.name: task.bounding_box
        for task in nway_tasks(realcrops, 3, k=4, query=3, withhold=False)
    }
    for region, name in pairs[0]:
        held = any(b.withholds(boxes[region], name) for b in realcrops.benchmarks)
        assert not (held and (region, name) in pairs[1])


def test_tasks_of_two_classes_give_theirs(realcrops: CropHarvest) -> None:
    binary = meta_tasks(realcrops)
    allowed = {box.bounding_box.name: set() for box in binary}
    for index, task in enumerate(binary):
        for side in binary.samples(index):
            allowed[task.bounding_box.name] |= set(side.tolist())
    made = nway_tasks_of(binary, 3)
    assert len(made) > 5
    for index, task in enumerate(made):
        for positions in made.samples(index):
            assert set(positions.tolist()) <= allowed[task.bounding_box.name]


@settings(max_examples=15)
@given(
    k=st.integers(1, 4),
    query=st.integers(1, 3),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**32 - 1),
    pick=st.integers(0, 10**6),
)
def test_an_episode_has_so_many_of_each_class(
    realcrops: CropHarvest,
    tasks: NWayTaskSet,
    k: int,
    query: int,
    seed: int,
    epoch: int,
    pick: int,
) -> None:
    chosen = tasks.subset([pick % len(tasks)])
    sampler = NWaySampler(realcrops, chosen, k, query, seed=seed)
    one = sampler.batch([0], epoch)
    assert one.outputs == 3 and sampler.fresh_head
    assert one.support_x.shape == (1, 1, 3 * k, 12, 18)
    np.testing.assert_array_equal(one.support_y[0, 0], np.repeat(np.arange(3), k))
    np.testing.assert_array_equal(one.query_y[0], np.repeat(np.arange(3), query))
    owner = {
        realcrops.series(positions)[i].tobytes(): number
        for number, positions in enumerate(chosen.samples(0))
        for i in range(len(positions))
    }
    rows = [*one.support_x[0, 0], *one.query_x[0]]
    assert len({row.tobytes() for row in rows}) == len(rows)  # no sample twice
    drawn: dict[int, set[int]] = {}
    for row, label in zip(rows, [*one.support_y[0, 0], *one.query_y[0]], strict=True):
        drawn.setdefault(int(label), set()).add(owner[row.tobytes()])
    assert all(len(classes) == 1 for classes in drawn.values())
    numbers = [classes.pop() for _, classes in sorted(drawn.items())]
    assert len(set(numbers)) == 3
    np.testing.assert_array_equal(one.info[0], chosen[0].info_of(numbers))


def test_an_episode_depends_on_seed_epoch_and_task_alone(
    realcrops: CropHarvest, tasks: NWayTaskSet
) -> None:
    sampler = NWaySampler(realcrops, tasks, 4, 3, seed=5)
    batch = sampler.batch([7, 3, 9], epoch=4)
    subset = NWaySampler(realcrops, tasks.subset([3]), 4, 3, seed=5).batch([0], epoch=4)
    for name in ("info", "support_x", "query_x"):
        np.testing.assert_array_equal(getattr(subset, name)[0], getattr(batch, name)[1])
    other = sampler.batch([3], 5)
    assert (other.support_x != subset.support_x).any()
    classes = {tuple(sampler.batch([3], epoch).info[0]) for epoch in range(12)}
    assert len(classes) > 1 or len(tasks[3].classes) == 3  # drawn anew


def test_the_information_is_the_mean_of_the_classes() -> None:
    box = BBox(0, 1, 0, 1, "here")
    task = NWayTask(box, ("maize", "wheat", "potato"), ("cereals", "cereals", "root_tuber"))
    cereals, tuber = 3 + CLASSES.index("cereals"), 3 + CLASSES.index("root_tuber")
    assert task.info[[cereals, tuber]] == pytest.approx([2 / 3, 1 / 3])
    assert task.info_of([0, 2])[[cereals, tuber]] == pytest.approx([0.5, 0.5])
    assert task.info.sum() - task.info[:3].sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ways": 1}, "ways is 1"),
        ({"k": 0}, "k is 0"),
        ({"query": 0}, "query is 0"),
        ({"by": "colour"}, "by is 'colour'"),
        ({"ways": 40}, "no region has 40 classes of 18 samples"),
    ],
)
def test_what_cannot_be_asked_for(
    realcrops: CropHarvest, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        nway_tasks(realcrops, **arguments)


def test_too_small_tasks_and_wrong_names_are_refused(
    realcrops: CropHarvest, tasks: NWayTaskSet
) -> None:
    with pytest.raises(ValueError, match="need 18: make the tasks with the same sizes"):
        NWaySampler(realcrops, tasks)
    with pytest.raises(ValueError, match="classes is"):
        NWayTask(BBox(0, 1, 0, 1, "here"), ("maize", "maize"), ("cereals", "cereals"))
    with pytest.raises(ValueError, match="ways is 99"):
        NWayTaskSet(realcrops, tasks.tasks, tasks.class_samples, tasks.numbers, 99)
