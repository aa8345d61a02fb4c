"""What users of the cropharvest package know of its class ``CropHarvest``, for one task.

Names, arguments and shapes are theirs; random draws are timl's and differ from theirs.
docs/how-to/coming-from-cropharvest.md compares the two.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from timl import random
from timl.bands import BANDS
from timl.data.tasks.benchmarks import BenchmarkTask, TestInstance
from timl.data.tasks.task import Balance, Task

if TYPE_CHECKING:
    import torch
    from torch.utils.data import Dataset

    from timl.data.cropharvest import CropHarvest

Data = TypeVar("Data", bound="Familiar")


class Familiar:
    """The samples of one task, as the cropharvest package gives them: a base of `CropHarvest`."""

    task: Task

    if TYPE_CHECKING:  # what CropHarvest adds
        benchmarks: list[BenchmarkTask]

        def series(  # noqa: D102
            self, positions: ArrayLike, normalize: bool = True
        ) -> NDArray[np.float32]: ...

        def test_files(self, identifier: str) -> list[str]: ...  # noqa: D102

        def test_instance(  # noqa: D102
            self, identifier: str, normalize: bool = True
        ) -> TestInstance: ...

    def select(self: Data, task: Task) -> Data:
        """Give this data set with another task; labels and series are shared, nothing is read.

        Raises
        ------
        ValueError
            If the task has no positives or no negatives.
        """
        other = copy.copy(self)
        other._select(task)
        return other

    @classmethod
    def create_benchmark_datasets(
        cls: type[Data],
        root: str | Path,
        balance_negative_crops: Balance = True,
        normalize: bool = True,
    ) -> list[Data]:
        """Open a data set and select each of its benchmarks' tasks.

        Parameters
        ----------
        root : str or Path
            The folder of the data set.
        balance_negative_crops : bool or "cut"
            Of the tasks of a crop: see `Task`.
        normalize : bool
            Give normalised series.

        Returns
        -------
        list of CropHarvest
            One a benchmark that has positives and negatives; they share labels and series.
        """
        data = cast("Callable[[str | Path], Data]", cls)(root)
        return [
            data.select(
                replace(
                    benchmark.task,
                    balance_negative_crops=benchmark.task.target_label != "crop"
                    and balance_negative_crops,
                    normalize=normalize,
                )
            )
            for benchmark in data.benchmarks
            if len(benchmark.positives) and len(benchmark.negatives)
        ]

    def _select(self, task: Task | None) -> None:
        self.task = Task() if task is None else task
        samples = BenchmarkTask(cast("CropHarvest", self), self.task.id, self.task)
        sizes = [len(samples.positives), len(samples.negatives)]
        if task is not None and min(sizes) == 0:
            raise ValueError(
                f"task {task.id!r} has {sizes[0]} positives and {sizes[1]} negatives in this data "
                "set; it needs both"
            )
        self._positions = np.concatenate([samples.positives, samples.negatives])
        self._y = np.repeat(np.array([1, 0], np.int64), sizes)
        self._seed = 0
        self.reset_sampled_indices()

    @property
    def id(self) -> str:
        """The task's id, "Kenya_1_maize"."""
        return self.task.id

    @property
    def k(self) -> int:
        """How many positives or negatives the task has, whichever are fewer."""
        positives = int(self._y.sum())
        return min(positives, len(self._y) - positives)

    @property
    def num_bands(self) -> int:
        """Bands of a series: 18."""
        return len(BANDS)

    def __len__(self) -> int:
        """Training samples of the task; repeated negatives count as often as they occur."""
        return len(self._positions)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], int]:
        """Give one sample: its series, float32 [12, 18], and 1 or 0."""
        return self.series(self._positions[index], self.task.normalize), int(self._y[index])

    def as_array(
        self, flatten_x: bool = False, num_samples: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Give the training samples.

        Parameters
        ----------
        flatten_x : bool
            Give x as [n, 216].
        num_samples : int, optional
            Give only the first num_samples // 2 positives and as many negatives.

        Returns
        -------
        x : ndarray of float32, shape [n, 12, 18]
            The series; normalised if the task says so.
        y : ndarray of int64, shape [n]
            1 and 0. The positives come first, until `shuffle` is called.

        Raises
        ------
        ValueError
            If there are not so many positives or negatives.
        """
        chosen = np.arange(len(self))
        if num_samples is not None:
            count = num_samples // 2
            if not 1 <= count <= self.k:
                raise ValueError(
                    f"num_samples is {num_samples}; task {self.id!r} has {self.k} of its rarer "
                    f"class: give 2 to {2 * self.k}"
                )
            chosen = np.concatenate([np.flatnonzero(self._y == y)[:count] for y in (1, 0)])
        return self._arrays(chosen, flatten_x)

    def sample(
        self, k: int, deterministic: bool = False
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Draw k positives and k negatives; later calls draw others as long as there are enough.

        Parameters
        ----------
        k : int
            How many of each; `self.k` if that is less.
        deterministic : bool
            Give the first k of each instead.

        Returns
        -------
        x : ndarray of float32, shape [2 k, 12, 18]
            Positives and negatives in turn.
        y : ndarray of int64, shape [2 k]
            1, 0, 1, 0, ...

        Raises
        ------
        ValueError
            If k is below 1, or there are no positives or no negatives.
        """
        count = min(k, self.k)
        if count < 1:
            raise ValueError(f"k is {k}; task {self.id!r} has {self.k} of its rarer class")
        pairs = np.empty((count, 2), np.int64)
        for column, y in enumerate((1, 0)):
            pool = np.flatnonzero(self._y == y)
            pairs[:, column] = pool[:count] if deterministic else pool[self._draw(y, count)]
        return self._arrays(pairs.ravel(), flatten_x=False)

    def shuffle(self, seed: int) -> None:
        """Put the samples in the random order of a seed, and let later draws depend on it."""
        order = random.permutation(len(self), seed=seed, purpose=random.Purpose.SHUFFLE)
        self._positions, self._y = self._positions[order], self._y[order]
        self._seed = seed
        self.reset_sampled_indices()

    def reset_sampled_indices(self) -> None:
        """Forget what `sample` has drawn: it begins again."""
        self._rounds, self._drawn = [0, 0], [0, 0]

    def test_data(
        self, flatten_x: bool = False, max_size: int | None = None
    ) -> Iterator[tuple[str, TestInstance]]:
        """Give the task's test files.

        Parameters
        ----------
        flatten_x : bool
            Give x as [n, 216].
        max_size : int, optional
            Divide larger test files into parts of this size.

        Yields
        ------
        name : str
            The file's name without extension; of part i of a file, "i_" and the name.
        test : TestInstance

        Raises
        ------
        FileNotFoundError
            If the data set has no test file of the task.
        """
        identifier = str(self.task.test_identifier)
        for name in self.test_files(identifier) or [identifier]:
            test = self.test_instance(name, self.task.normalize)
            if flatten_x:
                test = replace(test, x=test.x.reshape(len(test), -1))
            if max_size is None or len(test) <= max_size:
                yield name, test
            else:
                for part, start in enumerate(range(0, len(test), max_size)):
                    yield f"{part}_{name}", test[start : start + max_size]

    def as_torch_dataset(
        self, transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    ) -> Dataset[dict[str, torch.Tensor]]:
        """Give the training samples as a PyTorch data set, in TorchGeo's manner.

        Parameters
        ----------
        transforms : callable, optional
            Takes a sample and returns it transformed.

        Returns
        -------
        torch.utils.data.Dataset
            Its samples are {"array": float32 [12, 18], "label": int64 []}.
        """
        from timl.data.torch_dataset import TaskDataset

        return TaskDataset(self, transforms)

    def _draw(self, y: int, count: int) -> NDArray[np.int64]:
        """Take the next numbers of this round's permutation, or of a new round's."""
        size = int((self._y == y).sum())
        if self._drawn[y] + count > size:
            self._rounds[y] += 1
            self._drawn[y] = 0
        order = random.permutation(
            size,
            seed=self._seed,
            task=1 + y,  # 0 is BenchmarkTask.sample's
            epoch=self._rounds[y],
            purpose=random.Purpose.INTERFACE_SAMPLING,
        )
        start = self._drawn[y]
        self._drawn[y] += count
        return order[start : start + count]

    def _arrays(
        self, chosen: NDArray[np.int64], flatten_x: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        x = self.series(self._positions[chosen], self.task.normalize)
        return (x.reshape(len(x), -1) if flatten_x else x), self._y[chosen]
