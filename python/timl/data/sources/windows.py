"""Windows in which a map is read and predicted."""

from __future__ import annotations

from typing import NamedTuple

_PIXELS = 1 << 16
"""Most pixels of a window: 108 MB of an export of 12 steps as it is read."""


class Window(NamedTuple):
    """Rectangle of pixels."""

    row: int
    """First row, from the north."""
    column: int
    """First column, from the west."""
    height: int
    """Number of rows."""
    width: int
    """Number of columns."""

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns as slices."""
        return (
            slice(self.row, self.row + self.height),
            slice(self.column, self.column + self.width),
        )


def windows(height: int, width: int, block: tuple[int, int]) -> list[Window]:
    """Return windows that cover a grid, row by row; no result depends on how they are computed.

    Parameters
    ----------
    height, width
        Numbers of rows and columns.
    block
        Rows and columns of the blocks that the source is stored in: windows are made of whole
        blocks where these are not too large.
    """
    rows, columns = (min(given, size) for given, size in zip(block, (height, width), strict=True))
    columns = min(columns * max(1, 256 // columns), width)
    columns = min(columns, 256) if columns < width else min(columns, _PIXELS)
    most = max(1, min(_PIXELS // columns, height))
    rows = most if rows > most else most // rows * rows
    return [
        Window(row, column, min(rows, height - row), min(columns, width - column))
        for row in range(0, height, rows)
        for column in range(0, width, columns)
    ]
