"""Writing small exports in CropHarvest's GeoTIFF format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from timl.data.own.exports import DYNAMIC_BANDS, STATIC_BANDS

PIXEL = 0.0001
"""Degrees."""

NAMES = [
    *(f"{band}_{step}" if step else band for step in range(12) for band in DYNAMIC_BANDS),
    *STATIC_BANDS,
]
"""Descriptions of the bands of an export of 12 steps, as the exporter writes them."""


def bands(height: int, width: int, steps: int = 12, seed: int = 0) -> NDArray[np.float64]:
    """Random bands, [17 steps + 2, height, width]."""
    generator = np.random.default_rng(seed)
    return generator.uniform(10, 5000, (17 * steps + 2, height, width))


def write_export(
    path: Path,
    raw: NDArray[np.float64],
    west: float = 34.0,
    north: float = 1.0,
    crs: str | None = "EPSG:4326",
    pixel: float = PIXEL,
    **profile: Any,
) -> Path:
    import rasterio
    from rasterio.transform import from_origin

    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = raw.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=count,
        height=height,
        width=width,
        dtype="float64",
        crs=crs,
        transform=from_origin(west, north, pixel, pixel),
        **profile,
    ) as file:
        file.write(raw)
    return path


def centre(row: int, column: int, west: float = 34.0, north: float = 1.0) -> tuple[float, float]:
    """Latitude and longitude of a pixel's middle."""
    return north - (row + 0.5) * PIXEL, west + (column + 0.5) * PIXEL
