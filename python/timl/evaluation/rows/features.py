"""Features of series for rows of simple classifiers: their numbers alone, or a description."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from timl.data import LabelledData
from timl.nn.strong.description import describe_series
from timl.normalization import normalization_of

SERIES, DESCRIPTION = "series", "description"
FEATURES = (SERIES, DESCRIPTION)
_SAMPLE = 2000
"""Series, at most, whose descriptions standardise."""
_LARGEST = 8.0
"""Standardised numbers are clipped at this size."""


def require_features(row: str, features: str) -> None:
    """Raise ValueError unless features are known."""
    if features not in FEATURES:
        raise ValueError(f"row {row!r}: features is {features!r}: choose of {', '.join(FEATURES)}")


class Features:
    """What simple classifiers see of the series of one data set.

    Parameters
    ----------
    data
        The data set.
    kind
        "series": the values as they are, 216 for 12 months of 18 bands. "description": the 459
        numbers of `timl.nn.strong.description.describe_series`, vegetation indices and seasonal
        statistics included, standardised over the data set's series (not their labels), as the
        series themselves are.
    """

    def __init__(self, data: LabelledData, kind: str) -> None:
        self.data, self.kind = data, kind

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.floating]:
        """Return normalised series [n, T, bands] as they are, or their descriptions [n, 1, F]."""
        if self.kind == SERIES:
            return x
        mean, deviation = self._statistics
        described = np.clip((self._described(x) - mean) / deviation, -_LARGEST, _LARGEST)
        return described[:, None, :]

    def rows(self, x: NDArray[np.float32]) -> NDArray[np.floating]:
        """Return the features of each series [n, T, bands] as one row of numbers [n, T * F]."""
        return self(x).reshape(len(x), -1)

    @cached_property
    def _statistics(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        positions = self.data.labels["position"].to_numpy(np.int64)
        positions = np.unique(positions[positions >= 0])
        drawn = positions[:: -(-len(positions) // _SAMPLE)]
        described = self._described(self.data.series(drawn))
        deviation = described.std(axis=0)
        return described.mean(axis=0), np.where(deviation < 1e-6, 1.0, deviation)

    def _described(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        return describe_series(x, normalization_of(self.data)).astype(np.float64)


def features_by_data(kind: str) -> Callable[[LabelledData], Features]:
    """Return a function that gives a data set's features, and keeps those of the last one."""
    last: Features | None = None

    def of(data: LabelledData) -> Features:
        nonlocal last
        if last is None or last.data is not data:
            last = Features(data, kind)
        return last

    return of


def class_weights(y: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return weights [n] with which each of K classes, at least two, weighs n / K in all."""
    counts = np.bincount(y, minlength=2)
    weights: NDArray[np.float64] = len(y) / (len(counts) * counts[y])
    return weights
