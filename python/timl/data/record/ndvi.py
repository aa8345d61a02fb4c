"""Measuring which NDVI series carry: CropHarvest's record holds another index under this name."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from timl.bands import BANDS

NDVI_BANDS = {"record": ("B7", "B3"), "true": ("B8", "B4")}
"""Bands a and b of each kind of NDVI, (a - b) / (a + b): CropHarvest's record holds the first."""


def normalised_difference(
    high: NDArray[np.float64], low: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (high - low) / (high + low), and 0 where the sum is not above 0 or is missing."""
    total = high + low
    return np.divide(high - low, total, out=np.zeros_like(total), where=total > 0)


class NdviMeter:
    """Meter of the NDVI that the last band of series holds; it takes them block by block."""

    def __init__(self) -> None:
        self._count = 0
        self._fitting = dict.fromkeys(NDVI_BANDS, 0)

    def add(self, series: NDArray[np.float32]) -> None:
        """Measure some series, float32 [n, 12, 18], as measured and not normalised."""
        self._count += series.shape[0] * series.shape[1]
        for name, (upper, lower) in NDVI_BANDS.items():
            high = series[..., BANDS.index(upper)].astype(np.float64)
            low = series[..., BANDS.index(lower)].astype(np.float64)
            expected = normalised_difference(high, low)
            difference = np.abs(series[..., BANDS.index("NDVI")] - expected)
            self._fitting[name] += int((difference < 1e-4).sum())

    def result(self) -> str:
        """Return the NDVI that the series hold, "record", "true" or "unknown".

        It is the kind that at least 9 in 10 values equal, and "unknown" if they equal neither or
        both.
        """
        fitting = [name for name, n in self._fitting.items() if n >= 0.9 * self._count > 0]
        return fitting[0] if len(fitting) == 1 else "unknown"
