"""Drawing episodes: balanced support and query sets, the same for the same seed and epoch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence, Sized

import numpy as np
from numpy.typing import ArrayLike, NDArray

from timl import random
from timl.data.tasks.episodes import Episodes
from timl.data.tasks.labelled_data import LabelledData
from timl.data.tasks.task_set import TaskSet, check_episode_sizes


class Sampler(ABC):
    """Sampler of episodes of some kind of tasks.

    Parameters
    ----------
    data
        Data set of the series.
    tasks
        Tasks to draw episodes of.
    k
        Samples of each class in a support set.
    inner_steps
        Number S of support sets of an episode; they share no sample.
    seed
        Seed of all draws.

    Attributes
    ----------
    fresh_head : bool
        Whether the numbers of an episode's classes mean nothing beyond it, so that every episode
        needs a last layer of its own.
    """

    fresh_head = False

    def __init__(
        self, data: LabelledData, tasks: Sized, k: int, inner_steps: int, seed: int
    ) -> None:
        self.k, self.inner_steps, self.seed = k, inner_steps, seed
        self._data, self._tasks = data, len(tasks)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Draw the order in which an epoch visits the tasks: a permutation of their indices."""
        purpose = random.Purpose.TASK_ORDER
        return random.permutation(self._tasks, seed=self.seed, epoch=epoch, purpose=purpose)

    @abstractmethod
    def batch(self, task_indices: ArrayLike, epoch: int) -> Episodes:
        """Draw the epoch's episodes of some tasks, as float32 arrays."""

    def checked(self, task_indices: ArrayLike) -> NDArray[np.integer]:
        """Return indices of tasks, [N], or raise ValueError or IndexError."""
        tasks = np.asarray(task_indices)
        if tasks.ndim != 1 or not tasks.size or not np.issubdtype(tasks.dtype, np.integer):
            raise ValueError(
                f"task_indices is {tasks.dtype} {list(tasks.shape)}: give integers of shape [N], N "
                "at least 1"
            )
        if tasks.min() < 0 or tasks.max() >= self._tasks:
            raise IndexError(
                f"task_indices is from {tasks.min()} to {tasks.max()}: give indices in "
                f"[0, {self._tasks})"
            )
        return tasks

    def episodes(
        self,
        positions: NDArray[np.int64],
        labels: Sequence[int],
        info: NDArray[np.float32],
        outputs: int = 1,
    ) -> Episodes:
        """Return the episodes of samples that were drawn, as float32 arrays.

        Parameters
        ----------
        positions : int64 array of shape [N, classes, k S + query samples of a class]
            Their positions; those of the support sets come first.
        labels
            Label of each class. Its samples follow each other in every set, in this order.
        info : float32 array of shape [N, 13]
            Information of the tasks.
        outputs
            That of `Episodes`.
        """
        tasks, classes, _ = positions.shape
        supports = self.k * self.inner_steps
        # [N, classes, S, k] -> [N, S, classes k]
        of_classes = positions[:, :, :supports].reshape(tasks, classes, self.inner_steps, self.k)
        support = of_classes.transpose(0, 2, 1, 3).reshape(tasks, self.inner_steps, -1)
        query = positions[:, :, supports:].reshape(tasks, -1)
        support_y, query_y = (
            np.broadcast_to(
                np.repeat(np.asarray(labels, np.float32), part.shape[-1] // classes), part.shape
            ).copy()
            for part in (support, query)
        )
        return Episodes(
            info=info,
            support_x=self._data.series(support),
            support_y=support_y,
            query_x=self._data.series(query),
            query_y=query_y,
            outputs=outputs,
        )


class EpisodeSampler(Sampler):
    """Sampler of episodes: a task's episode depends on (seed, epoch, task's number) alone.

    Neither the other tasks of a batch nor earlier draws matter, so a resumed run and a run with
    other meta-batches draw the same episodes.

    Parameters
    ----------
    data
        Data set of the series.
    task_set
        Tasks to draw episodes of.
    k
        Number of positives, and of negatives, of each support set: B = 2 k.
    query
        Size Q of the query set; half of it is positive.
    inner_steps
        Number S of support sets of an episode; they share no sample.
    seed
        Seed of all draws.

    Raises
    ------
    ValueError
        If a size is out of range, or a task has too few positives or negatives.
    """

    def __init__(
        self,
        data: LabelledData,
        task_set: TaskSet,
        k: int = 10,
        query: int = 8,
        inner_steps: int = 1,
        seed: int = 0,
    ) -> None:
        check_episode_sizes(k, query, inner_steps)
        super().__init__(data, task_set, k, inner_steps, seed)
        self.query, self._task_set = query, task_set
        self._count = k * inner_steps + query // 2
        pools = zip(task_set.positives, task_set.negatives, strict=True)
        self._sizes = np.array([[len(p), len(n)] for p, n in pools], np.int64).reshape(-1, 2)
        self._info = task_set.info
        for task, sizes in zip(task_set, self._sizes, strict=True):
            if sizes.min() < self._count:
                raise ValueError(
                    f"task {task.id!r} has {sizes[0]} positives and {sizes[1]} negatives; k={k}, "
                    f"query={query}, inner_steps={inner_steps} need {self._count} of each: make "
                    "the tasks with the same sizes, meta_tasks(data, k=..., query=..., "
                    "inner_steps=...)"
                )

    def batch(self, task_indices: ArrayLike, epoch: int) -> Episodes:
        """Draw the epoch's episodes of some tasks, as float32 arrays.

        In every support and query set the positives come first.

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
        drawn = random.distinct(
            self._sizes[tasks],
            self._count,
            seed=self.seed,
            task=self._task_set.numbers[tasks],
            epoch=epoch,
            purpose=random.Purpose.SAMPLING,
        )
        positions = np.empty_like(drawn)
        for row, task in enumerate(tasks):
            positions[row, 0] = self._task_set.positives[task][drawn[row, 0]]
            positions[row, 1] = self._task_set.negatives[task][drawn[row, 1]]
        return self.episodes(positions, (1, 0), self._info[tasks])
