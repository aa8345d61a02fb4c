"""Description of a series for the strong protocol: its values, vegetation indices and seasons."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timl.bands import BANDS
from timl.nn import operators
from timl.normalization import Normalization
from timl.reference.strong import INDICES, LEAST_STEPS, MEASURED, STATISTICS


class Columns(NamedTuple):
    """Origin of each number of a description, int64 arrays of shape [D]."""

    band: NDArray[np.int64]
    """Number of the band, or 18 and more for an index."""
    month: NDArray[np.int64]
    """Number of the time step; -1 for a statistic of the year."""


def description_size(steps: int) -> int:
    """Return how many numbers describe a series of so many time steps."""
    return steps * (len(BANDS) + INDICES) + STATISTICS * (INDICES + MEASURED)


def series_part(described: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the numbers of the series themselves, with which descriptions [n, D] begin."""
    monthly = described.shape[1] - STATISTICS * (INDICES + MEASURED)
    return described[:, : monthly // (len(BANDS) + INDICES) * len(BANDS)]


def description_columns(steps: int) -> Columns:
    """Return where each number of a description comes from, in the order of `describe_series`."""
    bands, indices = np.arange(len(BANDS)), len(BANDS) + np.arange(INDICES)
    parts = [
        np.tile(bands, steps),
        np.tile(indices, steps),
        np.tile(indices, STATISTICS),
        np.tile(bands[:MEASURED], STATISTICS),
    ]
    months = np.full(description_size(steps), -1)
    series = steps * len(BANDS)
    months[:series] = np.repeat(np.arange(steps), len(BANDS))
    months[series : series + steps * INDICES] = np.repeat(np.arange(steps), INDICES)
    return Columns(np.concatenate(parts), months)


def describe_series(x: NDArray[np.float32], normalization: Normalization) -> NDArray[np.float32]:
    """Describe series by their numbers, vegetation indices, and order statistics of the year.

    The engine computes them, and the classifier computes the same bits when it predicts, so that
    its trees see the very numbers that they were fitted to.

    Parameters
    ----------
    x : float32 array of shape [n, T, 18]
        Normalised series of the record's bands, T at least 4, finite.
    normalization
        How they were normalised.

    Returns
    -------
    float32 array of shape [n, T * 18 + T * 8 + 7 * (8 + 13)]
        The values in a row; eight indices of each month; and for each index and measured band
        mean, standard deviation, minimum, maximum, the two quartiles of the year, and the mean
        absolute change from month to month, which hardly depend on when the season begins.

    Raises
    ------
    ValueError
        If `x` has another shape.
    RuntimeError
        If `x` has NaN or infinite values.
    """
    if x.ndim != 3 or x.shape[1] < LEAST_STEPS or x.shape[2] != len(BANDS):
        raise ValueError(
            f"x is of shape {list(x.shape)}: give [n, T, {len(BANDS)}], the record's bands, T at "
            f"least {LEAST_STEPS}"
        )
    if len(x) == 0:
        return np.empty((0, description_size(x.shape[1])), np.float32)
    series = torch.from_numpy(np.array(x, np.float32, order="C"))
    described: NDArray[np.float32] = operators.describe(
        series, normalization_tensor(normalization, series)
    ).numpy()
    return described


def normalization_tensor(normalization: Normalization, like: Tensor) -> Tensor:
    """Return mean and standard deviation of the bands as the operators take them, [2, 18]."""
    rows = np.stack([normalization["mean"], normalization["std"]])
    return torch.from_numpy(rows).to(like)
