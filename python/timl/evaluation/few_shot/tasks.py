"""Folds of regions, and the few-shot tasks of a held-out fold."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from timl import random
from timl.data import BBox, BenchmarkTask, LabelledData, Task, TaskSet, TestInstance, meta_tasks
from timl.evaluation.few_shot.splits import (
    Split,
    derived_seed,
    region_folds,
    split_at_random,
    split_in_space,
)
from timl.random import Purpose


class FewShotTask(BenchmarkTask):
    """An evaluation task whose test samples are some of the region's own, apart from the others.

    Parameters
    ----------
    data
        The data set.
    task
        Region and label.
    train, test : pair of int64 arrays
        Positions of the positives and of the negatives in `CropHarvest.series`.
    seed
        Seed of the draws of fewer labels.
    distance_km
        The smallest distance of a training and a test sample.

    Attributes
    ----------
    test_positions : int64 array of shape [n]
        Positions of the test samples, positives first.
    """

    def __init__(
        self,
        data: LabelledData,
        task: Task,
        train: tuple[NDArray[np.int64], NDArray[np.int64]],
        test: tuple[NDArray[np.int64], NDArray[np.int64]],
        seed: int,
        distance_km: float,
    ) -> None:
        self.name, self.task, self.data, self.whole_region = task.id, task, data, True
        self.positives, self.negatives = train
        self.test_positions = np.concatenate(test)
        self._test_labels = np.repeat(np.array([1, 0], np.int8), [len(part) for part in test])
        self.seed = seed
        self.distance_km = distance_km

    @cached_property
    def test(self) -> TestInstance:
        """Test set of the task: the samples at `test_positions`, positives first."""
        places = _places(self.data)[self.test_positions]
        x = self.data.series(self.test_positions, normalize=self.task.normalize)
        return TestInstance(x, self._test_labels, places[:, 0], places[:, 1])

    def budgets(self, wanted: Sequence[int | None]) -> list[int | None]:
        """Return those numbers of labels per class that there are; None, all, always is."""
        rarer = min(len(self.positives), len(self.negatives))
        return [budget for budget in wanted if budget is None or budget <= rarer]

    def with_labels(self, budget: int | None) -> BenchmarkTask:
        """Return the task with so many labels per class; None: all. Draws are nested."""
        return self if budget is None else self.subset(2 * budget, self.seed)


@dataclass(frozen=True, eq=False)
class FewShotFold:
    """One held-out fold: what to train on, and the tasks to be scored."""

    number: int
    regions: tuple[str, ...]
    """Names of the held-out regions."""
    training: TaskSet
    """The other regions' tasks, without any sample that lies in a held-out box."""
    tasks: TaskSet
    """The held-out regions' tasks that can be divided in space."""
    left_out: dict[str, str]
    """Ids of the tasks that cannot, and why."""
    seed: int
    block_km: float
    distance_km: float
    least_test: int
    most_test: int

    def __repr__(self) -> str:
        return (
            f"FewShotFold({self.number}: {len(self.tasks)} tasks in {', '.join(self.regions)}; "
            f"{len(self.training)} tasks to train on)"
        )

    def draw(self, index: int, draw: int = 0, spatial: bool = True) -> FewShotTask:
        """Divide a task's samples into training and test parts.

        Parameters
        ----------
        index
            Number of the task in `tasks`.
        draw
            Each draw has a division of its own.
        spatial
            Apart in space; else at random, with parts of the same sizes.

        Raises
        ------
        ValueError
            If the samples cannot be divided in space in this draw (those below the `draws` of
            `few_shot_folds` can).
        """
        task = self.tasks.tasks[index]
        positives = self.tasks.positives[index]
        positions = np.concatenate([positives, np.unique(self.tasks.negatives[index])])
        positive = np.arange(len(positions)) < len(positives)
        lat, lon = _places(self.tasks.data)[positions].T
        seed = derived_seed(self.seed, task.id, draw)
        split = self._in_space(lat, lon, positive, seed)
        if split is None:
            raise ValueError(f"task {task.id!r} cannot be divided in space in draw {draw}")
        if not spatial:
            split = split_at_random(lat, lon, positive, split, seed=seed)
        train, test = (
            tuple(positions[part[positive[part] == side]] for side in (True, False))
            for part in (split.train, split.test)
        )
        tested = tuple(
            side[np.sort(self._kept(len(side), seed, number))] for number, side in enumerate(test)
        )
        return FewShotTask(
            self.tasks.data,
            task,
            (train[0], train[1]),
            (tested[0], tested[1]),
            seed,
            split.distance_km,
        )

    def _in_space(
        self,
        lat: NDArray[np.float64],
        lon: NDArray[np.float64],
        positive: NDArray[np.bool_],
        seed: int,
    ) -> Split | None:
        return split_in_space(
            lat,
            lon,
            positive,
            block_km=self.block_km,
            distance_km=self.distance_km,
            seed=seed,
            least_test=self.least_test,
        )

    def _kept(self, size: int, seed: int, number: int) -> NDArray[np.int64]:
        """Return which of so many test samples of a class are kept."""
        order = random.permutation(size, seed=seed, task=number, purpose=Purpose.TEST_SUBSET)
        return order[: self.most_test]

    def _divisible(self, draws: int) -> FewShotFold:
        """Return the fold without the tasks that cannot be divided in every draw."""
        kept, left_out = [], {}
        for index, task in enumerate(self.tasks):
            try:
                for draw in range(draws):
                    self.draw(index, draw)
                kept.append(index)
            except ValueError:
                left_out[task.id] = (
                    f"no division in space leaves 5 + 5 training and {self.least_test} + "
                    f"{self.least_test} test samples"
                )
        return replace(self, tasks=self.tasks.subset(kept), left_out=left_out)


