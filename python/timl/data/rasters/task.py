"""A task of the pixels that a raster of labels names, with the series of a source."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from timl.bands import SERIES_SHAPE
from timl.crop_classes import NON_CROP
from timl.data.own.crop_types import OwnCropTypes
from timl.data.own.exports import Fill, fill_missing, require_fill, series_of_bands
from timl.data.own.statistics import statistics_of
from timl.data.rasters.label_raster import LabelRaster, open_labels, require_aligned
from timl.data.rasters.sampling import PixelSample, sample_pixels
from timl.data.rasters.series_data import SeriesData, normalised
from timl.data.regions.boxes import BBox
from timl.data.sources.grid import Grid
from timl.data.sources.source import Source, SourceLike, open_source, source_means, take_steps
from timl.data.tasks.test_instance import TestInstance
from timl.normalization import (
    HasNormalization,
    HasStatistics,
    Normalization,
    checked_normalization,
    normalization_of,
    read_normalization,
)

Read = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]
"""From rows and columns of pixels to their series as measured, [n, T, F]."""

Lacking = Literal["error", "leave out"]
"""What becomes of a class without pixels for the training or the test."""


@runtime_checkable
class PixelSource(Protocol):
    """A source of series of any numbers of steps and bands, such as a `timl.data.Chip`."""

    @property
    def name(self) -> str:
        """Name for messages."""
        ...

    @property
    def grid(self) -> Grid:
        """Grid of the pixels."""
        ...

    def pixels(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the series of some pixels as measured, float32 [n, T, F]; NaN is missing."""
        ...


def raster_labels(
    labels: str | Path,
    source: SourceLike | PixelSource,
    classes: Mapping[int, str],
    *,
    like: HasStatistics | HasNormalization | Mapping[str, Any] | str | Path,
    per_class: int,
    test_per_class: int = 0,
    block_m: float = 1000.0,
    distance_m: float = 100.0,
    erosion: int = 0,
    lacking: Lacking = "error",
    classification_labels: Mapping[str, str] | None = None,
    name: str | None = None,
    fill: Fill = "pixel",
    seed: int = 0,
) -> OwnCropTypes:
    """Make a task of a raster of labels and the source of the series beside it.

    ``timl.finetune(model, raster_labels(...))`` adapts a model to it, `timl.evaluate` scores on
    its test pixels, and `CropTypeTask.train_arrays` gives series and classes to any classifier.
    Pixels are drawn with equal chances within each class and side; `sample_pixels` says how sides
    are made. Both rasters are read in parts.

    Parameters
    ----------
    labels
        GeoTIFF of one band of integers, on the very pixels of the source.
    source
        Exports or a cube, as of `timl.predict_map`, whose first 12 steps are taken; or another
        source, such as a `Chip`.
    classes
        Name of the class of each value of the raster that counts, in the order of the task's
        classes; all other values are ignored. See `open_labels`.
    like
        Model that will be adapted, its folder or name, or the data set that it was trained on, or
        its ``normalization``: the series are made comparable by its statistics.
    per_class, test_per_class
        Pixels of each class for training, and for the test; of a class with fewer all are taken.
        Without test pixels nothing is divided.
    block_m
        Edge of the blocks that are for training or for the test as a whole, metres.
    distance_m
        Least distance along rows or columns of pixels in different blocks, metres; those nearer to
        a block's edge are left out. Where fields are wider, a field may lie on both sides of an
        edge, so that a distance of a field's width is safer.
    erosion
        Borders of fields: a pixel counts only if all pixels up to so many rows and columns away
        have its class.
    lacking
        What becomes of a class that lacks pixels for the training or the test: an error, or it is
        left out of the task.
    classification_labels
        FAO class of each class by its name, where it is known: one of `timl.data.CLASSES`.
    name
        Name of the task and its region; by default that of the raster's file.
    fill
        Filling of missing values of exports, see `fill_missing`.
    seed
        Seed of the split and the draw.

    Returns
    -------
    OwnCropTypes
        ``data.labels`` has a row per pixel, and its columns ``row`` and ``column`` say which;
        ``unmatched`` lists the pixels that were drawn and have no complete series.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    TypeError, ValueError
        If an argument is out of range, a file cannot be read, the labels are not on the source's
        pixels, or fewer than two classes, or with "error" not all, have pixels on each side.
    ImportError
        If rasterio is not installed: the extra ``timl[maps]``.

    Warns
    -----
    UserWarning
        If pixels without a complete series were left out.
    """
    require_fill(fill)
    if lacking not in ("error", "leave out"):
        raise ValueError(f"lacking is {lacking!r}: give 'error' or 'leave out'")
    if not 0 < block_m < math.inf or not 0 <= distance_m < math.inf:
        raise ValueError(
            f"block_m is {block_m}, distance_m is {distance_m}: give metres above 0, and 0 or more"
        )
    with open_labels(labels, classes, erosion=erosion) as raster:
        title, grid, normalization, read = _opened(source, like, fill)
        require_aligned(raster, grid, title)
        unknown = sorted(set(classification_labels or {}) - set(raster.classes))
        if unknown:
            raise ValueError(
                f"classification_labels is of {', '.join(map(str, unknown))} too, which is none of "
                f"the classes {', '.join(raster.classes)}: give FAO classes of these alone"
            )
        metres = float(np.mean(grid.cell_size()))
        drawn = sample_pixels(
            raster,
            per_class,
            test_per_class=test_per_class,
            block=max(1, round(block_m / metres)) if test_per_class else None,
            distance=max(1, round(distance_m / metres)),
            seed=seed,
            lacking_allowed=lacking == "leave out",
        )
        names, drawn = _present(raster, drawn, test_per_class > 0)
        series = read(drawn.rows, drawn.columns)
    return _task(
        name or raster.path.stem, names, drawn, series, normalization, grid, classification_labels
    )


