"""A raster of labels: its classes, what is ignored, and the borders of fields taken off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timl.data.own.exports import import_rasterio, open_raster, require_layout
from timl.data.sources.grid import Grid
from timl.data.tasks.crop_types import MOST_CLASSES

NO_CLASS = -1
"""Number of a pixel that is of none of the classes, or too near to another."""
_ALIGNED = 0.01
"""Part of a pixel by which two grids may differ."""


@dataclass(frozen=True)
class LabelRaster:
    """An open raster of labels; made by `open_labels`.

    Parameters
    ----------
    file
        Dataset of rasterio, of one band of integers.
    path
        Where the file is.
    classes
        Names of the classes; a class's number is its place here.
    numbers
        Number of the class of each value that counts.
    erosion
        Rows and columns that a pixel must be away from other values.
    """

    file: Any
    path: Path
    classes: tuple[str, ...]
    numbers: Mapping[int, int]
    erosion: int

    @property
    def grid(self) -> Grid:
        """Grid of the pixels."""
        return Grid.of_file(self.file)

    def codes(self, row: int, rows: int) -> NDArray[np.int8]:
        """Read the classes of some rows.

        With an erosion of e a pixel has a class only if all pixels up to e rows and e columns away
        are there and have that class; so those within e of the raster's edge have none.

        Parameters
        ----------
        row
            Number of the first row.
        rows
            Number of rows.

        Returns
        -------
        int8 array of shape [rows, width]
            Numbers of the classes, -1 where there is none.

        Raises
        ------
        ValueError
            If the file is damaged.
        """
        edge, height, width = self.erosion, self.file.height, self.file.width
        first, last = max(0, row - edge), min(height, row + rows + edge)
        codes = np.full((rows + 2 * edge, width + 2 * edge), NO_CLASS, np.int8)
        start = first - (row - edge)
        codes[start : start + last - first, edge : edge + width] = self._read(first, last - first)
        if edge:
            from scipy.ndimage import maximum_filter, minimum_filter

            size = 2 * edge + 1
            alike = minimum_filter(codes, size) == maximum_filter(codes, size)
            codes = np.where(alike, codes, np.int8(NO_CLASS))
        return codes[edge : edge + rows, edge : edge + width]

    def _read(self, row: int, rows: int) -> NDArray[np.int8]:
        """Read the classes of rows as they are in the file, [rows, width]."""
        rasterio = import_rasterio()
        window = rasterio.windows.Window(0, row, self.file.width, rows)
        try:
            values = self.file.read(1, window=window)
            valid = self.file.read_masks(1, window=window) > 0
        except rasterio.errors.RasterioError as error:
            raise ValueError(f"labels is {self.path}, which is damaged: {error}") from error
        codes = np.full(values.shape, NO_CLASS, np.int8)
        for value, number in self.numbers.items():
            codes[valid & (values == value)] = number
        return codes


@contextmanager
def open_labels(
    path: str | Path, classes: Mapping[int, str], *, erosion: int = 0
) -> Iterator[LabelRaster]:
    """Open a raster of labels, which is read row by row.

    Parameters
    ----------
    path
        GeoTIFF of one band of integers.
    classes
        Name of the class of each value that counts; values may share a name. All other values,
        the file's nodata value and masked pixels are ignored: they are of no class.
    erosion
        Rows and columns that a pixel must be away from other values, at least 0: see
        `LabelRaster.codes`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it cannot be read, has no reference system, is rotated, has several bands or no integers,
        or the classes or the erosion are out of range.
    ImportError
        If rasterio is not installed: the extra ``timl[maps]``.
    """
    if isinstance(erosion, bool) or not isinstance(erosion, int) or erosion < 0:
        raise ValueError(f"erosion is {erosion!r}: give a number of pixels, 0 or more")
    names, numbers = _numbered(classes)
    with open_raster(path, "labels") as file:
        require_layout(file, f"labels is {path}, which")
        if file.count != 1 or not np.issubdtype(np.dtype(file.dtypes[0]), np.integer):
            raise ValueError(
                f"labels is {path}, of {file.count} bands of {file.dtypes[0]}: give one band of "
                f"integers"
            )
        yield LabelRaster(file, Path(path), names, numbers, erosion)


def require_aligned(labels: LabelRaster, grid: Grid, source: str) -> None:
    """Raise ValueError, naming both, unless the labels have the very pixels of a source.

    Parameters
    ----------
    labels
        Raster of labels.
    grid
        Grid of the source.
    source
        Name of the source.
    """
    own = labels.grid
    pixel = abs(grid.transform.a)
    moved = float(np.abs(np.subtract(own.transform[:6], grid.transform[:6])).max())
    same = own.crs == grid.crs and (own.height, own.width) == (grid.height, grid.width)
    if not same or moved > _ALIGNED * pixel:
        raise ValueError(
            f"labels is {labels.path}, {_described(own)}, and source is {source}, "
            f"{_described(grid)}: give labels on the source's pixels, for instance with gdalwarp "
            f"and the nearest pixel"
        )


def _described(grid: Grid) -> str:
    """Return a grid as text."""
    t = grid.transform
    return (
        f"{grid.height} x {grid.width} pixels of {t.a:.10g} by {-t.e:.10g} from "
        f"({t.c:.10g}, {t.f:.10g}) in {grid.crs}"
    )


def _numbered(classes: Mapping[int, str]) -> tuple[tuple[str, ...], dict[int, int]]:
    """Return the names of the classes, and the number of the class of each value."""
    right = isinstance(classes, Mapping) and all(
        isinstance(value, int | np.integer) and not isinstance(value, bool) and name
        and isinstance(name, str)
        for value, name in classes.items()
    )  # fmt: skip
    names = tuple(dict.fromkeys(classes.values())) if right else ()
    if not 2 <= len(names) <= MOST_CLASSES:
        raise ValueError(
            f"classes is {classes!r}: give a dict from values to names of 2 to {MOST_CLASSES} "
            f"classes"
        )
    return names, {int(value): names.index(name) for value, name in classes.items()}