def few_shot_folds(
    data: LabelledData,
    regions: str | Path | Sequence[BBox] | None = None,
    folds: int = 5,
    seed: int = 0,
    *,
    draws: int = 3,
    block_km: float = 3.0,
    distance_km: float = 2.0,
    least_test: int = 10,
    most_test: int = 500,
    k: int = 10,
    query: int = 8,
    inner_steps: int = 1,
) -> list[FewShotFold]:
    """Divide a data set's regions into folds to hold out, and find the tasks to score in each.

    Every region and label with samples enough is a task, crop versus non-crop included; the data
    set's own benchmarks withhold nothing here, and samples marked ``is_test`` are never used. A
    fold's training tasks have no sample that lies in the box of a held-out region, under any label.

    Parameters
    ----------
    data
        The data set.
    regions
        As of `timl.meta_tasks`. Their names must differ.
    folds
        At most so many; fewer where regions overlap, are of one country, or are few.
    seed
        Seed of the folds and every division.
    draws
        Divisions of each task that must be possible; a task where one is not is left out.
    block_km, distance_km
        As of `split_in_space`.
    least_test
        Positives, and negatives, that a test part needs.
    most_test
        Positives, and negatives, that are kept of one.
    k, query, inner_steps
        Sizes of the episodes of meta-training, as of `timl.meta_tasks`.

    Raises
    ------
    ValueError
        If an argument is out of range, names repeat, the regions cannot be held out from each
        other, or no task can be divided.

    Warns
    -----
    UserWarning
        If tasks cannot be divided in space: they are left out.
    """
    for name, number in (("draws", draws), ("least_test", least_test)):
        if number < 1:
            raise ValueError(f"{name} is {number}: give at least 1")
    if most_test < least_test:
        raise ValueError(f"most_test is {most_test}: give at least least_test, {least_test}")
    tasks = meta_tasks(data, regions, k=k, query=query, inner_steps=inner_steps, withhold=False)
    boxes = list(dict.fromkeys(task.bounding_box for task in tasks))
    names = [str(box.name) for box in boxes]
    if len(set(names)) < len(names):
        raise ValueError(f"regions are called {', '.join(names)}: give each a name of its own")
    counts = [sum(task.bounding_box == box for task in tasks) for box in boxes]
    made = []
    for number, held in enumerate(region_folds(boxes, counts, folds, seed)):
        inside = {boxes[i] for i in held}
        fold = FewShotFold(
            number,
            tuple(names[i] for i in held),
            _without(tasks, inside, k * inner_steps + query // 2),
            tasks.subset(i for i, task in enumerate(tasks) if task.bounding_box in inside),
            {},
            seed,
            block_km,
            distance_km,
            least_test,
            most_test,
        )
        made.append(fold._divisible(draws))
    left_out = [name for fold in made for name in fold.left_out]
    if len(left_out) == len(tasks):
        raise ValueError(
            f"none of {len(tasks)} tasks can be divided into training and test parts {distance_km} "
            f"km apart with {least_test} + {least_test} test samples: give a smaller distance_km "
            f"or least_test"
        )
    if left_out:
        warnings.warn(
            f"{len(left_out)} of {len(tasks)} tasks cannot be divided in space and are left out: "
            f"{', '.join(left_out)}",
            stacklevel=2,
        )
    return made


def _without(tasks: TaskSet, held: set[BBox], needed: int) -> TaskSet:
    """Return the tasks of other regions without the samples in the held-out boxes."""
    lat, lon = _places(tasks.data).T
    inside = np.zeros(len(lat), bool)
    for box in held:
        inside |= box.contains(lat, lon)
    positives = [positions[~inside[positions]] for positions in tasks.positives]
    negatives = [positions[~inside[positions]] for positions in tasks.negatives]
    kept = [
        i
        for i, task in enumerate(tasks)
        if task.bounding_box not in held
        and min(len(positives[i]), len(np.unique(negatives[i]))) >= needed
    ]
    if not kept:
        raise ValueError(
            f"without the regions {', '.join(str(box.name) for box in held)} no task is left to "
            f"train on: give more regions or more folds"
        )
    return replace(tasks, positives=tuple(positives), negatives=tuple(negatives)).subset(kept)


def _places(data: LabelledData) -> NDArray[np.float64]:
    """Return latitude and longitude of every series, degrees, [n, 2]; NaN without a label."""
    rows = data.labels[(data.labels["position"] >= 0).to_numpy()]
    positions = rows["position"].to_numpy(np.int64)
    places = np.full((int(positions.max()) + 1, 2), np.nan)
    places[positions] = rows[["lat", "lon"]].to_numpy(np.float64)
    return places
