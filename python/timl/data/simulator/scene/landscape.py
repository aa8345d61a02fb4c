"""The land of a scene: fields, roads, villages, woods and a river as polygons, cell by cell."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from timl.data.simulator.covers import CROPS, number
from timl.data.simulator.draws import Draws, Floats, Integers, Level, Stream
from timl.data.simulator.samples import Mix

if TYPE_CHECKING:
    from shapely import Geometry

CELL = 76
"""Edge of a cell between roads, pixels, before its corners are moved."""

_HALF_ROAD = 0.6
"""Half of a road's width, pixels."""
_MOVED = 0.2
"""Most that a corner is moved in x and in y, share of a cell's edge."""
_VILLAGES, _WOODS = 0.16, 0.4
"""Shares of the corners with a village and of the cells with a wood."""
_FIELDS = (110.0, 480.0)
"""Area above which a piece of land is divided, smallest and largest, pixels."""
MOST_PARCELS = 96
"""Most parcels of a cell."""
_SMALLEST = 6.0
"""Area below which what is left of a field counts as grassland beside it, pixels."""
_FIRST = 1 << 15
"""Added to a cell's row and column, so that they are not negative."""


class Parcel(NamedTuple):
    """A piece of land that bears one cover.

    Parameters
    ----------
    key
        Number of the parcel: `MOST_PARCELS` times that of its cell, plus its number there.
    cover
        Number of its cover in `COVERS`.
    surveyed
        Whether surveyors go there; they take no samples of roads.
    shape
        Polygon or polygons in pixels: x to the east and y to the south of the scene's corner.
    """

    key: int
    cover: int
    surveyed: bool
    shape: Geometry


class Landscape:
    """Parcels of a scene. Each cell depends on the arguments and its own number alone.

    Parameters
    ----------
    size
        Edge of the scene, pixels.
    mix
        Covers of the country.
    seed
        Seed of the scene.
    """

    def __init__(self, size: int, mix: Mix, seed: int) -> None:
        self._seed = seed
        u = Draws(seed, level=Level.SCENE).uniform(Stream.LANDSCAPE, 8)
        angle = np.radians(-25 + 50 * u[0])
        self._turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        self._start = -CELL * u[1:3]
        self._river = (size * (0.3 + 0.4 * u[3]), *(2 * np.pi * u[4:7]), 0.7 * (u[7] - 0.5))
        self._covers, self._edges = _land_use(mix)
        self.cell = lru_cache(maxsize=512)(self._cell)

    def cells(self, west: float, north: float, east: float, south: float) -> list[tuple[int, int]]:
        """Return the cells that may have a part in a box, pixels."""
        corners = np.array([[west, north], [west, south], [east, north], [east, south]])
        places = ((corners - self._start) @ self._turn) / CELL
        low = np.floor(places.min(axis=0) - _MOVED).astype(int) - 1
        high = np.ceil(places.max(axis=0) + _MOVED).astype(int)
        return [(i, j) for j in range(low[1], high[1] + 1) for i in range(low[0], high[0] + 1)]

    def parcels(self, west: float, north: float, east: float, south: float) -> list[Parcel]:
        """Return the parcels that have a part in a box, pixels."""
        from shapely import box, intersects

        found = [p for cell in self.cells(west, north, east, south) for p in self.cell(*cell)]
        near = intersects([parcel.shape for parcel in found], box(west, north, east, south))
        return [parcel for parcel, touches in zip(found, near, strict=True) if touches]

    def _cell(self, i: int, j: int) -> tuple[Parcel, ...]:
        """Return the parcels of a cell; roads are the first."""
        from shapely import Polygon, union_all

        draws = Draws(self._seed, _number(i, j), Level.FIELD)
        u = draws.uniform(Stream.LAND_USE, MOST_PARCELS + 12)
        corners = [(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)]
        block = np.stack([self._corner(*corner) for corner in corners])
        whole = Polygon(block)
        land = whole.buffer(-_HALF_ROAD, join_style="mitre")
        villages = union_all([self._village(*corner) for corner in corners])
        made: list[tuple[int, bool, Any]] = [
            (number("built-up"), False, whole.difference(land)),
            (number("built-up"), True, land.intersection(villages)),
        ]
        left = land.difference(villages)
        river = self._stream_line(block[:, 1].min() - CELL, block[:, 1].max() + CELL)
        banks = ("permanent grassland", "forest")[int(u[0] < 0.35)]
        for cover, width in (("water", 1.7), (banks, 4.0 + 3 * u[1])):
            strip = river.buffer(width)
            made.append((number(cover), True, left.intersection(strip)))
            left = left.difference(strip)
        if u[2] < _WOODS:
            at = block[0] + u[3] * (block[1] - block[0]) + u[4] * (block[3] - block[0])
            wood = _blob(at, 8 + 20 * u[5] ** 2, u[6:10])
            made.append((number("forest"), True, left.intersection(wood)))
            left = left.difference(wood)
        rest = []
        pieces = self._divided(block, draws, MOST_PARCELS - len(made) - 1)
        covers = self._covers[np.searchsorted(self._edges, u[12:], side="right")]
        for piece, cover in zip(pieces, covers, strict=False):
            field = left.intersection(Polygon(piece))
            if field.area < _SMALLEST:
                rest.append(field)
            else:
                made.append((int(cover), True, field))
        made.append((number("permanent grassland"), True, union_all(rest)))
        first = _number(i, j) * MOST_PARCELS
        return tuple(
            Parcel(first + index, cover, surveyed, shape)
            for index, (cover, surveyed, whole_shape) in enumerate(made)
            if not (shape := _areas(whole_shape)).is_empty
        )

    def _of_corner(self, i: int, j: int) -> Floats:
        return Draws(self._seed, _number(i, j), Level.SCENE).uniform(Stream.VERTICES, 8)

    def _corner(self, i: int, j: int) -> Floats:
        u = self._of_corner(i, j)
        moved = np.array([i, j]) + _MOVED * (2 * u[:2] - 1)
        return np.asarray(self._start + self._turn @ (CELL * moved))

    def _village(self, i: int, j: int) -> Geometry:
        from shapely import Polygon

        u = self._of_corner(i, j)
        if u[2] >= _VILLAGES:
            return Polygon()
        return _blob(self._corner(i, j), 7 + 12 * u[3], u[4:8])

    def _stream_line(self, north: float, south: float) -> Geometry:
        """Return the middle of the river between two ys."""
        from shapely import LineString

        at, one, two, three, slant = self._river
        y = np.arange(np.floor(north), np.ceil(south) + 1)
        x = at + slant * y + 26 * np.sin(y / 71 + one)
        x += 11 * np.sin(y / 29 + two) + 3.5 * np.sin(y / 9 + three)
        return LineString(np.stack([x, y], axis=1))

    def _divided(self, block: Floats, draws: Draws, most: int) -> list[Floats]:
        """Divide a cell into convex pieces, each by lines about along the cell's edges."""
        u = draws.uniform(Stream.DIVISION, MOST_PARCELS + 1, 4)
        target = _FIELDS[0] + (_FIELDS[1] - _FIELDS[0]) * u[-1, 0] ** 1.5
        along = np.stack([block[1] - block[0], block[3] - block[0]])
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        waiting: list[Floats] = [block]
        done: list[Floats] = []
        for share, slant, tried, long in u[:-1]:
            if not waiting or len(waiting) + len(done) >= most:
                break
            piece = waiting.pop(0)
            if _area(piece) < target * (0.7 + 0.9 * tried):
                done.append(piece)
                continue
            extents = [np.ptp(piece @ direction) for direction in along]
            # long pieces are cut across; some others along, into strips
            across = int(extents[1] * (0.75 + 0.5 * long) > extents[0])
            direction = along[across]
            normal = direction + 0.12 * (2 * slant - 1) * along[1 - across]
            position = (piece @ normal).min() + (0.34 + 0.32 * share) * np.ptp(piece @ normal)
            waiting += [_half(piece, normal, position), _half(piece, -normal, -position)]
        return done + waiting