def _opened(source: Any, like: Any, fill: Fill) -> tuple[str, Grid, Normalization, Read]:
    """Return a source's name and grid, the statistics of its series, and what reads pixels."""
    if isinstance(source, PixelSource):
        return source.name, source.grid, _statistics(like), source.pixels
    opened = open_source(source)
    mean, std, ndvi = statistics_of(like)
    normalization = Normalization(mean=mean, std=std, ndvi=ndvi)
    if opened.start is not None:
        normalization["start_months"] = [opened.start.month]

    def read(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        return _export_series(opened, rows, columns, ndvi, fill)

    return opened.name, opened.grid, normalization, read


def _statistics(like: Any) -> Normalization:
    """Return the statistics of a data set or model of any bands."""
    told = getattr(like, "normalization", like)
    if isinstance(like, str | Path):
        told = read_normalization(like)
    if not (isinstance(told, dict) or all(hasattr(told, name) for name in ("mean", "std", "ndvi"))):
        raise ValueError(
            f"like is a {type(like).__name__}, which tells no statistics: give a data set, a model "
            f"with a normalization, or the normalization"
        )
    return checked_normalization(told if isinstance(told, dict) else normalization_of(told))


def _export_series(
    source: Source, rows: NDArray[np.int64], columns: NDArray[np.int64], ndvi: str, fill: Fill
) -> NDArray[np.float32]:
    """Return the series of some pixels of an export, as `own_points` makes them, [n, 12, 18]."""
    series: NDArray[np.float32] = np.full((len(rows), *SERIES_SHAPE), np.nan, np.float32)
    for window in source.windows:
        row, column = rows - window.row, columns - window.column
        inside = (row >= 0) & (row < window.height) & (column >= 0) & (column < window.width)
        if not inside.any():
            continue
        raw = take_steps(source.read(window)[:, row[inside], column[inside]], 0)
        made = series_of_bands(raw, ndvi)
        if np.isnan(made).any():
            made = fill_missing(made, source_means(source, 0, ndvi, fill), fill)
        series[inside] = made
    return series


def _present(
    raster: LabelRaster, drawn: PixelSample, tested: bool
) -> tuple[tuple[str, ...], PixelSample]:
    """Return the names of the classes that have pixels on each side, and their pixels alone."""
    sides = (False, True) if tested else (False,)
    there = [
        code
        for code in range(len(raster.classes))
        if all(((drawn.codes == code) & (drawn.is_test == side)).any() for side in sides)
    ]
    if len(there) < 2:
        raise ValueError(
            f"labels is {raster.path}, in which {len(there)} of the classes "
            f"{', '.join(raster.classes)} have pixels for training{' and test' if tested else ''}: "
            f"give a smaller erosion, block or distance"
        )
    kept = np.isin(drawn.codes, there)
    codes = np.searchsorted(there, drawn.codes[kept]).astype(np.int8)
    part = PixelSample(drawn.rows[kept], drawn.columns[kept], codes, drawn.is_test[kept])
    return tuple(raster.classes[code] for code in there), part


def _task(
    name: str,
    classes: tuple[str, ...],
    drawn: PixelSample,
    series: NDArray[np.float32],
    normalization: Normalization,
    grid: Grid,
    classification_labels: Mapping[str, str] | None,
) -> OwnCropTypes:
    """Return the task of the pixels that have a complete series."""
    import pandas as pd

    given = classification_labels or {}
    kinds = [given.get(label) for label in classes]
    lat, lon = grid.degrees(drawn.columns + 0.5, drawn.rows + 0.5)
    table = pd.DataFrame(
        {
            "lat": lat,
            "lon": lon,
            "label": np.array(classes, object)[drawn.codes],
            "classification_label": np.array(kinds, object)[drawn.codes],
            "is_crop": np.array([kind != NON_CROP for kind in kinds], int)[drawn.codes],
            "is_test": drawn.is_test.astype(int),
            "row": drawn.rows,
            "column": drawn.columns,
        }
    )
    missing = np.isnan(series).any(axis=(1, 2))
    unmatched = table.loc[missing, ["row", "column", "lat", "lon"]].assign(
        reason="its series is not complete"
    )
    if missing.any():
        warnings.warn(
            f"{int(missing.sum())} of {len(table)} pixels were left out, since their series are "
            f"not complete; .unmatched lists them",
            stacklevel=3,
        )
    table, codes, x = (
        table[~missing].reset_index(drop=True),
        drawn.codes[~missing],
        series[~missing],
    )
    is_test = table["is_test"].to_numpy() == 1
    trained = np.flatnonzero(~is_test)
    table["position"] = np.where(is_test, -1, np.cumsum(~is_test) - 1)
    lacking = [label for code, label in enumerate(classes) if not (codes[trained] == code).any()]
    if lacking:
        raise ValueError(
            f"labels is of pixels without a complete series alone in {', '.join(lacking)}: give a "
            f"larger per_class, or leave the class out"
        )
    data = SeriesData(table, x[trained], normalization)
    south, north = float(table["lat"].min()), float(table["lat"].max())
    west, east = float(table["lon"].min()), float(table["lon"].max())
    test = None
    if is_test.any():
        test = TestInstance(
            normalised(x[is_test], data.mean, data.std),
            codes[is_test],
            table["lat"].to_numpy()[is_test],
            table["lon"].to_numpy()[is_test],
        )
    made = OwnCropTypes(
        data,
        name,
        BBox(south, north, west, east, name),
        classes,
        np.arange(len(trained)),
        codes[trained],
        classification_labels=kinds,
        test=test,
    )
    made.unmatched = unmatched.reset_index(drop=True)
    return made
