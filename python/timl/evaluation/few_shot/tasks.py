"""A few-shot task: labelled samples to adapt to, and test samples that are apart from them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from timl.data import BenchmarkTask, LabelledData, Task, TestInstance


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
        places = places_of(self.data)[self.test_positions]
        x = self.data.series(self.test_positions, normalize=self.task.normalize)
        return TestInstance(x, self._test_labels, places[:, 0], places[:, 1])

    def budgets(self, wanted: Sequence[int | None]) -> list[int | None]:
        """Return those numbers of labels per class that there are; None, all, always is."""
        rarer = min(len(self.positives), len(self.negatives))
        return [budget for budget in wanted if budget is None or budget <= rarer]

    def with_labels(self, budget: int | None) -> BenchmarkTask:
        """Return the task with so many labels per class; None: all. Draws are nested."""
        return self if budget is None else self.subset(2 * budget, self.seed)


def places_of(data: LabelledData) -> NDArray[np.float64]:
    """Return latitude and longitude of every series, degrees, [n, 2]; NaN without a label."""
    rows = data.labels[(data.labels["position"] >= 0).to_numpy()]
    positions = rows["position"].to_numpy(np.int64)
    places = np.full((int(positions.max()) + 1, 2), np.nan)
    places[positions] = rows[["lat", "lon"]].to_numpy(np.float64)
    return places
