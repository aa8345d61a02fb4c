"""Sequences of tasks to meta-train on: what sets of two and of several classes have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from timl import random
from timl.data.regions.boxes import BBox
from timl.data.tasks.information import INFO_SIZE
from timl.data.tasks.labelled_data import LabelledData


class AnyTask(Protocol):
    """A task to meta-train on."""

    @property
    def bounding_box(self) -> BBox:
        """Region of the samples."""
        ...

    @property
    def id(self) -> str:
        """Name of the task."""
        ...

    @property
    def info(self) -> NDArray[np.float32]:
        """Information of the task, float32 [13]."""
        ...


TaskT = TypeVar("TaskT", bound=AnyTask)


class TaskSequence(Sequence[TaskT], ABC):
    """An ordered set of tasks and the samples of each.

    Attributes
    ----------
    data
        Data set of the samples.
    tasks
        Tasks, in order.
    numbers : int64 array of shape [N]
        Number of each task in the set it was made in; random draws for a task depend on it, so
        they stay the same in a subset.
    """

    data: LabelledData
    tasks: tuple[TaskT, ...]
    numbers: NDArray[np.int64]

    @abstractmethod
    def samples(self, index: int) -> tuple[NDArray[np.int64], ...]:
        """Return the positions of a task's samples, an array for each of its classes."""

    @abstractmethod
    def subset(self, indices: Iterable[int]) -> Self:
        """Select tasks by their indices, in the order given."""

    def __len__(self) -> int:
        return len(self.tasks)

    @overload
    def __getitem__(self, index: int) -> TaskT: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> TaskT | Self:
        if isinstance(index, slice):
            return self.subset(range(len(self))[index])
        return self.tasks[index]

    def __iter__(self) -> Iterator[TaskT]:
        return iter(self.tasks)

    def __repr__(self) -> str:
        regions = len({task.bounding_box.name for task in self})
        return f"{type(self).__name__}({len(self)} tasks in {regions} regions)"

    @property
    def info(self) -> NDArray[np.float32]:
        """Information of the tasks, float32 [N, 13]."""
        return np.array([task.info for task in self], np.float32).reshape(-1, INFO_SIZE)

    def split(self, fraction: float = 0.1, seed: int = 0) -> tuple[Self, Self]:
        """Divide the tasks at random into training and validation tasks.

        Parameters
        ----------
        fraction
            Share of validation tasks, in (0, 1); their number is rounded, and neither part is
            empty.
        seed
            Seed of the division.

        Returns
        -------
        training, validation
            Task sets, each in this set's order.

        Raises
        ------
        ValueError
            If the fraction is out of range or there are fewer than two tasks.
        """
        if not 0 < fraction < 1:
            raise ValueError(f"fraction is {fraction}: give a number between 0 and 1")
        if len(self) < 2:
            raise ValueError(f"the set is of {len(self)} tasks: give at least 2 to split")
        count = min(max(round(len(self) * fraction), 1), len(self) - 1)
        order = random.permutation(len(self), seed=seed, purpose=random.Purpose.VALIDATION_SPLIT)
        return self.subset(np.sort(order[count:])), self.subset(np.sort(order[:count]))
