"""Source of a map: files or a cube, its first month, and means to fill missing values by."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from timl.bands import BANDS, SERIES_SHAPE, STEPS
from timl.data.own.exports import (
    DYNAMIC_BANDS,
    STATIC_BANDS,
    Fill,
    means_of_sums,
    series_of_bands,
    sums_of_series,
)
from timl.data.sources.cube import CubeSource, open_cube
from timl.data.sources.files import FileSource, open_files

if TYPE_CHECKING:
    import xarray as xr

Source: TypeAlias = FileSource | CubeSource
SourceLike: TypeAlias = "str | Path | Sequence[str | Path] | xr.DataArray | xr.Dataset"


def open_source(source: SourceLike, vrt_within: str | Path | None = None) -> Source:
    """Open files or a cube, see `open_files`, which takes `vrt_within`, and `open_cube`."""
    if isinstance(source, str | Path):
        text = str(source).rstrip("/")
        folder = Path(text)
        stored = any((folder / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))
        if stored or text.endswith(".zarr"):
            return open_cube(text)
        return open_files(source, vrt_within)
    if hasattr(source, "dims"):  # without importing xarray for files
        return open_cube(cast("xr.DataArray | xr.Dataset", source))
    if isinstance(source, Sequence):
        return open_files(source, vrt_within)
    raise TypeError(
        f"source is a {type(source).__name__}: give a GeoTIFF, a folder, a list of files, a Zarr "
        f"store or an xarray object"
    )


def first_step(source: Source, months: Sequence[int] | None, any_month: bool) -> int:
    """Return the first time step of the 12 that a map takes.

    Where both months are known it is the first whose calendar month is one that the model's series
    start in; a source of 24 months has them all.

    Parameters
    ----------
    source
        Source of the map.
    months
        Calendar months in which the model's series start; None where unknown.
    any_month
        Take the source's first step whatever its month.

    Raises
    ------
    ValueError
        If the source has no 12 steps that start in such a month.
    """
    if any_month or months is None or source.start is None:
        return 0
    starts = range(source.steps - STEPS + 1)
    for step in starts:
        if (source.start.month - 1 + step) % 12 + 1 in months:
            return step
    raise ValueError(
        f"source {source.name} starts in month {source.start.month} ({source.start:%Y-%m}), but "
        f"the model's series start in month {' or '.join(map(str, months))}: give an export of "
        f"those months, or any_month=True (--any-month) to map it all the same"
    )


def take_steps(raw: NDArray[np.float64], first: int) -> NDArray[np.float64]:
    """Return the bands of 12 steps from the given one, and the bands without steps, [206, *]."""
    per_step, static = len(DYNAMIC_BANDS), len(STATIC_BANDS)
    if len(raw) == STEPS * per_step + static:
        return raw
    return np.concatenate([raw[first * per_step : (first + STEPS) * per_step], raw[-static:]])


def means_bands(fill: Fill) -> slice:
    """Return the bands of the export format that the means of `source_means` need."""
    return slice(None) if fill == "file" else slice(-1, None)


def window_sums(raw: NDArray[np.float64], first: int, ndvi: str, fill: Fill) -> NDArray[np.float64]:
    """Return sums and numbers of a window's values, float64 [2, 12, 18].

    Parameters
    ----------
    raw : float64 array of shape [bands, height, width]
        The bands of `means_bands`.
    first, ndvi, fill
        As of `source_means`.
    """
    pixels = raw.reshape(len(raw), -1)
    if fill == "file":
        series = series_of_bands(take_steps(pixels, first), ndvi)
    else:
        series = np.full((pixels.shape[1], *SERIES_SHAPE), np.nan)
        series[:, :, BANDS.index("slope")] = pixels[0][:, None]
    return sums_of_series(series)


def source_means(source: Source, first: int, ndvi: str, fill: Fill) -> NDArray[np.float64]:
    """Return the means of a source's bands that missing values are filled by: see `means_of_sums`.

    The source is read once for them, when they are first asked for in a process.

    Parameters
    ----------
    source
        Source of the map.
    first, ndvi
        First time step, kind of NDVI.
    fill
        "file" needs all bands' means; "pixel" the slope's alone, the rest is NaN.

    Returns
    -------
    float64 array of shape [18]
    """
    key = (source.identity, first, ndvi, fill)
    with _means_lock:
        if key not in _means:
            bands = means_bands(fill)
            _means[key] = means_of_sums(
                [window_sums(source.read(w, bands), first, ndvi, fill) for w in source.windows]
            )
        return _means[key]


_means: dict[tuple[str, int, str, str], NDArray[np.float64]] = {}
_means_lock = threading.Lock()
