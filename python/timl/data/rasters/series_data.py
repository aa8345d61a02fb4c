"""A data set of labelled series in memory, of any numbers of steps and bands."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from timl.data.regions.boxes import BBox
from timl.data.tasks.labelled_data import BenchmarkTask
from timl.data.tasks.test_instance import TestInstance
from timl.normalization import Normalization, normalization_of

if TYPE_CHECKING:
    import pandas as pd


class SeriesData:
    """A `LabelledData` of series in memory.

    Parameters
    ----------
    labels
        Table of the labels, with the columns of `LabelledData.labels`; each row's ``position`` is
        that of its series.
    series : float32 array of shape [n, T, F]
        Series as measured.
    normalization
        Statistics of the bands.
    regions
        Regions to make tasks in.

    Attributes
    ----------
    labels, regions
        As given.
    mean, std : float64 arrays of shape [F]
        Statistics of the bands.
    ndvi
        Name of the index that an NDVI column holds.
    start_months
        Calendar months in which the series start; None where unknown.
    benchmarks
        Evaluation tasks: none.

    Raises
    ------
    ValueError
        If shapes do not fit, or a position is of no series.
    """

    benchmarks: Sequence[BenchmarkTask] = ()

    def __init__(
        self,
        labels: pd.DataFrame,
        series: NDArray[np.float32],
        normalization: Normalization,
        regions: Sequence[BBox] | None = None,
    ) -> None:
        bands = len(normalization["mean"])
        positions = labels["position"].to_numpy()
        if series.ndim != 3 or series.shape[2] != bands:
            raise ValueError(
                f"series has shape {list(series.shape)} for statistics of {bands} bands: give "
                f"[n, T, {bands}]"
            )
        if len(positions) and not -1 <= positions.min() <= positions.max() < len(series):
            raise ValueError(
                f"labels has positions from {positions.min()} to {positions.max()} of "
                f"{len(series)} series: give 0 to {len(series) - 1}, or -1"
            )
        self.labels, self.regions, self._series = labels, regions, series
        self.mean, self.std = normalization["mean"], normalization["std"]
        self.ndvi = normalization["ndvi"]
        self.start_months: list[int] | None = normalization.get("start_months")

    def __len__(self) -> int:
        return len(self._series)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self._series.shape)}: series, steps, bands)"

    @property
    def normalization(self) -> Normalization:
        """Preparation of the series, for a model that is trained on them."""
        return normalization_of(self)

    @property
    def checksum(self) -> str:
        """Text that differs for other data."""
        found = hashlib.sha256(np.ascontiguousarray(self._series).tobytes())
        found.update(self.labels.to_csv().encode())
        return found.hexdigest()

    def series(self, positions: ArrayLike, normalize: bool = True) -> NDArray[np.float32]:
        """Return the series at some positions, float32 [*positions.shape, T, F]."""
        x = self._series[np.asarray(positions, np.int64)]
        return normalised(x, self.mean, self.std) if normalize else x

    def test_instance(self, identifier: str, normalize: bool = True) -> TestInstance:
        """Raise FileNotFoundError: test sets belong to tasks."""
        raise FileNotFoundError(
            f"identifier is {identifier!r}, and the data set has no test sets: take that of a task"
        )


def normalised(
    x: NDArray[np.float32], mean: NDArray[np.float64], std: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return (x - mean) / std, computed in float64 and rounded once, float32 [..., F]."""
    result: NDArray[np.float32] = ((x.astype(np.float64) - mean) / std).astype(np.float32)
    return result


def statistics_of_series(
    x: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each band of series [n, T, F], 1 for a constant one."""
    mean = x.mean(axis=(0, 1), dtype=np.float64)
    std = x.std(axis=(0, 1), dtype=np.float64)
    return mean, np.where(std > 0, std, 1.0)
