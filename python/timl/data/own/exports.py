"""Exports in CropHarvest's GeoTIFF format, read as series.

A file holds at least 12 steps of 30 days, oldest first, each of the 17 bands of `DYNAMIC_BANDS`,
then elevation and slope. A pixel's series is made as the record's were: an NDVI appended, B1 and
B10 dropped, then what is missing filled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from timl.bands import BANDS, SERIES_SHAPE, STEPS
from timl.data.record.ndvi import NDVI_BANDS, normalised_difference

DYNAMIC_BANDS = (
    "VV",
    "VH",
    "B1",
    "B2",
    "B3",
    "B4",
    "B5",
    "B6",
    "B7",
    "B8",
    "B8A",
    "B9",
    "B10",
    "B11",
    "B12",
    "temperature_2m",
    "total_precipitation",
)
"""Bands of each step of an export, in order."""

STATIC_BANDS = ("elevation", "slope")
"""Bands of an export after those of its steps."""

Fill = Literal["pixel", "file"]
"""Kinds of mean that missing values are filled by, see `fill_missing`."""

_PIXELS = 1 << 15
"""Most pixels of a window, about: 110 MB of it as bands and as series."""
_KEPT = [DYNAMIC_BANDS.index(band) for band in BANDS[: -len(STATIC_BANDS) - 1]]
"""Places of a step's bands that series keep: they come first, then `STATIC_BANDS` and the NDVI."""


def series_of_bands(raw: NDArray[Any], ndvi: str) -> NDArray[np.float64]:
    """Turn the bands of an export into series, without filling what is missing.

    Parameters
    ----------
    raw : array of shape [17 steps + 2, n]
        Bands of n pixels as in the file; NaN is missing.
    ndvi
        Kind of NDVI: "true" for (B8 - B4) / (B8 + B4), "record" for (B7 - B3) / (B7 + B3), as the
        record's series carry it. Either is 0 where the sum is not above 0 or is missing.

    Returns
    -------
    float64 array of shape [n, 12, 18]
        Series of the first 12 steps.

    Raises
    ------
    ValueError
        If the number of bands does not fit or there is no such NDVI.
    """
    if ndvi not in NDVI_BANDS:
        raise ValueError(
            f"ndvi is {ndvi!r}: give 'true' or 'record', whichever the model's series carry"
        )
    check_band_count(len(raw), "raw")
    per_step, pixels = len(DYNAMIC_BANDS), raw.shape[1]
    dynamic = raw[: STEPS * per_step].reshape(STEPS, per_step, pixels)
    high, low = (
        dynamic[:, DYNAMIC_BANDS.index(band)].astype(np.float64) for band in NDVI_BANDS[ndvi]
    )
    series = np.empty((STEPS, len(BANDS), pixels))
    series[:, : len(_KEPT)] = dynamic[:, _KEPT]
    series[:, len(_KEPT) : -1] = raw[-len(STATIC_BANDS) :]
    series[:, -1] = normalised_difference(high, low)
    pixels_first: NDArray[np.float64] = np.transpose(series, (2, 0, 1))
    return pixels_first


def check_band_count(count: int, source: object) -> None:
    """Raise ValueError unless an export may have so many bands."""
    steps, left = divmod(count - len(STATIC_BANDS), len(DYNAMIC_BANDS))
    if left or steps < STEPS:
        per_step = len(DYNAMIC_BANDS)
        raise ValueError(
            f"{source} has {count} bands: give an export in CropHarvest's format, with {per_step} "
            f"bands a step, at least {STEPS} steps, then {' and '.join(STATIC_BANDS)}, "
            f"{STEPS * per_step + len(STATIC_BANDS)} or {per_step} more a further step"
        )


