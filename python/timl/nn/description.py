"""Description of a series for the strong protocol: its values, vegetation indices and seasons."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from timl.bands import BANDS
from timl.normalization import Normalization

_REFLECTANCE = 1e4
"""Digital number that Sentinel-2 gives a reflectance of 1."""
_PAIRS = (
    ("B8", "B4"),  # NDVI, whatever index the record's own column holds
    ("B8", "B11"),  # moisture of leaves
    ("B3", "B8"),  # open water
    ("B11", "B12"),  # residue and tillage
    ("B8", "B5"),  # chlorophyll at the red edge
    ("B3", "B11"),  # flooding and snow
    ("B8A", "B5"),  # chlorophyll, from the narrow near infrared
)
"""Bands (p, q) of the normalised differences (p - q) / (p + q)."""
_MEASURED = 13
"""Number of bands, the first of a series: radar and optical. Their seasons are described too."""
_INDICES = len(_PAIRS) + 1
"""Number of vegetation indices: the normalised differences and EVI."""
_STATISTICS = 7
"""Number of statistics of the year."""


class Columns(NamedTuple):
    """Origin of each number of a description, int64 arrays of shape [D]."""

    band: NDArray[np.int64]
    """Number of the band, or 18 and more for an index."""
    month: NDArray[np.int64]
    """Number of the time step; -1 for a statistic of the year."""


def description_size(steps: int) -> int:
    """Return how many numbers describe a series of so many time steps."""
    return steps * (len(BANDS) + _INDICES) + _STATISTICS * (_INDICES + _MEASURED)


def series_part(described: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the numbers of the series themselves, with which descriptions [n, D] begin."""
    monthly = described.shape[1] - _STATISTICS * (_INDICES + _MEASURED)
    return described[:, : monthly // (len(BANDS) + _INDICES) * len(BANDS)]


def description_columns(steps: int) -> Columns:
    """Return where each number of a description comes from, in the order of `describe_series`."""
    bands, indices = np.arange(len(BANDS)), len(BANDS) + np.arange(_INDICES)
    parts = [
        np.tile(bands, steps),
        np.tile(indices, steps),
        np.tile(indices, _STATISTICS),
        np.tile(bands[:_MEASURED], _STATISTICS),
    ]
    months = np.full(description_size(steps), -1)
    series = steps * len(BANDS)
    months[:series] = np.repeat(np.arange(steps), len(BANDS))
    months[series : series + steps * _INDICES] = np.repeat(np.arange(steps), _INDICES)
    return Columns(np.concatenate(parts), months)


def describe_series(x: NDArray[np.float32], normalization: Normalization) -> NDArray[np.float64]:
    """Describe series by their numbers, vegetation indices, and order statistics of the year.

    Parameters
    ----------
    x : float32 array of shape [n, T, 18]
        Normalised series of the record's bands, T at least 4.
    normalization
        How they were normalised.

    Returns
    -------
    float64 array of shape [n, T * 18 + T * 8 + 7 * (8 + 13)]
        The values in a row; eight indices of each month; and for each index and measured band
        mean, standard deviation, minimum, maximum, the two quartiles of the year, and the mean
        absolute change from month to month, which hardly depend on when the season begins.

    Raises
    ------
    ValueError
        If `x` has another shape.
    """
    if x.ndim != 3 or x.shape[1] < 4 or x.shape[2] != len(BANDS):
        raise ValueError(
            f"x is of shape {list(x.shape)}: give [n, T, {len(BANDS)}], the record's bands, T at "
            f"least 4"
        )
    series = x.astype(np.float64)
    indices = _indices(series * normalization["std"] + normalization["mean"])
    return np.concatenate(
        [
            series.reshape(len(x), -1),
            indices.reshape(len(x), -1),
            _seasons(indices),
            _seasons(series[..., :_MEASURED]),
        ],
        axis=1,
    )


def _indices(measured: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the seven normalised differences and EVI of each month, [n, T, 8]."""
    band = {name: measured[..., number] for number, name in enumerate(BANDS)}
    made = [
        np.clip((band[p] - band[q]) / np.maximum(band[p] + band[q], 1.0), -1, 1) for p, q in _PAIRS
    ]
    below = band["B8"] + 6 * band["B4"] - 7.5 * band["B2"] + _REFLECTANCE
    made.append(np.clip(2.5 * (band["B8"] - band["B4"]) / np.maximum(below, 1.0), -1, 2))
    return np.stack(made, axis=-1)


def _seasons(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return seven statistics of the year of [n, T, C], [n, 7 C]."""
    months = values.shape[1]
    ordered = np.sort(values, axis=1)
    return np.concatenate(
        [
            values.mean(axis=1),
            values.std(axis=1),
            ordered[:, 0],
            ordered[:, -1],
            ordered[:, months // 4],
            ordered[:, -1 - months // 4],
            np.abs(np.diff(values, axis=1)).mean(axis=1),
        ],
        axis=1,
    )
