"""The interface of the cropharvest package's class ``CropHarvest``: the samples of one task.

Names, arguments and shapes are the package's; random draws are timl's and differ from its own.
docs/how-to/coming-from-cropharvest.md compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from timl import random
from timl.data.cropharvest import CropHarvest
from timl.data.tasks.labelled_data import BenchmarkTask
from timl.data.tasks.task import Balance, Task
from timl.data.tasks.test_instance import TestInstance


class TaskSamples:
    """The training and test samples of one task, as the cropharvest package's class has them.

    ``from timl.data import TaskSamples as CropHarvest`` replaces the import of that class.

    Parameters
    ----------
    root
        Folder of the data set; or the opened data set, which several tasks then share.
    task
        Task of the samples; by default, as in the package, crop versus non-crop on the whole globe.

    Attributes
    ----------
    data
        Data set of the samples.
    task
        As given.

    Raises
    ------
    FileNotFoundError, ValueError, OSError
        As for `CropHarvest`; ValueError also if a given task has no positives or no negatives.
    """

    data: CropHarvest
    task: Task

    def __init__(self, root: str | Path | CropHarvest, task: Task | None = None) -> None:
        self.data = root if isinstance(root, CropHarvest) else CropHarvest(root)
        self.task = Task() if task is None else task
        samples = BenchmarkTask(self.data, self.task.id, self.task)
        sizes = [len(samples.positives), len(samples.negatives)]
        if task is not None and min(sizes) == 0:
            raise ValueError(
                f"task {task.id!r} has {sizes[0]} positives and {sizes[1]} negatives in {root!r}: "
                "give one that has both"
            )
        self._positions = np.concatenate([samples.positives, samples.negatives])
        self._y = np.repeat(np.array([1, 0], np.int64), sizes)
        self._seed = 0
        self.reset_sampled_indices()

    @classmethod
    def create_benchmark_datasets(
        cls,
        root: str | Path | CropHarvest,
        balance_negative_crops: Balance = True,
        normalize: bool = True,
    ) -> list[TaskSamples]:
        """Select the task of each benchmark that has positives and negatives.

        Parameters
        ----------
        root
            Folder of the data set, or the opened data set; it is shared.
        balance_negative_crops
            Balance of the tasks of a crop: see `Task`.
        normalize
            Whether the series are normalised.
        """
        data = root if isinstance(root, CropHarvest) else CropHarvest(root)
        return [
            cls(
                data,
                replace(
                    benchmark.task,
                    balance_negative_crops=benchmark.task.target_label != "crop"
                    and balance_negative_crops,
                    normalize=normalize,
                ),
            )
            for benchmark in data.benchmarks
            if len(benchmark.positives) and len(benchmark.negatives)
        ]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r}: {len(self)} training samples of {self.data!r})"

    @property
    def id(self) -> str:
        """Name of the task, "Kenya_1_maize"."""
        return self.task.id

    @property
    def k(self) -> int:
        """Number of positives or of negatives, whichever are fewer."""
        positives = int(self._y.sum())
        return min(positives, len(self._y) - positives)

    @property
    def num_bands(self) -> int:
        """Number of bands of a series: 18."""
        return len(self.data.mean)

    def __len__(self) -> int:
        """Return the number of training samples; repeated negatives count each time."""
        return len(self._positions)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], int]:
        """Return one sample: its series, float32 [12, 18], and 1 or 0."""
        return self.data.series(self._positions[index], self.task.normalize), int(self._y[index])

    def as_array(
        self, flatten_x: bool = False, num_samples: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the training samples.

        Parameters
        ----------
        flatten_x
            Return x as [n, 216].
        num_samples
            Return only the first num_samples // 2 positives and as many negatives.

        Returns
        -------
        x : float32 array of shape [n, 12, 18]
            Series; normalised if the task says so.
        y : int64 array of shape [n]
            Labels, 1 and 0. The positives come first, until `shuffle` is called.

        Raises
        ------
        ValueError
            If there are not so many positives or negatives.
        """
        chosen: NDArray[np.int64] = np.arange(len(self))
        if num_samples is not None:
            count = num_samples // 2
            if not 1 <= count <= self.k:
                raise ValueError(
                    f"num_samples is {num_samples}, and task {self.id!r} has {self.k} of its rarer "
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
        k
            Number of each; `self.k` if that is less.
        deterministic
            Return the first k of each instead.

        Returns
        -------
        x : float32 array of shape [2 k, 12, 18]
            Positives and negatives in turn.
        y : int64 array of shape [2 k]
            Labels: 1, 0, 1, 0, ...

        Raises
        ------
        ValueError
            If k is below 1, or there are no positives or no negatives.
        """
        count = min(k, self.k)
        if count < 1:
            raise ValueError(
                f"k is {k}, and task {self.id!r} has {self.k} of its rarer class: give at least 1 "
                "of a task that has both"
            )
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
        """Yield the task's test files.

        Parameters
        ----------
        flatten_x
            Yield x as [n, 216].
        max_size
            Divide larger test files into parts of this size.

        Yields
        ------
        name
            Name of the file without extension; of part i of a file, "i_" and the name.
        test
            Series and labels of the file or part.

        Raises
        ------
        FileNotFoundError
            If the data set has no test file of the task.
        """
        identifier = str(self.task.test_identifier)
        for name in self.data.test_files(identifier) or [identifier]:
            test = self.data.test_instance(name, self.task.normalize)
            if flatten_x:
                test = replace(test, x=test.x.reshape(len(test), -1))
            if max_size is None or len(test) <= max_size:
                yield name, test
            else:
                for part, start in enumerate(range(0, len(test), max_size)):
                    yield f"{part}_{name}", test[start : start + max_size]

    def as_torch_dataset(
        self, transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    ) -> Dataset[dict[str, Tensor]]:
        """Return the training samples as a PyTorch data set in TorchGeo's manner.

        Its samples are ``{"array": float32 [12, 18], "label": int64 []}``.

        Parameters
        ----------
        transforms
            Takes a sample and returns it transformed.
        """
        return _TorchSamples(self, transforms)

    def _draw(self, y: int, count: int) -> NDArray[np.int64]:
        """Return the next numbers of this round's permutation, or of a new round's."""
        size = int((self._y == y).sum())
        if self._drawn[y] + count > size:
            self._rounds[y] += 1
            self._drawn[y] = 0
        order = random.permutation(
            size,
            seed=self._seed,
            task=y,
            epoch=self._rounds[y],
            purpose=random.Purpose.INTERFACE_SAMPLING,
        )
        start = self._drawn[y]
        self._drawn[y] += count
        return order[start : start + count]

    def _arrays(
        self, chosen: NDArray[np.int64], flatten_x: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        x = self.data.series(self._positions[chosen], self.task.normalize)
        return (x.reshape(len(x), -1) if flatten_x else x), self._y[chosen]


class _TorchSamples(Dataset[dict[str, Tensor]]):
    """Training samples as a PyTorch data set: see `TaskSamples.as_torch_dataset`."""

    def __init__(
        self,
        samples: TaskSamples,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None,
    ) -> None:
        self.samples = samples
        self.transforms = transforms

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        series, label = self.samples[index]
        sample = {"array": torch.tensor(series), "label": torch.tensor(label)}
        return sample if self.transforms is None else self.transforms(sample)
