"""The grid of a raster: places of its cells in degrees, and lengths on the ground."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from timl.data.own.exports import import_rasterio

Floats = NDArray[np.float64]

EQUATOR_RADIUS, FLATTENING = 6_378_137.0, 1 / 298.257223563
"""Metres, and 1: the ellipsoid of WGS 84."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Cells of equal size in a reference system.

    Places on it are columns and rows as fractions: 0, 0 is the outer corner of the first cell and
    0.5, 0.5 its middle.

    Parameters
    ----------
    crs
        Reference system, of rasterio.
    transform
        Affine map from columns and rows to coordinates of ``crs``.
    height, width
        Numbers of rows and columns.
    """

    crs: Any
    transform: Any
    height: int
    width: int

    @classmethod
    def of_file(cls, file: Any) -> Grid:
        """Return the grid of an open dataset of rasterio."""
        return cls(file.crs, file.transform, file.height, file.width)

    def resized(self, height: int, width: int) -> Grid:
        """Return the grid of as many rows and columns that covers the same area."""
        old, across, down = self.transform, self.width / width, self.height / height
        parts = (old.a * across, old.b * down, old.c, old.d * across, old.e * down, old.f)
        return Grid(self.crs, type(old)(*parts), height, width)

    def coordinates(self, columns: ArrayLike, rows: ArrayLike) -> tuple[Floats, Floats]:
        """Return x and y in the reference system.

        Parameters
        ----------
        columns, rows : arrays of one shape
            Places on the grid.

        Returns
        -------
        x, y : float64 arrays of that shape
        """
        return _apply(self.transform, np.asarray(columns, float), np.asarray(rows, float))

    def degrees(self, columns: ArrayLike, rows: ArrayLike) -> tuple[Floats, Floats]:
        """Return latitudes and longitudes.

        Parameters
        ----------
        columns, rows : arrays of one shape
            Places on the grid.

        Returns
        -------
        lats, lons : float64 arrays of that shape
            Infinite where the reference system has no such place.
        """
        x, y = self.coordinates(columns, rows)
        lons, lats = import_rasterio().warp.transform(self.crs, "EPSG:4326", x.ravel(), y.ravel())
        return np.reshape(lats, x.shape), np.reshape(lons, x.shape)

    def cells(self, lats: ArrayLike, lons: ArrayLike) -> tuple[Floats, Floats]:
        """Return columns and rows of places in degrees, also of those outside.

        Parameters
        ----------
        lats, lons : arrays of shape [n]
            Degrees.

        Returns
        -------
        columns, rows : float64 arrays of shape [n]
        """
        x, y = import_rasterio().warp.transform(
            "EPSG:4326", self.crs, np.asarray(lons, np.float64), np.asarray(lats, np.float64)
        )
        return _apply(~self.transform, np.asarray(x), np.asarray(y))

    def mesh(self, most: int = 17) -> tuple[Floats, Floats]:
        """Return latitudes and longitudes of places spread evenly over the grid, edges included.

        Between them both are nearly linear: on a transverse Mercator grid of 2,048 cells and
        1,000 km a side, linear interpolation between 17 a side is off by less than a cell.

        Parameters
        ----------
        most
            Number of places a side.

        Returns
        -------
        lats, lons : float64 arrays of shape [most, most]
            By row, then column. Longitudes run on beyond 180 where the grid crosses that meridian.
        """
        lats, lons = self.degrees(
            *np.meshgrid(np.linspace(0, self.width, most), np.linspace(0, self.height, most))
        )
        return lats, np.unwrap(np.unwrap(lons, axis=1, period=360), axis=0, period=360)

    def cell_size(self) -> tuple[float, float]:
        """Return width and height in metres, on the ground, of the cell in the middle."""
        along_rows, along_columns = self._steps()
        return math.hypot(*along_rows), math.hypot(*along_columns)

    def north(self) -> float:
        """Return where north is in the middle: degrees, clockwise from up.

        The angle is that on a picture whose cells have the shape they have on the ground.
        """
        (_, x_north), (_, y_north) = self._steps()
        width, height = self.cell_size()
        # parts of the unit vector to the north along the picture's right and up: with the sides of
        # a cell at right angles on the ground, those are projections on the sides
        return math.degrees(math.atan2(x_north / width, -y_north / height))

    def _steps(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return the way, metres east and north, of a step of one column and one row."""
        column, row, half = self.width / 2, self.height / 2, 0.5
        lats, lons = self.degrees(
            [column - half, column + half, column, column], [row, row, row - half, row + half]
        )
        lats, lons = np.asarray(lats), np.unwrap(lons, period=360)
        return (
            ground_way(lats[0], lons[0], lats[1], lons[1]),
            ground_way(lats[2], lons[2], lats[3], lons[3]),
        )


def _apply(transform: Any, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Apply an affine map to points."""
    return (
        transform.a * x + transform.b * y + transform.c,
        transform.d * x + transform.e * y + transform.f,
    )


def ground_way(lat: float, lon: float, to_lat: float, to_lon: float) -> tuple[float, float]:
    """Return how many metres one goes east and north, on WGS 84, between two near places.

    The way is taken straight with the radii of curvature in its middle (Snyder 1987, Map
    projections: a working manual, equations 4-18 to 4-20): good to 0.1% up to 200 km, away from the
    poles.

    Parameters
    ----------
    lat, lon
        Degrees of the first place.
    to_lat, to_lon
        Degrees of the second.
    """
    middle = math.radians((lat + to_lat) / 2)
    squared_eccentricity = FLATTENING * (2 - FLATTENING)
    shrinking = 1 - squared_eccentricity * math.sin(middle) ** 2
    across = EQUATOR_RADIUS / math.sqrt(shrinking)
    along = across * (1 - squared_eccentricity) / shrinking
    return (
        across * math.cos(middle) * math.radians(to_lon - lon),
        along * math.radians(to_lat - lat),
    )


def round_length(most: float) -> float:
    """Return the greatest of 1, 2 and 5 times a power of ten that is not above ``most``."""
    power = 10.0 ** math.floor(math.log10(most))
    return next(times * power for times in (5, 2, 1) if times * power <= most * (1 + 1e-9))


def length_text(metres: float) -> str:
    """Return a length as text, in metres or kilometres."""
    return f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
