"""Series as a cube of xarray with dimensions time, band, y and x, in memory or in chunks."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from timl.bands import STEPS
from timl.data.own.exports import DYNAMIC_BANDS, STATIC_BANDS, require_reference_system
from timl.data.sources.grid import Grid
from timl.data.sources.windows import Window, windows

if TYPE_CHECKING:
    import xarray as xr

_DIMENSIONS = ("time", "band", "y", "x")
_STEP_DAYS = (20, 45)
"""Days between two time steps: at least, and at most."""


@dataclass(frozen=True)
class CubeSource:
    """Pixels of a cube, see `FileSource` for the attributes that they share.

    Attributes
    ----------
    raw : DataArray of shape [17 steps + 2, y, x]
        Bands in the order of the export format, north first.
    """

    name: str
    grid: Grid
    steps: int
    start: date | None
    identity: str
    windows: list[Window]
    raw: xr.DataArray

    def read(self, window: Window, bands: slice = slice(None)) -> NDArray[np.float64]:
        """Read bands of a window, as `FileSource.read`."""
        rows, columns = window.slices
        part = self.raw[bands, rows, columns]
        if part.chunks is not None:
            part = part.compute(scheduler="synchronous")
        values: NDArray[np.float64] = part.to_numpy().astype(np.float64)
        values[~np.isfinite(values)] = np.nan
        return values


def open_cube(cube: xr.DataArray | xr.Dataset | str | Path) -> CubeSource:
    """Open a cube as a source.

    Parameters
    ----------
    cube
        DataArray with the dimensions time, band, y and x, whose coordinate band names the bands of
        `DYNAMIC_BANDS` and `STATIC_BANDS` (of these the first step is taken); a Dataset with a
        variable for each band; or a Zarr store of either, as a folder or an address.

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If dimensions, names, times or the reference system are missing or make no sense.
    """
    xarray = import_xarray()
    name = str(cube) if isinstance(cube, str | Path) else "the cube"
    array = _array(_open_zarr(cube, xarray) if isinstance(cube, str | Path) else cube, xarray)
    if set(array.dims) != set(_DIMENSIONS):
        raise ValueError(
            f"{name} is of dimensions {dict(array.sizes)}: give time, band, y and x, in any order"
        )
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} is of {array.dtype}: give real numbers, such as float32")
    array = array.transpose(*_DIMENSIONS)
    require_reference_system(array.rio.crs, name)
    places = _band_places(array, name)
    start = _start(array, name)
    array = _north_first(array, name)
    steps, _, height, width = array.shape
    dynamic = array.isel(band=places[: len(DYNAMIC_BANDS)])
    static = array.isel(band=places[len(DYNAMIC_BANDS) :], time=0)
    raw = xarray.concat(
        [_channels(dynamic.stack(channel=("time", "band"))), _channels(static, "band")],
        dim="channel",
    )
    block = (256, 256)
    if array.chunks is not None:
        block = (max(array.chunks[2]), max(array.chunks[3]))
    return CubeSource(
        name=name,
        grid=Grid(array.rio.crs, array.rio.transform(recalc=True), height, width),
        steps=steps,
        start=start,
        identity=_identity(array),
        windows=windows(height, width, block),
        raw=raw,
    )


def import_xarray() -> Any:
    """Import xarray with rioxarray, or raise an ImportError that says how to install them."""
    try:
        import rioxarray  # noqa: F401  (it adds .rio)
        import xarray
    except ImportError as error:
        raise ImportError(
            "this needs xarray and rioxarray: install them with pip install 'timl[maps]'"
        ) from error
    return xarray


def _open_zarr(store: str | Path, xarray: Any) -> Any:
    """Open a Zarr store, or raise a ValueError that names it."""
    try:
        with warnings.catch_warnings():  # of metadata that are not consolidated, which may be so
            warnings.simplefilter("ignore", RuntimeWarning)
            opened = xarray.open_zarr(store, decode_coords="all")
    except (FileNotFoundError, ImportError):
        raise
    except Exception as error:  # damaged metadata raise errors of many kinds
        reason = " ".join(str(error).split())
        raise ValueError(
            f"source is {store}, which is no readable Zarr store ({reason}): give another"
        ) from error
    if not opened.data_vars:
        raise ValueError(f"source is {store}, a Zarr store without arrays: give another")
    return opened


def _array(given: Any, xarray: Any) -> xr.DataArray:
    """Return a cube as one array with the bands along a dimension, and its reference system."""
    if isinstance(given, xarray.Dataset):
        reference = given.rio.crs
        given = given.drop_vars("spatial_ref", errors="ignore")
        if len(given.data_vars) == 1:
            (given,) = given.data_vars.values()
        else:
            given = given.to_dataarray("band")
        given = given if reference is None else given.rio.write_crs(reference)
    if not isinstance(given, xarray.DataArray):
        raise TypeError(f"source is a {type(given).__name__}: give files, an xarray object or Zarr")
    array: xr.DataArray = given
    return array


def _channels(cube: xr.DataArray, dimension: str = "channel") -> xr.DataArray:
    """Return a cube as [channel, y, x] without coordinates of the channels."""
    if dimension != "channel":
        cube = cube.rename({dimension: "channel"})
    names = [name for name in ("time", "band", "channel") if name in cube.coords]
    made: xr.DataArray = (
        cube.reset_index("channel", drop=True)
        .drop_vars(names, errors="ignore")
        .transpose("channel", "y", "x")
    )
    return made


def _band_places(cube: xr.DataArray, name: str) -> list[int]:
    """Return the place of each band of the export format."""
    if "band" not in cube.coords:
        raise ValueError(
            f"{name} has no coordinate 'band', so that the order of its {cube.sizes['band']} bands "
            f"cannot be known: name them with .assign_coords(band=[...])"
        )
    given = [str(band) for band in cube["band"].to_numpy()]
    wanted = (*DYNAMIC_BANDS, *STATIC_BANDS)
    missing = [band for band in wanted if given.count(band) != 1]
    if missing:
        raise ValueError(
            f"{name} has the bands {', '.join(given)}: give each of {', '.join(missing)} once"
        )
    return [given.index(band) for band in wanted]


def _start(cube: xr.DataArray, name: str) -> date | None:
    """Return the day of the first time step, None where the steps have no times."""
    if "time" not in cube.coords:
        if cube.sizes["time"] < STEPS:
            raise ValueError(f"{name} has {cube.sizes['time']} time steps: give at least {STEPS}")
        return None
    times = cube["time"].to_numpy()
    if not np.issubdtype(times.dtype, np.datetime64):
        raise ValueError(f"{name} has times of type {times.dtype}: give datetime64, or no times")
    days = times.astype("datetime64[D]")
    gaps = np.diff(days).astype(int)
    least, most = _STEP_DAYS
    if len(days) < STEPS or not ((gaps >= least) & (gaps <= most)).all():
        raise ValueError(
            f"{name} has {len(days)} time steps with {gaps.min() if len(gaps) else 0} to "
            f"{gaps.max() if len(gaps) else 0} days between them: give at least {STEPS} monthly "
            f"ones, in order"
        )
    first: date = days[0].item()
    return first


def _north_first(cube: xr.DataArray, name: str) -> xr.DataArray:
    """Return the cube with falling y and rising x, which must be even."""
    for axis, sign in (("y", -1), ("x", 1)):
        if axis not in cube.coords:
            raise ValueError(f"{name} has no coordinate {axis!r}: give the centres of its pixels")
        values = cube[axis].to_numpy().astype(np.float64)
        if len(values) > 1 and sign * (values[-1] - values[0]) < 0:
            cube, values = cube.isel({axis: slice(None, None, -1)}), values[::-1]
        steps = np.diff(values)
        if len(steps) and not np.allclose(steps, steps.mean(), rtol=1e-3, atol=0):
            raise ValueError(f"{name} has uneven coordinates {axis}: give one on an even grid")
    return cube


def _identity(cube: xr.DataArray) -> str:
    """Return a text that changes with the cube's values, or with the graph of its chunks."""
    if cube.chunks is not None:
        return f"{cube.data.name} {cube.shape}"
    digest = hashlib.sha256(np.ascontiguousarray(cube.to_numpy()).data)
    return f"{digest.hexdigest()} {cube.shape}"
