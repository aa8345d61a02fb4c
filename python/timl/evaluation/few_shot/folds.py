"""Folds of regions: what is held out, what is trained on, and the tasks to be scored."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from timl import random
from timl.data import BBox, LabelledData, TaskSet, meta_tasks
from timl.data.regions.splits import (
    Split,
    derived_seed,
    smallest_distance_km,
    split_at_random,
    split_in_space,
)
from timl.evaluation.few_shot.groups import (
    Origins,
    fold_groups,
    keep,
    main_surveys,
    neighbour_groups,
    origins,
    survey_groups,
    surveys_of,
    training_samples,
)
from timl.evaluation.few_shot.tasks import FewShotTask, places_of
from timl.random import Purpose

HeldOut = Literal["country", "district"]
"""What a fold holds out: see `few_shot_folds`."""

_FOLDS = {"country": 8, "district": 5}
"""Folds, at most, where no number is given."""


@dataclass(frozen=True, eq=False)
class FewShotFold:
    """One held-out fold: what to train on, and the tasks to be scored."""

    number: int
    regions: tuple[str, ...]
    """Names of the held-out regions."""
    surveys: tuple[str, ...]
    """Main survey of each of them."""
    training: TaskSet
    """The other regions' tasks, without any sample that lies in a held-out box."""
    tasks: TaskSet
    """The held-out regions' tasks that can be divided in space."""
    left_out: dict[str, str]
    """Ids of all regions' tasks that cannot be divided, and why."""
    held_out: HeldOut
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

    @cached_property
    def nearest_training_km(self) -> float:
        """Smallest distance of a sample of the fold's tasks and a training sample, km."""
        scored, trained = (
            np.unique(np.concatenate([*tasks.positives, *tasks.negatives]))
            for tasks in (self.tasks, self.training)
        )
        places = places_of(self.tasks.data)
        return smallest_distance_km(places[scored], places[trained])

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
        lat, lon = places_of(self.tasks.data)[positions].T
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
    folds: int | None = None,
    seed: int = 0,
    *,
    held_out: HeldOut = "country",
    draws: int = 1,
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
        Number of folds, at most; by default 8 of countries and 5 of districts. There are fewer
        where there are fewer groups of regions.
    seed
        Seed of the folds and of every division.
    held_out
        "country": a new country. No training sample is of a survey or in a country of a sample to
        be scored; regions of one main survey that share a country are held out together, and tasks
        have samples of their own surveys alone (those that 5 % of a task of the region are of).
        "district": a new district of a known country. Only what lies in the held-out boxes is left
        out of the training; regions whose boxes overlap, or that are boxes of one country by their
        names ("Kenya_1"), are held out together.
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

    Returns
    -------
    list of FewShotFold
        None is without tasks: regions of which no task can be divided are never held out, but
        trained on.

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
    if held_out not in _FOLDS:
        raise ValueError(f"held_out is {held_out!r}: give {' or '.join(map(repr, _FOLDS))}")
    tasks = meta_tasks(data, regions, k=k, query=query, inner_steps=inner_steps, withhold=False)
    boxes = list(dict.fromkeys(task.bounding_box for task in tasks))
    names = [str(box.name) for box in boxes]
    if len(set(names)) < len(names):
        raise ValueError(f"regions must have different names, but are {', '.join(names)}")
    known, apart = origins(data), held_out == "country"
    surveys = main_surveys(tasks, boxes, known)
    own = _of_own_surveys(tasks, boxes, known) if apart else tasks
    # one fold of every region, whose tasks are those that can be divided
    every = FewShotFold(
        number=-1,
        regions=tuple(names),
        surveys=tuple(surveys),
        training=tasks,
        tasks=own,
        left_out={},
        held_out=held_out,
        seed=seed,
        block_km=block_km,
        distance_km=distance_km,
        least_test=least_test,
        most_test=most_test,
    )._divisible(draws)
    if not len(every.tasks):
        raise ValueError(
            f"none of {len(tasks)} tasks can be divided into training and test parts {distance_km} "
            f"km apart with {least_test} + {least_test} test samples: give a smaller distance_km "
            f"or least_test"
        )
    weights = [sum(task.bounding_box == box for task in every.tasks) for box in boxes]
    groups = survey_groups(own, boxes, surveys, known) if apart else neighbour_groups(boxes)
    divisible = [group for group in groups if any(weights[i] for i in group)]
    if len(groups) < 2:
        raise ValueError(
            f"the {len(boxes)} regions are of one survey, overlap or are of one country, so none "
            f"can be held out: give regions that are apart"
        )
    if every.left_out:
        warnings.warn(
            f"{len(every.left_out)} of {len(tasks)} tasks cannot be divided in space and are left "
            f"out: {', '.join(every.left_out)}",
            stacklevel=2,
        )
    most = _FOLDS[held_out] if folds is None else folds
    needed = k * inner_steps + query // 2
    made = []
    for number, held in enumerate(fold_groups(divisible, weights, most, seed)):
        inside = {boxes[i] for i in held}
        scored = every.tasks.subset(
            i for i, task in enumerate(every.tasks) if task.bounding_box in inside
        )
        trained = np.ones(len(places_of(data)), bool)
        if apart:
            trained = training_samples(scored, known)
        fold = replace(
            every,
            number=number,
            regions=tuple(names[i] for i in held),
            surveys=tuple(surveys[i] for i in held),
            training=_training(tasks, inside, trained, needed),
            tasks=scored,
        )
        made.append(fold)
    return made


def _of_own_surveys(tasks: TaskSet, boxes: Sequence[BBox], known: Origins) -> TaskSet:
    """Return tasks without the samples of surveys that are not their region's own."""
    parts = []
    for box in boxes:
        of_region = tasks.subset(i for i, t in enumerate(tasks) if t.bounding_box == box)
        parts.append(
            keep(of_region, np.isin(known.surveys.astype(str), surveys_of(of_region, known)))
        )
    return TaskSet(
        tasks.data,
        tuple(task for part in parts for task in part.tasks),
        tuple(positions for part in parts for positions in part.positives),
        tuple(positions for part in parts for positions in part.negatives),
        np.concatenate([part.numbers for part in parts]),
    )


def _training(tasks: TaskSet, held: set[BBox], trained: NDArray[np.bool_], needed: int) -> TaskSet:
    """Return other regions' tasks with the samples to be trained on that lie in no held-out box."""
    lat, lon = places_of(tasks.data).T
    kept = trained.copy()
    for box in held:
        kept &= ~box.contains(lat, lon)
    others = tasks.subset(i for i, task in enumerate(tasks) if task.bounding_box not in held)
    left = keep(others, kept)
    enough = [
        i
        for i in range(len(left))
        if min(len(left.positives[i]), len(np.unique(left.negatives[i]))) >= needed
    ]
    if not enough:
        raise ValueError(
            f"without the regions {', '.join(str(box.name) for box in held)} and their sisters no "
            f"task is left to train on: give more regions or more folds"
        )
    return left.subset(enough)
