"""Labelled points to show on a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from timl.data.sources.grid import Grid

if TYPE_CHECKING:
    import pandas as pd

_LABELS = {"positive": 1, "1": 1, "true": 1, "negative": 0, "0": 0, "false": 0}


@dataclass(frozen=True, eq=False)
class Places:
    """Points on a grid.

    Parameters
    ----------
    columns, rows : float64 arrays of shape [n]
        Where they are on the grid, as fractions; some may lie outside.
    lats, lons : float64 arrays of shape [n]
        The same in degrees.
    classes : int64 array of shape [n]
        Class of each: 1 of the positive label and 0 of the other, or the number of one of several.
    names : tuple of n str
        Texts to show, "" for none.
    """

    columns: NDArray[np.float64]
    rows: NDArray[np.float64]
    lats: NDArray[np.float64]
    lons: NDArray[np.float64]
    classes: NDArray[np.int64]
    names: tuple[str, ...]

    def inside(self, grid: Grid) -> NDArray[np.bool_]:
        """Return which points lie on the grid, bool [n]."""
        return np.asarray(
            (self.columns >= 0)
            & (self.columns <= grid.width)
            & (self.rows >= 0)
            & (self.rows <= grid.height)
        )


def place_points(points: pd.DataFrame | None, grid: Grid, classes: Sequence[str] = ()) -> Places:
    """Find where labelled points are on a grid.

    Parameters
    ----------
    points
        Table with columns lat, lon (degrees) and label ("positive" or "negative", 1 or 0, True or
        False; of several classes their names), and perhaps name, a text to show. None for no
        points.
    grid
        The grid.
    classes
        Names of several classes; none of a positive class and the rest.

    Raises
    ------
    ValueError
        If a column is missing, a position is not on the globe or a label is another.
    """
    if points is None:
        nothing = np.empty(0)
        return Places(nothing, nothing, nothing, nothing, np.empty(0, np.int64), ())
    missing = {"lat", "lon", "label"} - set(points.columns)
    if missing:
        raise ValueError(
            f"points is a table with columns {', '.join(map(str, points.columns))}: give one with "
            f"lat, lon and label; {', '.join(sorted(missing))} is missing"
        )
    degrees = {}
    for column, limit in (("lat", 90), ("lon", 180)):
        values = degrees[column] = points[column].to_numpy(np.float64)
        wrong = ~(np.abs(values) <= limit)
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(
                f"points is a table whose {column} is {values[row]} in row {row}: give degrees in "
                f"[-{limit}, {limit}] ({int(wrong.sum())} such rows)"
            )
    if classes:
        numbers = {name: number for number, name in enumerate(classes)}
        texts = [str(label) for label in points["label"]]
        wanted = f"one of {', '.join(classes)}"
    else:
        numbers = _LABELS
        texts = [str(label).strip().lower().removesuffix(".0") for label in points["label"]]
        wanted = "'positive' or 'negative', 1 or 0"
    unknown = [row for row, text in enumerate(texts) if text not in numbers]
    if unknown:
        raise ValueError(
            f"points is a table whose label is {points['label'].iloc[unknown[0]]!r} in row "
            f"{unknown[0]}: give {wanted} ({len(unknown)} such rows)"
        )
    names = points["name"].fillna("").astype(str) if "name" in points else [""] * len(points)
    columns, rows = grid.cells(degrees["lat"], degrees["lon"])
    return Places(
        columns,
        rows,
        degrees["lat"],
        degrees["lon"],
        np.array([numbers[text] for text in texts], np.int64),
        tuple(names),
    )
