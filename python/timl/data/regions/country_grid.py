"""The country of a place: a grid of quarter degrees made from Natural Earth's countries."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_GRID = "country_grid.json"


def countries_at(lat: NDArray[np.float64], lon: NDArray[np.float64]) -> NDArray[np.object_]:
    """Return the countries of places, exact to about the width of a cell, 28 km.

    A cell of a quarter of a degree counts as the country's that most of its land belongs to
    (Natural Earth, 1:50m, public domain; ``tools/country_grid.py`` makes the grid). A place in a
    cell of the sea is the nearest of the eight neighbouring cells' that have land.

    Parameters
    ----------
    lat, lon : float64 arrays of shape [n]
        Degrees, in [-90, 90] and [-180, 180].

    Returns
    -------
    object array of shape [n]
        Names as of `country_boxes`; None on the sea.

    Raises
    ------
    ValueError
        If a place is not finite or out of range.
    """
    lat, lon = np.asarray(lat, np.float64), np.asarray(lon, np.float64)
    bad = ~((np.abs(lat) <= 90) & (np.abs(lon) <= 180))  # NaN too
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"lat, lon of place {first} of {len(lat)} are {lat[first]}, {lon[first]}: give degrees "
            f"in [-90, 90] and [-180, 180]"
        )
    grid = _grid()
    rows, columns = grid.cells.shape
    y, x = (90 - lat) / grid.degrees, (lon + 180) / grid.degrees
    row = np.minimum(y.astype(np.int64), rows - 1)
    column = np.minimum(x.astype(np.int64), columns - 1)
    found = grid.cells[row, column].astype(np.int64)
    nearest = np.where(found > 0, 0.0, np.inf)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            near_row = np.clip(row + down, 0, rows - 1)
            near = grid.cells[near_row, (column + right) % columns]
            # distance in cells to the neighbour's middle
            far = np.hypot(y - (row + down + 0.5), x - (column + right + 0.5))
            closer = (near > 0) & (far < nearest)
            found[closer], nearest[closer] = near[closer], far[closer]
    names = np.array([None, *grid.countries], object)
    named: NDArray[np.object_] = names[found]
    return named


class _Grid(NamedTuple):
    degrees: float
    countries: list[str]
    cells: NDArray[np.uint8]
    """Number of each cell's country, from 1, from the north-west; 0 is the sea."""


@cache
def _grid() -> _Grid:
    text = (resources.files("timl.data.regions") / _GRID).read_text(encoding="utf-8")
    stored = json.loads(text)
    cells = [np.repeat(runs[::2], runs[1::2]) for runs in stored["rows"]]
    return _Grid(stored["degrees"], stored["countries"], np.array(cells, np.uint8))
