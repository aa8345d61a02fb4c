"""Maps of classes in GeoTIFF files: read in strips, with the true area of every pixel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from timl.data.own.exports import import_rasterio, open_raster
from timl.data.sources.grid import EQUATOR_RADIUS, FLATTENING, Grid
from timl.files import decode_json

_PIXELS_AT_ONCE = 2**21
"""Pixels of a strip, about."""
_CELL = 32
"""Edge, in pixels, of the cells of a projected map whose pixels count as equal in area."""
_MOST_CLASSES = 2**16
CLASSES_TAG = "TIML_CLASSES"
"""Tag of a map of several classes: JSON list of the names of the classes 0, 1 and so on."""


class Strip(NamedTuple):
    """Some rows of a map, whole."""

    row: int
    """Number of the first row."""
    classes: NDArray[np.int64]
    """Class of each pixel, [rows, columns]."""
    valid: NDArray[np.bool_]
    """Which pixels have a class."""
    hectares: NDArray[np.float64]
    """Area of each pixel, [rows, columns]."""


@dataclass(frozen=True)
class ClassMap:
    """An open map; made by `open_map`.

    Parameters
    ----------
    file
        Dataset of rasterio.
    band
        Number of the band of classes, from 1.
    path
        Where the file is.
    """

    file: Any
    band: int
    path: Path

    @property
    def names(self) -> dict[int, str]:
        """Names of the classes by their numbers, as far as the file says them."""
        return dict(enumerate(class_names(self.file.tags(), self.path)))

    def strips(self) -> Iterator[Strip]:
        """Read the map strip by strip, from the north.

        Raises
        ------
        ValueError
            If the file is damaged or the band has values that are no classes.
        """
        blocks = int(self.file.block_shapes[self.band - 1][0])
        rows = max(1, _PIXELS_AT_ONCE // (self.file.width * blocks)) * blocks
        for start in range(0, self.file.height, rows):
            count = min(rows, self.file.height - start)
            classes, valid = self._read(start, count)
            yield Strip(start, classes, valid, self._hectares(start, count))

    def class_sizes(self) -> tuple[dict[int, int], dict[int, float]]:
        """Return the number of pixels and the area, hectares, of each class.

        Raises
        ------
        ValueError
            If no pixel has a class, or values are too far apart to be classes.
        """
        pixels: dict[int, int] = {}
        hectares: dict[int, float] = {}
        for strip in self.strips():
            classes = strip.classes[strip.valid]
            if not len(classes):
                continue
            least, most = int(classes.min()), int(classes.max())
            if most - least >= _MOST_CLASSES:
                raise ValueError(
                    f"map is {self.path}, whose band {self.band} holds values from {least} to "
                    f"{most}: give the band of classes"
                )
            counts = np.bincount(classes - least)
            areas = np.bincount(classes - least, strip.hectares[strip.valid])
            for i in np.flatnonzero(counts).tolist():
                pixels[least + i] = pixels.get(least + i, 0) + int(counts[i])
                hectares[least + i] = hectares.get(least + i, 0.0) + float(areas[i])
        if not pixels:
            raise ValueError(f"map is {self.path}, whose band {self.band} has no classes at all")
        return dict(sorted(pixels.items())), dict(sorted(hectares.items()))

    def classes_at(self, lat: ArrayLike, lon: ArrayLike) -> list[int | None]:
        """Return the classes of the pixels that hold some places; None outside or without one.

        Parameters
        ----------
        lat, lon : arrays of shape [n]
            Degrees.
        """
        columns, rows = (np.floor(places) for places in Grid.of_file(self.file).cells(lat, lon))
        found: list[int | None] = []
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if not (0 <= row < self.file.height and 0 <= column < self.file.width):
                found.append(None)  # infinite for places that the projection does not know
                continue
            classes, valid = self._read(int(row), 1, int(column), 1)
            found.append(int(classes[0, 0]) if valid[0, 0] else None)
        return found

    def places(self, rows: ArrayLike, columns: ArrayLike) -> NDArray[np.float64]:
        """Return latitude and longitude of the centres of pixels, degrees, [n, 2]."""
        grid = Grid.of_file(self.file)
        return np.stack(grid.degrees(np.asarray(columns) + 0.5, np.asarray(rows) + 0.5), axis=1)

    def _read(
        self, row: int, rows: int, column: int = 0, columns: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return classes and which pixels have one, of a window."""
        rasterio = import_rasterio()
        window = rasterio.windows.Window(column, row, columns or self.file.width, rows)
        try:
            values = self.file.read(self.band, window=window)
            valid = self.file.read_masks(self.band, window=window) > 0
        except rasterio.errors.RasterioError as error:
            raise ValueError(f"map is {self.path}, which is damaged: {error}") from error
        valid &= np.isfinite(values)
        classes = np.where(valid, values, 0)
        if (classes % 1 != 0).any():
            value = classes[classes % 1 != 0][0]
            raise ValueError(
                f"map is {self.path}, whose band {self.band} holds {value}: give the band of "
                f"classes, which are integers"
            )
        return classes.astype(np.int64), valid

    def _hectares(self, row: int, rows: int) -> NDArray[np.float64]:
        """Return the area of each pixel of some rows, hectares, [rows, columns].

        Corners go to the cylindrical equal-area projection of the ellipsoid, where areas are true.
        There the pixels of a map in degrees are rectangles, so that the result is exact for them.
        On other maps all pixels of a cell of 32 x 32 have their mean area.
        """
        width, affine = self.file.width, self.file.transform
        in_degrees = self.file.crs.is_geographic and affine.b == affine.d == 0
        steps = (1, width) if in_degrees else (_CELL, _CELL)
        edges = [
            np.append(np.arange(start, start + count, step), start + count)
            for start, count, step in ((row, rows, steps[0]), (0, width, steps[1]))
        ]
        lat, lon = Grid.of_file(self.file).degrees(*np.meshgrid(edges[1], edges[0]))
        x, y = _equal_area(lon, lat)
        corner = (x[:-1, :-1], y[:-1, :-1])

        def across(one: tuple[Any, Any], other: tuple[Any, Any]) -> NDArray[np.float64]:
            (ax, ay), (bx, by) = (
                (_around(point[0] - corner[0]), point[1] - corner[1]) for point in (one, other)
            )
            return np.asarray(ax * by - ay * bx)

        east, south, opposite = (
            (x[:-1, 1:], y[:-1, 1:]),
            (x[1:, :-1], y[1:, :-1]),
            (x[1:, 1:], y[1:, 1:]),
        )
        areas = np.abs(across(east, opposite) + across(opposite, south)) / 2  # m2 of the cells
        sizes = [np.diff(edge) for edge in edges]
        areas /= 10_000 * sizes[0][:, None] * sizes[1]
        return np.repeat(np.repeat(areas, sizes[0], axis=0), sizes[1], axis=1)


