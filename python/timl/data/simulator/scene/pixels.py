"""The pixels of a scene, tile by tile: what lies in each, and its bands."""

from __future__ import annotations

from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from timl.bands import BANDS, STEPS
from timl.data.own.exports import DYNAMIC_BANDS, STATIC_BANDS
from timl.data.simulator.draws import Floats, Integers
from timl.data.simulator.places import Places
from timl.data.simulator.samples import Samples
from timl.data.simulator.scene.landscape import Landscape
from timl.data.simulator.scene.noise import TILE, PixelDraws
from timl.data.simulator.series import make_series

_FINE = 3
"""Parts of a pixel's edge: which parcels it holds is asked of 3 x 3 points."""

_RADAR = slice(0, 2)
"""Bands of the series that are in decibels."""

_OF_THE_PLACE = ("temperature_2m", "total_precipitation", "elevation", "slope")
"""Bands that do not depend on what grows."""

_one_rasterizes = Lock()
"""Held while rasterio rasterizes: to silence a warning meanwhile, it replaces Python's filters of
warnings for all threads, and two at once would not restore what was there."""

EDGE = 3
"""Pixels along the scene's edges without a slope, as in exports, whose slope needs neighbours."""


class Ground(NamedTuple):
    """Place of a scene.

    Parameters
    ----------
    country, block
        Numbers of the country and of its block.
    places
        Countries of the world.
    to_degrees
        Turns x and y of the scene, pixels, into longitudes and latitudes.
    """

    country: int
    block: int
    places: Places
    to_degrees: Any


class Tile(NamedTuple):
    """A square of pixels, smaller at the scene's edges.

    Parameters
    ----------
    row, column
        First row and column of pixels.
    truth : uint8 array of shape [h, w]
        1 + number of the cover in `COVERS` at the middle of each pixel.
    bands : float32 array of shape [206, h, w]
        Bands as in an export; NaN is missing.
    """

    row: int
    column: int
    truth: NDArray[np.uint8]
    bands: NDArray[np.float32]


def make_tile(ground: Ground, landscape: Landscape, size: int, seed: int, number: int) -> Tile:
    """Simulate a tile of a scene; tiles are numbered row by row."""
    row, column = divmod(number, -(-size // TILE))
    top, left = row * TILE, column * TILE
    height, width = min(TILE, size - top), min(TILE, size - left)
    parcels = landscape.parcels(left, top, left + width, top + height)
    keys = np.array([parcel.key for parcel in parcels], np.int64)
    covers = np.array([parcel.cover for parcel in parcels], np.int64)
    own, other, share = _composition(
        [parcel.shape for parcel in parcels], (top, left, height, width)
    )
    pixel = np.arange(height)[:, None] * TILE + np.arange(width)
    pixel = pixel.ravel()
    mixed = np.flatnonzero(share > 0)  # a sample more of each for the parcel beside
    at = np.concatenate([np.arange(len(own)), mixed])
    parcel = np.concatenate([own, other[mixed]])
    y, x = top + pixel // TILE + 0.5, left + pixel % TILE + 0.5
    longitude, latitude = ground.to_degrees(x, y)
    samples = Samples(
        place=np.full(len(at), ground.country),
        cover=covers[parcel],
        block=np.full(len(at), ground.block),
        latitude=latitude[at],
        longitude=longitude[at],
        named=np.zeros(len(at), np.bool_),
        evaluation=np.full(len(at), -1),
    )
    draws = PixelDraws(seed, row, column, pixel[at], keys[parcel], covers[parcel])
    series = make_series(ground.places, samples, draws)
    series = _mix(series[: len(own)], series[len(own) :], mixed, share[mixed])
    bands = _bands(series).reshape(-1, height, width)
    _blank_edges(bands[-1], top, left, size)
    truth = (covers[own] + 1).astype(np.uint8).reshape(height, width)
    return Tile(top, left, truth, bands)


def _composition(
    shapes: list[Any], window: tuple[int, int, int, int]
) -> tuple[Integers, Integers, Floats]:
    """Return for each pixel its parcel, the second one, and the share of that, three times [n].

    The parcel is that at the pixel's middle, the second the most frequent of the others.
    """
    from rasterio.features import rasterize
    from rasterio.transform import Affine

    top, left, height, width = window
    with _one_rasterizes:
        fine: Any = rasterize(
            list(zip(shapes, range(1, len(shapes) + 1), strict=True)),
            out_shape=(height * _FINE, width * _FINE),
            transform=Affine(1 / _FINE, 0, left, 0, 1 / _FINE, top),
            dtype="int32",
        )
    # a point on an edge may fall between two parcels: it takes the one before it
    if (fine == 0).any():
        fine = _filled(fine)
    parts = fine.reshape(height, _FINE, width, _FINE).swapaxes(1, 2).reshape(-1, _FINE**2) - 1
    own = parts[:, _FINE**2 // 2]
    equal = parts[:, :, None] == parts[:, None, :]
    count = equal.sum(axis=2) * (parts != own[:, None])  # [n, 9]
    best = count.argmax(axis=1)
    rows = np.arange(len(parts))
    return own.astype(np.int64), parts[rows, best].astype(np.int64), count[rows, best] / _FINE**2


def _filled(numbers: Any) -> Any:
    """Replace 0 by the number before it in its row, or else after it."""
    filled = numbers.copy()
    for line in (filled, filled[:, ::-1]):
        for k in range(1, line.shape[1]):
            line[:, k] = np.where(line[:, k] == 0, line[:, k - 1], line[:, k])
    return filled


def _mix(own: Floats, other: Floats, mixed: Integers, share: Floats) -> Floats:
    """Mix the parcel beside into some pixels, by shares of the area; power, not decibels."""
    part = share[:, None, None]
    made: Floats = own.copy()
    made[mixed] = np.round((1 - part) * own[mixed] + part * other)
    exact = [BANDS.index(band) for band in _OF_THE_PLACE]
    made[..., exact] = own[..., exact]
    power = (1 - part) * 10 ** (own[mixed][..., _RADAR] / 10) + part * 10 ** (
        other[..., _RADAR] / 10
    )
    made[mixed, :, _RADAR] = np.round(10 * np.log10(power), 2)
    return made


def _bands(series: Floats) -> NDArray[np.float32]:
    """Turn series [n, 12, 18] into the bands of an export, [206, n]."""
    bands = np.empty((STEPS, len(DYNAMIC_BANDS), len(series)), np.float32)
    for index, name in enumerate(DYNAMIC_BANDS):
        if name in BANDS:
            bands[:, index] = series[..., BANDS.index(name)].T
    blue = bands[:, DYNAMIC_BANDS.index("B2")]
    bands[:, DYNAMIC_BANDS.index("B1")] = blue + 230  # neither reaches a series
    bands[:, DYNAMIC_BANDS.index("B10")] = np.round(0.004 * blue + 12)
    static = [series[:, 0, BANDS.index(name)] for name in STATIC_BANDS]
    return np.concatenate([bands.reshape(-1, len(series)), np.array(static, np.float32)])


def _blank_edges(slope: NDArray[np.float32], top: int, left: int, size: int) -> None:
    for axis, first in ((0, top), (1, left)):
        at = first + np.arange(slope.shape[axis])
        outside = (at < EDGE) | (at >= size - EDGE)
        slope[outside if axis == 0 else (slice(None), outside)] = np.nan