def _number(i: int, j: int) -> int:
    """Return the number of a cell, or of its first corner, below 2**32."""
    return (i + _FIRST) * 2 * _FIRST + j + _FIRST


def _land_use(mix: Mix) -> tuple[Integers, Floats]:
    """Return covers of fields, and the upper edges of their shares; common crops are preferred."""
    crops = mix.covers < len(CROPS)
    others = {"permanent grassland": 0.08, "fallow": 0.05, "shrubland": 0.03}
    weights = mix.counts[crops] ** 1.5
    shares = [*(0.84 * weights / weights.sum()), *others.values()]
    covers = [*mix.covers[crops], *map(number, others)]
    edges = np.cumsum(shares)
    edges[-1] = 1
    return np.array(covers, np.int64), edges


def _blob(at: Floats, radius: float, phases: Floats) -> Geometry:
    """Return a round shape with an uneven edge."""
    from shapely import Polygon

    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    waves = [np.sin((k + 2) * angle + 2 * np.pi * phase) for k, phase in enumerate(phases)]
    reach = radius * (1 + 0.16 * np.sum(waves, axis=0) / np.sqrt(len(waves)) * 1.4)
    return Polygon(at + reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1))


def _half(piece: Floats, normal: Floats, position: float) -> Floats:
    """Return the part of a convex polygon [n, 2] where its product with `normal` is no more."""
    side = piece @ normal - position
    kept = []
    for k, now in enumerate(side):
        before = side[k - 1]
        if (now <= 0) != (before <= 0):
            t = before / (before - now)
            kept.append(piece[k - 1] + t * (piece[k] - piece[k - 1]))
        if now <= 0:
            kept.append(piece[k])
    return np.stack(kept)


def _area(piece: Floats) -> float:
    x, y = piece.T
    return float(abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2)


def _areas(shape: Geometry) -> Geometry:
    """Return the polygons of a shape without its lines and points."""
    from shapely import MultiPolygon, get_parts

    parts = [part for part in get_parts(shape) if part.geom_type == "Polygon" and part.area > 0]
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)
