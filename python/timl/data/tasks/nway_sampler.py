"""Drawing N-way episodes: classes, support and query sets of a region's, all drawn anew."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from timl import random
from timl.data.tasks.episodes import Episodes
from timl.data.tasks.labelled_data import LabelledData
from timl.data.tasks.nway import NWayTaskSet, check_nway_sizes
from timl.data.tasks.sampler import Sampler


class NWaySampler(Sampler):
    """Sampler of N-way episodes: one depends on (seed, epoch, task's number) alone.

    Every episode has N of the task's classes, drawn with their order: class 0 of one episode is
    another crop than that of the next.

    Parameters
    ----------
    data
        Data set of the series.
    task_set
        Tasks to draw episodes of; its `ways` is N.
    k
        Samples of each class in a support set: B = N k.
    query
        Samples of each class in the query set: Q = N query.
    inner_steps
        Number S of support sets of an episode; they share no sample.
    seed
        Seed of all draws.

    Raises
    ------
    ValueError
        If a size is out of range, or a class has too few samples.
    """

    fresh_head = True

    def __init__(
        self,
        data: LabelledData,
        task_set: NWayTaskSet,
        k: int = 10,
        query: int = 8,
        inner_steps: int = 1,
        seed: int = 0,
    ) -> None:
        check_nway_sizes(k, query, inner_steps)
        super().__init__(data, task_set, k, inner_steps, seed)
        self.query, self._task_set = query, task_set
        self._count = k * inner_steps + query
        for task, samples in zip(task_set, task_set.class_samples, strict=True):
            fewest = min(map(len, samples))
            if fewest < self._count:
                raise ValueError(
                    f"task {task.id!r} has a class of {fewest} samples; k={k}, query={query}, "
                    f"inner_steps={inner_steps} need {self._count}: make the tasks with the same "
                    f"sizes, nway_tasks(data, k=..., query=..., inner_steps=...)"
                )

    def batch(self, task_indices: ArrayLike, epoch: int) -> Episodes:
        """Draw the epoch's episodes of some tasks, as float32 arrays.

        In every support and query set class 0 comes first, then class 1, and so on.

        Parameters
        ----------
        task_indices : integer array of shape [N]
            Indices in the task set.
        epoch
            Number of the epoch.

        Raises
        ------
        ValueError
            If the indices are no list of at least one integer.
        IndexError
            If an index is out of range.
        """
        tasks = self.checked(task_indices)
        sets, ways = self._task_set, self._task_set.ways
        numbers = sets.numbers[tasks]
        classes = random.distinct(
            np.array([[len(sets.class_samples[task])] for task in tasks]),
            ways,
            seed=self.seed,
            task=numbers,
            epoch=epoch,
            purpose=random.Purpose.NWAY_CLASSES,
        )[:, 0]  # [tasks, ways]
        of_classes = [
            [sets.class_samples[task][number] for number in chosen]
            for task, chosen in zip(tasks, classes, strict=True)
        ]
        drawn = random.distinct(
            np.array([[len(samples) for samples in own] for own in of_classes]),
            self._count,
            seed=self.seed,
            task=numbers,
            epoch=epoch,
            purpose=random.Purpose.NWAY_SAMPLING,
        )  # [tasks, ways, count]
        positions = np.empty_like(drawn)
        for row, own in enumerate(of_classes):
            for number, samples in enumerate(own):
                positions[row, number] = samples[drawn[row, number]]
        info = [sets[int(t)].info_of(chosen) for t, chosen in zip(tasks, classes, strict=True)]
        return self.episodes(positions, range(ways), np.stack(info), ways)
