"""Measuring which NDVI series carry: CropHarvest's record holds another index under this name."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from timl.bands import BANDS

_BANDS_OF = {"record": ("B7", "B3"), "true": ("B8", "B4")}


class NdviMeter:
    """Measures which NDVI the last band of series holds, block by block."""

    def __init__(self) -> None:
        self._count = 0
        self._fitting = dict.fromkeys(_BANDS_OF, 0)

    def add(self, series: NDArray[np.float32]) -> None:
        """Look at some series as measured, not normalised: float32 [n, 12, 18]."""
        self._count += series.shape[0] * series.shape[1]
        for name, (upper, lower) in _BANDS_OF.items():
            high = series[..., BANDS.index(upper)].astype(np.float64)
            low = series[..., BANDS.index(lower)].astype(np.float64)
            total = high + low
            ratio = np.divide(high - low, total, out=np.zeros_like(total), where=total > 0)
            difference = np.abs(series[..., BANDS.index("NDVI")] - ratio)
            self._fitting[name] += int((difference < 1e-4).sum())

    def result(self) -> str:
        """Say which NDVI the series hold.

        Returns
        -------
        str
            "true" if at least 9 in 10 values equal (B8 - B4) / (B8 + B4), "record" if they equal
            (B7 - B3) / (B7 + B3), as in CropHarvest's record; "unknown" if neither or both.
        """
        fitting = [name for name, n in self._fitting.items() if n >= 0.9 * self._count > 0]
        return fitting[0] if len(fitting) == 1 else "unknown"