@contextmanager
def open_map(path: str | Path, band: str | int = "class") -> Iterator[ClassMap]:
    """Open a map of classes.

    Parameters
    ----------
    path
        GeoTIFF with a band of classes, integers. NaN, the file's nodata value and masked pixels
        have none.
    band
        Description of the band, or its number, from 1. A file with a single band needs none.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it cannot be read, has no reference system or no such band.
    ImportError
        If rasterio is not installed: the extra ``timl[maps]``.
    """
    path = Path(path)
    with open_raster(path, "map") as file:
        yield ClassMap(file, _band_number(file, band, path), path)


def class_names(tags: Mapping[str, str], path: Path) -> tuple[str, ...]:
    """Return the names of the classes of a map from its tags; none where it does not say them.

    Raises
    ------
    ValueError
        If the tag is no list of names that differ.
    """
    if CLASSES_TAG not in tags:
        return ()
    advice = "give a JSON list of names that differ"
    names = decode_json(tags[CLASSES_TAG], f"{CLASSES_TAG} of map {path}", advice)
    texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not texts or len(set(names)) < len(names):
        raise ValueError(f"map is {path} with {CLASSES_TAG} {tags[CLASSES_TAG]}: {advice}")
    return tuple(names)


def _band_number(file: Any, band: str | int, path: Path) -> int:
    if isinstance(band, int) or band.isdigit():
        if 1 <= int(band) <= file.count:
            return int(band)
    elif band in file.descriptions:
        return int(file.descriptions.index(band)) + 1
    elif file.count == 1:
        return 1
    names = ", ".join(f"{i} {name or ''}".strip() for i, name in enumerate(file.descriptions, 1))
    raise ValueError(
        f"band is {band!r}, and {path} has {names}: give one of them by name or number"
    )


def _equal_area(
    lon: NDArray[np.float64], lat: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Project places of the ellipsoid to the cylinder of equal area, metres.

    J. P. Snyder, Map Projections: A Working Manual, 1987, equations 3-12, 10-14 and 10-15, with the
    equator as standard parallel.
    """
    e2 = FLATTENING * (2 - FLATTENING)
    e, sine = math.sqrt(e2), np.sin(np.radians(lat))
    q = (1 - e2) * (sine / (1 - e2 * sine**2) + np.arctanh(e * sine) / e)
    return EQUATOR_RADIUS * np.radians(lon), EQUATOR_RADIUS * q / 2


def _around(metres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return differences along the equator, the shorter way around."""
    around = 2 * math.pi * EQUATOR_RADIUS
    return np.asarray(metres - around * np.round(metres / around))
