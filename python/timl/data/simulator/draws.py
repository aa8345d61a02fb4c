"""The simulator's random numbers: one numbered stream for each thing that is drawn."""

from __future__ import annotations

import enum

import numpy as np
from numpy.typing import NDArray

from timl import random

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Stream(enum.IntEnum):
    """Stream of random numbers for one thing that is drawn; no two share a number."""

    CELLS = 0
    NAMES = 1
    BOXES = 2
    CLUSTERS = 3
    PLACES = 4
    BLOCKS = 5
    WEATHER = 6
    CALENDARS = 7
    CROP_ORDER = 8
    SURVEY_ORDER = 9
    TEST_BLOCKS = 10
    COVERS = 11
    POSITIONS = 12
    FIELDS = 13
    FIELD_WEATHER = 14
    GROWTH = 15
    REFLECTANCE = 16
    CLOUDS = 17
    RADAR = 18
    LANDSCAPE = 19
    VERTICES = 20
    DIVISION = 21
    LAND_USE = 22
    SURVEY_POINTS = 23
    CHIP_PLACE = 24
    CHIP_MIX = 25
    CHIP_FIELDS = 26
    CHIP_PATCHES = 27
    CHIP_SEASON = 28
    CHIP_GRAIN = 29


class Level(enum.IntEnum):
    """What a draw belongs to; each level has streams of its own."""

    WORLD = 0
    SCENE = 1
    FIELD = 2
    SURROUNDINGS = 3
    PIXEL = 4
    CHIP = 5


_STREAMS = 64
"""Numbers of streams that a level may have."""


def require_integers(seed: int, **sizes: int) -> None:
    """Raise TypeError unless a seed and sizes are integers, ValueError if no seed is such a one."""
    for name, value in (*sizes.items(), ("seed", seed)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise TypeError(f"{name} is {value!r}: give an integer")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed}: give a number in [0, 2**64)")


class Draws:
    """Random draws that depend on (seed, chunk, level, stream) alone.

    Parameters
    ----------
    seed
        Seed of the world or scene, in [0, 2**64).
    chunk
        Number of the chunk of samples that is drawn for; 0 for what concerns the whole world. An
        array of numbers makes a draw for each: its shape comes first in that of the draws.
    level
        What is drawn for.
    """

    def __init__(self, seed: int, chunk: random.Index = 0, level: Level = Level.WORLD) -> None:
        self._seed, self._chunk, self._level = seed, chunk, level

    def _task(self, stream: Stream) -> int:
        return int(stream) + _STREAMS * int(self._level)

    def uniform(self, stream: Stream, *shape: int) -> Floats:
        """Draw uniform numbers in [0, 1), float64 of this shape."""
        return random.uniform(
            shape,
            seed=self._seed,
            task=self._task(stream),
            epoch=self._chunk,
            purpose=random.Purpose.SIMULATION,
        ).astype(np.float64)

    def normal(self, stream: Stream, *shape: int) -> Floats:
        """Draw standard normal numbers, float64 of this shape."""
        return random.normal(
            shape,
            seed=self._seed,
            task=self._task(stream),
            epoch=self._chunk,
            purpose=random.Purpose.SIMULATION,
        ).astype(np.float64)

    def permutation(self, stream: Stream, n: int) -> Integers:
        """Draw a random order of 0 .. n - 1."""
        return random.permutation(
            n,
            seed=self._seed,
            task=self._task(stream),
            epoch=self._chunk,
            purpose=random.Purpose.SIMULATION,
        )
