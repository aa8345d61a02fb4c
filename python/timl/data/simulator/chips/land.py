"""The land of a chip: fields, patches that follow no field, and what is without a label."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from timl.data.simulator.chips.surface import CROPS
from timl.data.simulator.draws import Draws, Floats, Integers, Stream

_MOST_FIELDS = 400
"""Most fields of a chip."""
_FIELD = (120.0, 700.0)
"""Area above which a piece of land is divided, smallest and largest, pixels."""
_PATCHES = 0.16
"""Share of the land in patches."""
_UNKNOWN = 0.01
"""Share of the land without a label."""
_WILD = (0, 1, 4, 6)
"""Numbers of the classes of patches: natural vegetation, forest, wetlands, open water."""


class Land(NamedTuple):
    """A chip's land."""

    parcels: Integers
    """Number of the field or patch of each pixel, [size, size]."""
    crops: Integers
    """Number of the class of each field or patch, [n]."""
    labelled: NDArray[np.bool_]
    """Which pixels have a label, bool [size, size]."""


def make_land(draws: Draws, size: int, south: float) -> Land:
    """Draw the land of a chip.

    Parameters
    ----------
    draws
        Draws of the chip.
    size
        Edge of the chip, pixels.
    south
        Place between north, 0, and south, 1.
    """
    from scipy.ndimage import gaussian_filter

    u = draws.uniform(Stream.CHIP_MIX, len(CROPS) + _MOST_FIELDS + 8)
    weights = _weights(u[: len(CROPS)], south, 5 + int(5 * u[-1]))
    parcels, count = _fields(draws.uniform(Stream.CHIP_FIELDS, _MOST_FIELDS + 1, 3), size)
    edges = np.cumsum(weights)
    drawn = np.searchsorted(edges / edges[-1], u[len(CROPS) : len(CROPS) + count], side="right")
    crops = np.minimum(drawn, len(CROPS) - 1)
    noise = draws.normal(Stream.CHIP_PATCHES, 3, size, size)
    where, which, unknown = (
        gaussian_filter(part, sigma, mode="wrap")
        for part, sigma in zip(noise, (7, 16, 4), strict=True)
    )
    wild = [number for number in _WILD if weights[number] > 0]
    if wild:
        patches = where > np.quantile(where, 1 - _PATCHES)
        ranks = np.argsort(np.argsort(which[patches]))
        kind = ranks * len(wild) // len(ranks)
        parcels[patches] = count + kind
        crops = np.concatenate([crops, wild])
    labelled = unknown < np.quantile(unknown, 1 - _UNKNOWN)
    side, depth = int(12 * u[-2]), 3 + int(14 * u[-3])  # a third of the chips have a margin
    if side < 4:
        np.rot90(labelled, side)[:depth] = False
    return Land(parcels, crops.astype(np.int64), labelled)


def _weights(u: Floats, south: float, count: int) -> Floats:
    """Return the shares of the classes among the fields; some have none."""
    liking = np.array([crop.south for crop in CROPS])
    shares = -np.log(1 - u) * np.exp(2.5 * liking * (2 * south - 1))
    shares[np.argsort(shares)[:-count]] = 0
    shares[shares > 0] += 0.12 * shares.sum()
    return np.asarray(shares / shares.sum())


def _fields(u: Floats, size: int) -> tuple[Integers, int]:
    """Divide a chip into rectangles, turned a little; return each pixel's, and their number."""
    angle = np.radians(-12 + 24 * u[-1, 0])
    target = _FIELD[0] + (_FIELD[1] - _FIELD[0]) * u[-1, 1]
    down, across = np.mgrid[:size, :size] - size / 2
    along = np.cos(angle) * across + np.sin(angle) * down
    other = np.cos(angle) * down - np.sin(angle) * across
    reach = 0.75 * size
    waiting = [(-reach, reach, -reach, reach)]
    done: list[tuple[float, float, float, float]] = []
    for share, tried, slant in u[:-1]:
        if not waiting or len(waiting) + len(done) >= _MOST_FIELDS:
            break
        west, east, north, south = waiting.pop(0)
        width, height = east - west, south - north
        if width * height < target * (0.6 + tried):
            done.append((west, east, north, south))
            continue
        part = 0.35 + 0.3 * share
        if width > height * (0.7 + 0.6 * slant):
            cut = west + part * width
            waiting += [(west, cut, north, south), (cut, east, north, south)]
        else:
            cut = north + part * height
            waiting += [(west, east, north, cut), (west, east, cut, south)]
    parcels = np.zeros((size, size), np.int64)
    rectangles = done + waiting
    for number, (west, east, north, south) in enumerate(rectangles):
        parcels[(along >= west) & (along < east) & (other >= north) & (other < south)] = number
    return parcels, len(rectangles)
