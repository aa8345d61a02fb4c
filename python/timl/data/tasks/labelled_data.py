"""Labelled data sets, and their evaluation tasks.

`LabelledData` is all that tasks, samplers, training and evaluation know of a data set;
`CropHarvest` is one, and docs/how-to/own-data-set.md makes another. It stands beside
`BenchmarkTask` because each of the two refers to the other.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from timl import random
from timl.data.regions.boxes import BBox
from timl.data.regions.countries import country_of
from timl.data.tasks.task import Task, positives_and_negatives, training_rows
from timl.data.tasks.test_instance import TestInstance
from timl.normalization import HasStatistics

if TYPE_CHECKING:
    import pandas as pd


class LabelledData(HasStatistics, Protocol):
    """A labelled data set: series of T steps and F bands, their labels, and evaluation tasks.

    Series are numbered from 0 to ``len(data) - 1``; a series' number is its position.
    """

    @property
    def labels(self) -> pd.DataFrame:
        """Table of the labels, one row per sample.

        Its columns are ``lat`` and ``lon`` (degrees), ``is_crop`` (1 or 0), ``label`` and
        ``classification_label`` (texts, or None where not known), ``is_test`` (1: never a training
        sample) and ``position`` (of the sample's series; -1 if it has none).
        """
        ...

    @property
    def regions(self) -> Sequence[BBox] | None:
        """Regions to make tasks in where no others are given; None: the boxes of all countries."""
        ...

    @property
    def benchmarks(self) -> Sequence[BenchmarkTask]:
        """Evaluation tasks, which meta-training leaves out; may be empty."""
        ...

    @property
    def checksum(self) -> str:
        """Text that differs for other data; experiments find their finished results by it."""
        ...

    def __len__(self) -> int:
        """Return the number of series."""
        ...

    def series(self, positions: ArrayLike, normalize: bool = True) -> NDArray[np.float32]:
        """Return the series at some positions, float32 [*positions.shape, T, F]."""
        ...

    def test_instance(self, identifier: str, normalize: bool = True) -> TestInstance:
        """Return the test set of a task's ``test_identifier``; FileNotFoundError without one."""
        ...


class BenchmarkTask:
    """One evaluation task: fine-tune on its training samples, score on its test set.

    Parameters
    ----------
    data
        Data set of the samples.
    name
        Name of the benchmark.
    task
        Region and label; its ``test_identifier`` names the test set.
    whole_region
        Withhold every task of its country from meta-training, not only that of its label.

    Attributes
    ----------
    name, data, task, whole_region
        As given.
    positives, negatives : int64 arrays
        Positions of the training samples. Where the task's negatives are balanced by repetition,
        positions of other crops occur several times, as in the cropharvest package.
    """

    def __init__(
        self, data: LabelledData, name: str, task: Task, whole_region: bool = False
    ) -> None:
        self.name = name
        self.task = task
        self.data = data
        self.whole_region = whole_region
        rows = training_rows(
            data.labels, task.bounding_box, task.include_externally_contributed_labels
        )
        self.positives, self.negatives = positives_and_negatives(rows, task)

    def __repr__(self) -> str:
        negatives = f"{len(self.negatives)} negatives"
        unique = len(self.unique_negatives)
        if unique < len(self.negatives):
            negatives += f" ({unique} unique)"
        return f"{type(self).__name__}({self.name!r}, {len(self.positives)} positives, {negatives})"

    @property
    def unique_negatives(self) -> NDArray[np.int64]:
        """Positions of the negatives, each once, ascending."""
        return np.unique(self.negatives)

    def withholds(self, region: BBox, target_label: str, as_published: bool = False) -> bool:
        """Tell whether a task must be kept out of meta-training for this benchmark's sake.

        A region is the benchmark's if its name or its edges are the same, or if both are boxes of
        one country (see `country_boxes`).

        Parameters
        ----------
        region
            Region of the task.
        target_label
            Label of the task.
        as_published
            Follow TIML's published code, which withholds nothing for a benchmark of a whole region.
        """
        here = self.task.bounding_box
        country = country_of(here.name)
        same = (
            region.name == here.name
            or (country is not None and country == country_of(region.name))
            or (region.contains_bbox(here) and here.contains_bbox(region))
        )
        if self.whole_region:
            return same and not as_published
        return same and target_label == self.task.target_label

    @property
    def normalize(self) -> bool:
        """Whether the series are normalised, (x - mean) / std."""
        return self.task.normalize

    @property
    def info(self) -> NDArray[np.float32]:
        """Information of the task, float32 [13]."""
        return self.task.info

    @property
    def test(self) -> TestInstance:
        """Test set of the task: all of its ``test_identifier``.

        Raises
        ------
        FileNotFoundError
            If the data set has no test set of this task.
        """
        return self.data.test_instance(str(self.task.test_identifier), self.task.normalize)

    def subset(self, size: int, seed: int) -> BenchmarkTask:
        """Draw a benchmark with fewer labels, half of them positive.

        The draws of one seed are nested: those of a greater size hold those of a smaller.

        Parameters
        ----------
        size
            Number of labels, even and at least 2.
        seed
            Seed of the draw.

        Raises
        ------
        ValueError
            If the size is odd or out of range, or there are too few positives or negatives.
        """
        sizes = [len(self.positives), len(self.negatives)]
        if not 2 <= size <= 2 * min(sizes) or size % 2:
            raise ValueError(
                f"size is {size}, and benchmark {self.name!r} has {sizes[0]} positives and "
                f"{sizes[1]} negatives: give an even number from 2 to {2 * min(sizes)}"
            )
        part = copy.copy(self)
        purpose = random.Purpose.LABEL_SUBSET
        part.positives, part.negatives = (
            pool[random.distinct([len(pool)], size // 2, seed=seed, task=task, purpose=purpose)[0]]
            for task, pool in enumerate((self.positives, self.negatives))
        )
        return part

    def train_arrays(self) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """Return all training samples, positives first.

        Returns
        -------
        x : float32 array of shape [n, T, F]
            Normalised series.
        y : int8 array of shape [n]
            Labels, 1 and 0.
        """
        return self._arrays(self.positives, self.negatives)

    def sample(
        self, k: int, seed: int, step: int = 0
    ) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """Draw k positives and k negatives without repetition.

        Parameters
        ----------
        k
            Number of each.
        seed, step
            Seed of the draw, and its number: it depends on these alone.

        Returns
        -------
        x : float32 array of shape [2 k, T, F]
            Normalised series, positives first.
        y : int8 array of shape [2 k]
            Labels, 1 and 0.

        Raises
        ------
        ValueError
            If there are fewer than k positives or negatives.
        """
        sizes = [len(self.positives), len(self.negatives)]
        if not 1 <= k <= min(sizes):
            raise ValueError(
                f"k is {k}, and benchmark {self.name!r} has {sizes[0]} positives and {sizes[1]} "
                f"negatives: give 1 to {min(sizes)}"
            )
        purpose = random.Purpose.FINE_TUNING_SAMPLES
        positive, negative = random.distinct(sizes, k, seed=seed, step=step, purpose=purpose)
        return self._arrays(self.positives[positive], self.negatives[negative])

    def _arrays(
        self, positives: NDArray[np.int64], negatives: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        positions = np.concatenate([positives, negatives])
        y = np.repeat(np.array([1, 0], np.int8), [len(positives), len(negatives)])
        return self.data.series(positions, normalize=self.task.normalize), y
