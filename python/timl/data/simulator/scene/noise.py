"""Noise of the pixels of a scene, which share what their scene, field and surroundings share."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from timl.bands import STEPS
from timl.data.simulator.covers import COVERS
from timl.data.simulator.draws import Draws, Floats, Integers, Level, Stream
from timl.data.simulator.scene.landscape import MOST_PARCELS
from timl.data.simulator.surface import OPTICAL

TILE = 64
"""Edge of a tile, pixels: the pixels that are drawn for at once."""

_NEAR, _FAR = 8, 44
"""Distances of the nodes of smooth noise, pixels: within fields, and of clouds and relief."""

_FIRST = 16
"""Added to a node's row and column, so that they are not negative."""

_ROUGH = np.array([cover.label in ("forest", "shrubland", "built-up") for cover in COVERS])
"""Covers whose pixels differ more than those of a field."""


class _Shares(NamedTuple):
    """Shares of the variance that scene, field, surroundings and pixel have; they sum to 1."""

    columns: slice
    scene: float = 0.0
    field: float = 0.0
    near: float = 0.0
    far: float = 0.0
    pixel: float = 0.0


_MONTHS = slice(0, STEPS)
# The columns are those of the draws in climate.py, phenology.py and surface.py.
_OF: dict[Stream, tuple[int, tuple[_Shares, ...]]] = {
    Stream.FIELD_WEATHER: (
        2 * STEPS + 2,
        (_Shares(slice(0, 2 * STEPS), scene=1), _Shares(slice(2 * STEPS, None), far=1)),
    ),
    Stream.FIELDS: (
        6,
        (
            _Shares(slice(0, 6), field=1),
            _Shares(slice(1, 2), field=0.7, near=0.25, pixel=0.05),
            _Shares(slice(2, 3), field=0.6, near=0.3, pixel=0.1),
            _Shares(slice(3, 4), field=0.4, near=0.3, pixel=0.3),
        ),
    ),
    Stream.GROWTH: (
        STEPS + 3,
        (
            _Shares(_MONTHS, field=0.7, near=0.2, pixel=0.1),
            _Shares(slice(STEPS, None), field=0.9, near=0.1),
        ),
    ),
    Stream.REFLECTANCE: (
        STEPS * len(OPTICAL) + STEPS + 4,
        (
            _Shares(slice(0, 4), field=0.75, near=0.2, pixel=0.05),
            _Shares(slice(4, 4 + STEPS), scene=0.7, field=0.2, pixel=0.1),
            _Shares(slice(4 + STEPS, None), pixel=1),
        ),
    ),
    Stream.CLOUDS: (STEPS * 3, (_Shares(slice(0, None), far=1),)),
    Stream.RADAR: (
        STEPS * 2 + 2,
        (
            _Shares(slice(0, 2 * STEPS), pixel=1),
            _Shares(slice(2 * STEPS, None), field=0.8, near=0.15, pixel=0.05),
        ),
    ),
}
_ROUGH_SHARES = _Shares(slice(0, 4), field=0.4, near=0.2, pixel=0.4)
"""Those of the reflectance's first columns on rough covers."""


class PixelDraws(Draws):
    """Draws for samples that are pixels of a tile, each number distributed as in a world.

    Parameters
    ----------
    seed
        Seed of the scene.
    row, column
        Those of the tile.
    pixel : int64 array of shape [m]
        Number of each sample's pixel in the tile, row by row.
    parcel, cover : int64 arrays of shape [m]
        Key of each sample's parcel, and its cover.
    """

    def __init__(
        self, seed: int, row: int, column: int, pixel: Integers, parcel: Integers, cover: Integers
    ) -> None:
        super().__init__(seed, row * 65536 + column, Level.PIXEL)
        self._pixel, self._rough = pixel, _ROUGH[cover][:, None]
        self._cells, self._cell = np.unique(parcel // MOST_PARCELS, return_inverse=True)
        self._parcel = parcel % MOST_PARCELS
        y, x = np.divmod(pixel, TILE)
        self._y, self._x = row * TILE + y, column * TILE + x

    def normal(self, stream: Stream, *shape: int) -> Floats:
        """Draw standard normal numbers, float64 of this shape."""
        width, shares = _OF[stream]
        pixels = super().normal(stream, TILE * TILE, width)[self._pixel]
        mixed = np.empty((shape[0], width))
        for share in shares:
            mixed[:, share.columns] = self._mixed(stream, width, share, pixels)
        if stream is Stream.REFLECTANCE and self._rough.any():
            columns = _ROUGH_SHARES.columns
            rough = self._mixed(stream, width, _ROUGH_SHARES, pixels)
            mixed[:, columns] = np.where(self._rough, rough, mixed[:, columns])
        return mixed.reshape(shape)

    def uniform(self, stream: Stream, *shape: int) -> Floats:
        """Draw uniform numbers in [0, 1), float64 of this shape."""
        from scipy.special import ndtr

        return np.asarray(np.minimum(ndtr(self.normal(stream, *shape)), 1 - 2.0**-24))

    def _mixed(self, stream: Stream, width: int, share: _Shares, pixels: Floats) -> Floats:
        """Return the sum of the levels' noise in some columns, [m, columns]."""
        columns = share.columns
        made: Floats = np.sqrt(share.pixel) * pixels[:, columns]
        if share.scene:
            common = Draws(self._seed, level=Level.SCENE).normal(stream, width)
            made += np.sqrt(share.scene) * common[columns]
        if share.field:
            fields = Draws(self._seed, self._cells, Level.FIELD).normal(stream, MOST_PARCELS, width)
            made += np.sqrt(share.field) * fields[self._cell, self._parcel, columns]
        for part, distance in ((share.near, _NEAR), (share.far, _FAR)):
            if part:
                smooth = self._smooth(stream, columns.indices(width)[1], distance)
                made += np.sqrt(part) * smooth[:, columns]
        return made

    def _smooth(self, stream: Stream, width: int, distance: int) -> Floats:
        """Return noise that changes over a distance, of variance 1: two grids of nodes in sum."""
        made = np.zeros((len(self._pixel), width))
        for part, spacing, turn in ((0.75, distance, 0), (0.25, 0.37 * distance, 1)):
            made += np.sqrt(part) * self._grid(stream, width, spacing, turn)
        return made

    def _grid(self, stream: Stream, width: int, spacing: float, turn: int) -> Floats:
        """Interpolate between nodes drawn one by one, each known by its row and column."""
        y, x = self._y / spacing, self._x / spacing
        row, column = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
        weights = []
        for t in (y - row, x - column):
            smooth = t * t * (3 - 2 * t)
            weights.append((1 - smooth, smooth))
        made, square = np.zeros((len(y), width)), np.zeros(len(y))
        for down in (0, 1):
            for right in (0, 1):
                weight = weights[0][down] * weights[1][right]
                node = (row + down + _FIRST) * 65536 + column + right + _FIRST
                nodes, index = np.unique(node, return_inverse=True)
                drawn = Draws(self._seed, nodes, Level.SURROUNDINGS).normal(stream, 2, width)
                made += weight[:, None] * drawn[index, turn]
                square += weight**2
        return np.asarray(made / np.sqrt(square)[:, None])
