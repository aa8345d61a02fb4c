"""Writing small finished maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

TAGS = {
    "TIML_TARGET": "maize",
    "TIML_THRESHOLD": "0.42",
    "TIML_VERSION": "1.2.3",
    "TIML_CREATED": "2026-02-03T10:11:12Z",
    "TIML_START": "2019-02",
    "TIML_END": "2020-01",
    "TIML_MODEL": "strong",
    "TIML_SOURCE": "exports",
}


def made_bands(height: int, width: int) -> dict[str, NDArray[np.float32]]:
    """All bands of a map, its first column without data."""
    generator = np.random.default_rng(0)
    probability = generator.uniform(0, 1, (height, width)).astype(np.float32)
    bands = {
        "probability": probability,
        "class": (probability >= 0.42).astype(np.float32),
        "uncertainty": generator.uniform(0, 0.4, (height, width)).astype(np.float32),
        "unlike": generator.uniform(0, 2.5, (height, width)).astype(np.float32),
    }
    for band in bands.values():
        band[:, 0] = np.nan
    return bands


def write_map(
    path: Path,
    bands: dict[str, NDArray[np.float32]],
    crs: str | None = "EPSG:4326",
    west: float = 34.2,
    north: float = 0.6,
    pixel: float = 0.0001,
    tags: dict[str, str] | None = None,
    overviews: tuple[int, ...] = (),
) -> Path:
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.transform import from_origin

    height, width = next(iter(bands.values())).shape
    options: dict[str, Any] = {"driver": "GTiff", "dtype": "float32", "nodata": np.nan}
    transform = from_origin(west, north, pixel, pixel)
    with rasterio.open(
        path, "w", count=len(bands), height=height, width=width, crs=crs, transform=transform,
        **options,
    ) as file:  # fmt: skip
        for number, (name, band) in enumerate(bands.items(), start=1):
            file.write(band, number)
            file.set_band_description(number, name)
        file.update_tags(**(TAGS if tags is None else tags))
        if overviews:
            file.build_overviews(overviews, Resampling.average)
    return path


def made_points() -> pd.DataFrame:
    """Three points, of which the last is outside a map of 20 x 30 pixels at the default place."""
    return pd.DataFrame(
        {
            "lat": [0.5995, 0.59905, 0.7],
            "lon": [34.2005, 34.20155, 34.2],
            "label": ["positive", "negative", "positive"],
            "name": ["</script><script>alert(1)</script>", "", "far away"],
        }
    )
