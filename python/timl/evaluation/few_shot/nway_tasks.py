"""N-way tasks of held-out regions, each divided into training and test parts in space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from timl import random
from timl.data import LabelledData, NWayTask, nway_tasks_of
from timl.data.regions.splits import derived_seed, split_classes_in_space
from timl.data.tasks.crop_types import Naming
from timl.evaluation.few_shot.folds import FewShotFold
from timl.evaluation.few_shot.tasks import places_of
from timl.random import Purpose

LEAST = 10
"""Samples of a class that each part needs."""
LEAST_CLASSES = 3
"""Classes that a region needs where all of them count."""


@dataclass(frozen=True, eq=False)
class NWayFewShotTask:
    """Classes of one region, with samples to adapt to and test samples that are apart from them.

    Parameters
    ----------
    data
        The data set.
    task
        Region and classes.
    train, test : tuples of int64 arrays
        Positions of each class's samples in either part.
    seed
        Seed of the draws of fewer labels.
    distance_km
        The smallest distance of a training and a test sample.
    """

    data: LabelledData
    task: NWayTask
    train: tuple[NDArray[np.int64], ...]
    test: tuple[NDArray[np.int64], ...]
    seed: int
    distance_km: float

    def budgets(self, wanted: Sequence[int | None]) -> list[int | None]:
        """Return those numbers of labels that half of the classes have; None, all, always is."""
        middle = sorted(map(len, self.train), reverse=True)[(len(self.train) - 1) // 2]
        return [budget for budget in wanted if budget is None or budget <= middle]

    def with_labels(self, budget: int | None) -> NWayFewShotTask:
        """Return the task with at most so many labels of each class; None: all.

        A class that has fewer gives all it has. Draws are nested.
        """
        if budget is None:
            return self
        kept = []
        for number, positions in enumerate(self.train):
            order = random.permutation(
                len(positions), seed=self.seed, task=number, purpose=Purpose.NWAY_LABELS
            )
            kept.append(positions[np.sort(order[:budget])])
        return replace(self, train=tuple(kept))

    @cached_property
    def train_arrays(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Normalised series [n, T, F] and classes [n] of the training samples."""
        return _arrays(self.data, self.train)

    @cached_property
    def test_arrays(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Normalised series [n, T, F] and classes [n] of the test samples."""
        return _arrays(self.data, self.test)


@dataclass(frozen=True, eq=False)
class NWayRegion:
    """The samples of a held-out region by class, all that are its own survey's."""

    data: LabelledData
    task: NWayTask
    samples: tuple[NDArray[np.int64], ...]
    ways: int | None
    """Number of classes of a division; None: all that can be divided."""
    seed: int
    block_km: float
    distance_km: float

    def draw(self, draw: int = 0) -> NWayFewShotTask | None:
        """Divide the classes into training and test parts in space.

        Where a class is too rare on one side the rarest is left out, until all that are left can
        be divided; of these `ways` are drawn. None where too few are left.
        """
        seed = derived_seed(self.seed, self.task.id, draw)
        places = places_of(self.data)
        left = list(range(len(self.samples)))
        least = self.ways or LEAST_CLASSES
        while len(left) >= least:
            positions = np.concatenate([self.samples[number] for number in left])
            y = np.repeat(np.arange(len(left)), [len(self.samples[number]) for number in left])
            lat, lon = places[positions].T
            split = split_classes_in_space(
                lat,
                lon,
                y,
                block_km=self.block_km,
                distance_km=self.distance_km,
                seed=seed,
                least_train=LEAST,
                least_test=LEAST,
            )
            if split is not None:
                break
            left.remove(min(left, key=lambda number: len(self.samples[number])))
        else:
            return None
        chosen = np.arange(len(left))
        if self.ways is not None:
            order = random.permutation(len(left), seed=seed, purpose=Purpose.NWAY_TASK_CLASSES)
            chosen = np.sort(order[: self.ways])
        train, test = (
            tuple(positions[part[y[part] == number]] for number in chosen)
            for part in (split.train, split.test)
        )
        of = [left[number] for number in chosen]
        task = NWayTask(
            self.task.bounding_box,
            tuple(self.task.classes[number] for number in of),
            tuple(self.task.classification_labels[number] for number in of),
        )
        return NWayFewShotTask(self.data, task, train, test, seed, split.distance_km)


def nway_regions(fold: FewShotFold, ways: int | None, by: Naming, draws: int) -> list[NWayRegion]:
    """Return the held-out regions of a fold whose classes can be divided in every draw."""
    try:
        tasks = nway_tasks_of(fold.tasks, ways or LEAST_CLASSES, k=LEAST, query=LEAST, by=by)
    except ValueError:  # none has classes enough
        return []
    regions = [
        NWayRegion(tasks.data, task, samples, ways, fold.seed, fold.block_km, fold.distance_km)
        for task, samples in zip(tasks, tasks.class_samples, strict=True)
    ]
    return [r for r in regions if all(r.draw(draw) is not None for draw in range(draws))]


def _arrays(
    data: LabelledData, parts: Sequence[NDArray[np.int64]]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    y = np.repeat(np.arange(len(parts), dtype=np.int64), [len(part) for part in parts])
    return data.series(np.concatenate(parts)), y