def sums_of_series(series: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sums and numbers of the values of some pixels' series; NaN is left out.

    Parameters
    ----------
    series : float64 array of shape [n, 12, 18]
        Series of some of a file's pixels.

    Returns
    -------
    float64 array of shape [2, 12, 18]
    """
    present = ~np.isnan(series)
    return np.stack([np.where(present, series, 0.0).sum(axis=0), present.sum(axis=0)])


def means_of_sums(sums: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return each band's mean over time of its mean over pixels.

    Parameters
    ----------
    sums
        `sums_of_series` of all pixels of a file, of some at a time.

    Returns
    -------
    float64 array of shape [18]
        NaN for a band that is missing everywhere.
    """
    total, count = np.sum(np.stack(sums), axis=0)
    return _mean(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))


def require_fill(fill: object) -> None:
    """Raise ValueError unless there is such a filling of missing values."""
    if fill not in get_args(Fill):
        raise ValueError(f"fill is {fill!r}: give {' or '.join(map(repr, get_args(Fill)))}")


def fill_missing(
    series: NDArray[np.float64], means: NDArray[np.float64], by: Fill
) -> NDArray[np.float64]:
    """Replace NaN by a mean of its band.

    Parameters
    ----------
    series : float64 array of shape [n, 12, 18]
        Series with gaps, NaN.
    means : float64 array of shape [18]
        Means of the bands over the whole file: see `means_of_sums`.
    by
        Kind of mean. "file": take ``means``, as CropHarvest does for maps and test files. "pixel":
        the mean of the pixel's own steps, as it does for the record's training series, and of
        ``means`` only the slope, where a pixel has none.

    Returns
    -------
    float64 array of shape [n, 12, 18]
        NaN stays where there is no mean either.
    """
    if by == "file":
        return np.where(np.isnan(series), means, series)
    own = _mean(series.swapaxes(0, 1))  # [n, 18]
    slope = BANDS.index("slope")
    own[:, slope] = np.where(np.isnan(own[:, slope]), means[slope], own[:, slope])
    return np.where(np.isnan(series), own[:, None], series)


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the first axis without NaN; NaN where there is nothing else."""
    present = ~np.isnan(values)
    count = present.sum(axis=0)
    total = np.where(present, values, 0.0).sum(axis=0)
    means: NDArray[np.float64] = np.full(total.shape, np.nan)
    np.divide(total, count, out=means, where=count > 0)
    return means


@dataclass(frozen=True, eq=False, repr=False)
class Export:
    """An export as series.

    Parameters
    ----------
    path
        GeoTIFF of the export.
    series : array of shape [n, 12, 18]
        Series as measured, not normalised; n = height * width pixels, row by row from the north,
        each from the west. NaN where a band is missing and there is no mean to fill it by. float32
        where the file's type fits into it (float32, integers of 16 bits), else float64.
    lats, lons : float64 arrays of shape [n]
        Centres of the pixels, degrees.
    height, width
        Numbers of rows and columns of pixels.
    """

    path: Path
    series: NDArray[np.float32] | NDArray[np.float64]
    lats: NDArray[np.float64]
    lons: NDArray[np.float64]
    height: int
    width: int

    def __repr__(self) -> str:
        return f"Export({self.path.name!r}, {self.height} x {self.width} pixels)"


def read_export(path: str | Path, ndvi: str, fill: Fill = "file") -> Export:
    """Read all series of an export, window by window: in memory are they and one window.

    Parameters
    ----------
    path
        GeoTIFF in CropHarvest's format.
    ndvi
        Kind of NDVI, "true" or "record": see `series_of_bands`. Take that of the data set or model.
    fill
        Filling of missing values: see `fill_missing`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it cannot be read, is not in that format, is not stored north first, or there is no such
        filling.
    ImportError
        If rasterio is not installed: the extra ``timl[maps]``.
    """
    require_fill(fill)
    with open_export(path) as file:
        kind = np.result_type(np.float32, *file.dtypes)  # float64 for what float32 cannot hold
        series = np.empty((file.height * file.width, *SERIES_SHAPE), kind)
        grid = series.reshape(file.height, file.width, *SERIES_SHAPE)
        sums = []
        for rows, columns in _windows(file):
            part = _series_of_window(file, rows, columns, ndvi)
            sums.append(sums_of_series(part))
            grid[rows, columns] = part.reshape(grid[rows, columns].shape)
        means = means_of_sums(sums)
        for start in range(0, len(series), _PIXELS):
            part = series[start : start + _PIXELS]
            gaps = np.isnan(part).any(axis=(1, 2))
            if gaps.any():
                part[gaps] = fill_missing(part[gaps].astype(np.float64), means, fill)
        rows_of, columns_of = np.divmod(np.arange(len(series)), file.width)
        x, y = _apply(file.transform, columns_of + 0.5, rows_of + 0.5)
        lons, lats = _to_degrees(file, x, y)
        return Export(Path(path), series, lats, lons, file.height, file.width)


def _windows(file: Any) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of the windows that a file is read in: whole blocks, if not large."""
    height, width = file.block_shapes[0]
    columns = min(file.width, max(width, _PIXELS // height // width * width))
    rows = max(1, _PIXELS // columns)
    rows = rows // height * height or rows
    for row in range(0, file.height, rows):
        for column in range(0, file.width, columns):
            yield (
                slice(row, min(row + rows, file.height)),
                slice(column, min(column + columns, file.width)),
            )


def _series_of_window(file: Any, rows: slice, columns: slice, ndvi: str) -> NDArray[np.float64]:
    """Return the series of a window's pixels, unfilled, float64 [n, 12, 18]."""
    raw = _read_bands(file, rows, columns)
    return series_of_bands(raw.reshape(len(raw), -1), ndvi)


def open_export(path: str | Path) -> Any:
    """Open an export with rasterio and check its bands and reference system; to be closed."""
    file = open_raster(path, "path")
    try:
        check_band_count(file.count, path)
        require_layout(file, f"path is {path}, which")
    except ValueError:
        file.close()
        raise
    return file


def require_layout(file: Any, name: str) -> None:
    """Raise ValueError unless an open raster lies north first, west first, and holds real numbers.

    Parameters
    ----------
    file
        Raster that rasterio opened.
    name
        What it is, as the subject of the message.
    """
    t = file.transform
    if t.b or t.d:
        raise ValueError(f"{name} is rotated, by the affine map {tuple(t)[:6]}: warp it first")
    if not (t.a > 0 and t.e < 0):
        raise ValueError(
            f"{name} is stored south first or east first, with pixels of {t.a} by {t.e}: write it "
            f"north first, for instance with gdalwarp"
        )
    kinds = sorted({kind for kind in file.dtypes if "complex" in kind})
    if kinds:
        raise ValueError(f"{name} is of {', '.join(kinds)}: give bands of real numbers")


def open_raster(path: str | Path, name: str) -> Any:
    """Open a raster with rasterio and check that it has a reference system; to be closed.

    Parameters
    ----------
    path
        File to open.
    name
        Name of the argument in messages.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it cannot be read or has no reference system.
    ImportError
        If rasterio is not installed: the extra ``timl[maps]``.
    """
    rasterio = import_rasterio()
    if not Path(path).is_file():
        raise FileNotFoundError(f"{name} is {path}, which does not exist: give a GeoTIFF")
    try:
        file = rasterio.open(path, driver="GTiff")  # a VRT by another name reaches other files
    except rasterio.errors.RasterioError as error:
        raise ValueError(f"{name} is {path}, which is no readable GeoTIFF: {error}") from error
    try:
        require_reference_system(file.crs, f"{name} is {path}, which")
    except ValueError:
        file.close()
        raise
    return file


def require_reference_system(crs: Any, name: str) -> None:
    """Raise ValueError unless coordinates of a reference system have a place on the Earth.

    Parameters
    ----------
    crs
        Reference system as rasterio has it, or None.
    name
        What has it, as the subject of the message.
    """
    if crs is None:
        raise ValueError(f"{name} has no reference system: give one that has")
    rasterio = import_rasterio()
    from rasterio._err import CPLE_BaseError  # no RasterioError, and nowhere else

    try:
        rasterio.warp.transform(crs, "EPSG:4326", [0.0], [0.0])
    except (rasterio.errors.RasterioError, CPLE_BaseError) as error:
        raise ValueError(
            f"{name} has a reference system of no place on the Earth, {crs.to_wkt()[:80]}: give "
            f"one that can be turned into degrees"
        ) from error


def pixel_at(file: Any, lat: float, lon: float) -> tuple[int, int]:
    """Return row and column of the pixel that holds a point; they may be outside the file.

    Parameters
    ----------
    file
        Open export, from `open_export`.
    lat, lon
        Place of the point, degrees.
    """
    x, y = _from_degrees(file, np.array([lon]), np.array([lat]))
    columns, rows = _apply(~file.transform, x, y)
    column, row = float(columns[0]), float(rows[0])
    # a point on the eastern or southern edge belongs to the last pixel
    column -= column == file.width
    row -= row == file.height
    return int(np.floor(row)), int(np.floor(column))


def read_pixel(file: Any, row: int, column: int, ndvi: str, fill: Fill) -> NDArray[np.float64]:
    """Read one pixel's series, float64 [12, 18]; otherwise as `read_export`."""
    own = slice(row, row + 1), slice(column, column + 1)
    pixel = _series_of_window(file, *own, ndvi)
    means = np.full(len(BANDS), np.nan)
    slope = BANDS.index("slope")
    if fill == "file":
        means = means_of_sums(
            [sums_of_series(_series_of_window(file, *w, ndvi)) for w in _windows(file)]
        )
    elif np.isnan(pixel[:, :, slope]).all():
        last = [_read_bands(file, *w, band=file.count).ravel() for w in _windows(file)]
        means[slope] = _mean(np.concatenate(last))
    return fill_missing(pixel, means, fill).reshape(SERIES_SHAPE)


def import_rasterio() -> Any:
    """Import rasterio, or raise an ImportError that says how to install it."""
    try:
        import rasterio
        import rasterio.errors
        import rasterio.warp
        import rasterio.windows
    except ImportError as error:
        raise ImportError(
            "this needs rasterio: install it with pip install 'timl[maps]'"
        ) from error
    return rasterio


def _read_bands(
    file: Any, rows: slice, columns: slice, band: int | None = None
) -> NDArray[np.float64]:
    """Read all bands of a window, or one, [bands, rows, columns]; NaN is missing."""
    rasterio = import_rasterio()
    window = rasterio.windows.Window.from_slices(rows, columns)
    try:
        raw = file.read(None if band is None else [band], window=window).astype(np.float64)
    except rasterio.errors.RasterioError as error:
        raise ValueError(f"{file.name} is damaged: {error}") from error
    if file.nodata is not None:
        raw[raw == file.nodata] = np.nan
    raw[~np.isfinite(raw)] = np.nan
    return np.asarray(raw)


def _apply(
    transform: Any, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Apply an affine map to points."""
    return (
        transform.a * x + transform.b * y + transform.c,
        transform.d * x + transform.e * y + transform.f,
    )


def _to_degrees(
    file: Any, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return longitudes and latitudes of places in the file's reference system."""
    if file.crs.to_epsg() == 4326:
        return x, y
    lons, lats = import_rasterio().warp.transform(file.crs, "EPSG:4326", x, y)
    return np.asarray(lons), np.asarray(lats)


def _from_degrees(
    file: Any, lons: NDArray[np.float64], lats: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return places in the file's reference system of longitudes and latitudes."""
    if file.crs.to_epsg() == 4326:
        return lons, lats
    x, y = import_rasterio().warp.transform("EPSG:4326", file.crs, lons, lats)
    return np.asarray(x), np.asarray(y)
