"""A map as a lazy xarray object, computed by Dask chunk by chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from timl.data.own.exports import means_of_sums
from timl.data.sources.cube import CubeSource, import_xarray
from timl.data.sources.source import Source, means_bands, source_means, window_sums
from timl.data.sources.windows import Window
from timl.maps.predictor import Predictor

if TYPE_CHECKING:
    import xarray as xr


def lazy_map(source: Source, predictor: Predictor) -> xr.Dataset:
    """Return a map whose windows are the chunks of a Dask array.

    Parameters
    ----------
    source
        Source of the map.
    predictor
        Prediction of a window.

    Returns
    -------
    Dataset
        A float32 variable [y, x] for each band of the map, with the centres of the pixels and the
        reference system. Of several classes the attribute `classes` of "class" has their names.

    Raises
    ------
    ImportError
        If xarray, rioxarray or Dask is not installed.
    """
    xarray = import_xarray()
    try:
        import dask.array
        from dask.delayed import delayed
    except ImportError as error:
        raise ImportError("this needs Dask: install it with pip install 'timl[maps]'") from error
    from_delayed: Any = dask.array.from_delayed  # without types of its own
    concatenate: Any = dask.array.concatenate
    grid, settings = (
        source.grid,
        (predictor.first, predictor.normalization["ndvi"], predictor.fill),
    )
    shared = delayed(predictor, traverse=False)
    predict = delayed(_predict, pure=True)
    if isinstance(source, CubeSource):
        blocks = _cube_blocks(source)
        sums = delayed(window_sums, pure=True)
        bands = means_bands(predictor.fill)
        means = delayed(means_of_sums, pure=True)(
            [sums(block[bands], *settings) for block in blocks]
        )
    else:
        files = delayed(source, traverse=False)
        read = delayed(_read, pure=True)
        blocks = [read(files, window) for window in source.windows]
        means = files
    rows: dict[int, list[Any]] = {}
    for window, block in zip(source.windows, blocks, strict=True):
        shape = (len(predictor.bands), window.height, window.width)
        predicted = from_delayed(predict(shared, block, means), shape, np.float32)
        rows.setdefault(window.row, []).append(predicted)
    values = concatenate([concatenate(row, axis=2) for row in rows.values()], axis=1)
    x, y = _centres(grid.transform, grid.height, grid.width)
    made = xarray.Dataset(
        {name: (("y", "x"), values[i]) for i, name in enumerate(predictor.bands)},
        coords={"y": y, "x": x},
    )
    if predictor.classes:
        made["class"].attrs["classes"] = list(predictor.classes)
    lazy: xr.Dataset = made.rio.write_crs(grid.crs).rio.write_transform(grid.transform)
    return lazy


def _cube_blocks(source: CubeSource) -> list[Any]:
    """Return a cube's windows as delayed float64 arrays [17 steps + 2, height, width]."""
    from dask.delayed import delayed

    raw = source.raw if source.raw.chunks is not None else source.raw.chunk()
    finite = delayed(_finite, pure=True)
    made = []
    for window in source.windows:
        rows, columns = window.slices
        part = raw[:, rows, columns].data
        made.append(finite(part.rechunk(-1).to_delayed().ravel()[0]))
    return made


def _finite(raw: NDArray[Any]) -> NDArray[np.float64]:
    """Return bands as float64 with NaN for what is not finite."""
    values = raw.astype(np.float64)
    values[~np.isfinite(values)] = np.nan
    return values


def _read(source: Source, window: Window) -> NDArray[np.float64]:
    """Read a window."""
    return source.read(window)


def _predict(
    predictor: Predictor, raw: NDArray[np.float64], means: NDArray[np.float64] | Source
) -> NDArray[np.float32]:
    """Predict one window, [bands, height, width]; the means are taken from files where needed."""
    ndvi, fill = predictor.normalization["ndvi"], predictor.fill
    if isinstance(means, np.ndarray):
        known = means
        return predictor.predict(raw, lambda: known)
    source = means
    return predictor.predict(raw, lambda: source_means(source, predictor.first, ndvi, fill))


def _centres(
    transform: Any, height: int, width: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x [width] and y [height] of the pixels' centres."""
    a, west, e, north = (transform[i] for i in (0, 2, 4, 5))
    x: NDArray[np.float64] = west + (np.arange(width, dtype=np.float64) + 0.5) * a
    y: NDArray[np.float64] = north + (np.arange(height, dtype=np.float64) + 0.5) * e
    return x, y
