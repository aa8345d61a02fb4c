"""What grows on a chip's land on three days of the year, and how six bands of HLS see it.

The numbers are our own round figures after textbook crop calendars of the United States and
published spectra; they are chosen so that classes overlap as they do in such images.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from timl.data.simulator.draws import Floats, Integers


class Crop(NamedTuple):
    """How one class follows the year.

    Parameters
    ----------
    start, end
        Days of the year at which half of its green cover has come, and has gone.
    rise, fall
        Slowness of both, days.
    peak, floor
        Green cover at its largest, and the share of it that stays all year, 0 to 1.
    straw
        Share of the ground that dead plants cover after the end.
    pigment, structure, water
        Leaf: absorption of visible light, near-infrared reflectance, absorption in the short-wave
        infrared; 1 is usual.
    ground
        What lies beneath: 0 soil, 1 water, 2 sealed; between them mixed.
    spread
        How much fields of one chip differ, as a multiple of what is usual.
    south
        Preference of the south, -1 to 1.
    """

    start: float
    end: float
    rise: float
    fall: float
    peak: float
    floor: float
    straw: float
    pigment: float
    structure: float
    water: float
    ground: float
    spread: float
    south: float


# fmt: off
CROPS = (
    Crop(100, 270, 20, 30, .55, .15, .40, .95, 1.00, .90, 0, 1.5, 0),      # natural vegetation
    Crop(105, 285, 15, 20, .92, .40, .05, 1.25, .82, 1.10, 0, 1.0, 0),     # forest
    Crop(150, 262, 9, 10, .90, 0, .35, 1.00, .98, 1.00, 0, 1.0, -.5),      # corn
    Crop(164, 258, 10, 8, .90, 0, .20, .96, 1.12, 1.05, 0, 1.0, -.4),      # soybeans
    Crop(115, 275, 18, 20, .70, .10, .15, 1.00, .95, 1.15, .5, 1.5, 0),    # wetlands
    Crop(100, 285, 25, 30, .28, .40, .10, 1.00, .95, .90, 2, 1.5, 0),      # developed or barren
    Crop(0, 366, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1.0, 0),                       # open water
    Crop(60, 168, 19, 9, .88, 0, .55, .98, 1.00, .95, 0, 1.0, .3),         # winter wheat
    Crop(85, 285, 16, 16, .84, .10, .05, 1.02, 1.10, 1.10, 0, 2.0, 0),     # alfalfa
    Crop(110, 250, 25, 25, .28, .10, .30, .92, 1.00, .90, 0, 2.0, .1),     # fallow
    Crop(172, 285, 13, 11, .78, 0, .10, .96, 1.02, 1.00, 0, 1.0, .9),      # cotton
    Crop(160, 268, 11, 14, .78, 0, .30, .95, .95, .90, 0, 1.0, .6),        # sorghum
    Crop(135, 245, 14, 14, .75, 0, .20, 1.00, 1.02, 1.05, 0, 4.0, 0),      # other
)
# fmt: on
"""Classes in the order of `timl.data.chips.CHIP_CLASSES`."""

# Reflectances x 1e4: blue, green, red, narrow NIR, SWIR 1, SWIR 2
_LEAF = np.array([280, 620, 320, 4400, 2000, 900.0])
_STRAW = np.array([850, 1150, 1500, 2700, 3350, 2500.0])
_DARK_SOIL = np.array([430, 590, 750, 1250, 1700, 1450.0])
_BRIGHT_SOIL = np.array([1150, 1550, 2000, 2900, 3650, 3200.0])
_WATER = np.array([420, 470, 330, 170, 80, 60.0])
_SEALED = np.array([1050, 1200, 1350, 2000, 2250, 2050.0])
_PIGMENT = np.array([0.8, 1, 1, 0, 0, 0])
_SCATTER = np.array([0, 0.1, 0, 1, 0.35, 0.1])
_LEAF_WATER = np.array([0, 0, 0, 0.05, 0.9, 1.2])


def reflectances(crop: Integers, days: Floats, shift: Floats, field: Floats, soil: float) -> Floats:
    """Return reflectances of fields, x 10,000.

    Parameters
    ----------
    crop : int64 array of shape [n]
        Number of each field's class.
    days : float64 array of shape [T]
        Days of the year.
    shift : float64 array of shape [13]
        Days by which each class is later here.
    field : float64 array of shape [n, 6 + T]
        Standard normal numbers of each field.
    soil
        Brightness of the soil here, 0 to 1.

    Returns
    -------
    float64 array of shape [n, T, 6]
    """
    table = np.array(CROPS)[crop]  # [n, 13]
    start, end, rise, fall, peak, floor, straw, pigment, structure, water, ground, spread, _ = (
        column[:, None] for column in table.T
    )
    z = field * spread
    late = shift[crop][:, None] + 5 * z[:, :1]
    season = _rise((days - start - late) / rise) * _rise((end + late - days + 4 * z[:, 1:2]) / fall)
    height = peak * np.clip(1 + 0.07 * z[:, 2:3], 0.3, 1.1)
    green = height * (floor + (1 - floor) * season)
    # alfalfa is cut, and what else varies from date to date loses some of its cover
    green *= 1 - np.clip(0.25 * (spread - 1) * np.abs(field[:, 6:]), 0, 0.7)
    gone = _rise((days - end - late) / fall)
    dry = np.minimum(straw * gone * np.clip(1 + 0.2 * z[:, 3:4], 0, 2), 1 - green)
    leaf = _LEAF * np.exp(
        -1.2 * (pigment - 1 + 0.06 * field[:, 4:5]) * _PIGMENT
        + (np.log(structure) + 0.06 * field[:, 2:3]) * _SCATTER
        - 1.1 * (water - 1 + 0.06 * field[:, 5:6]) * _LEAF_WATER
    )  # [n, 6]
    bright = np.clip(soil + 0.15 * field[:, 3:4], 0, 1.2)
    earth = _DARK_SOIL + bright * (_BRIGHT_SOIL - _DARK_SOIL)
    wet, sealed = np.clip(ground, 0, 1) * (ground <= 1), np.clip(ground - 1, 0, 1)
    below = earth + wet * (_WATER * np.exp(0.25 * field[:, 4:5]) - earth)
    below += sealed * (_SEALED * np.exp(0.2 * field[:, 5:6]) - below)
    moist = 1 - 0.25 * _rise(field[:, 6:])  # [n, T]
    bare = 1 - green - dry
    return np.asarray(
        green[..., None] * leaf[:, None]
        + dry[..., None] * _STRAW
        + (bare * moist)[..., None] * below[:, None]
    )


def _rise(x: Floats) -> Floats:
    """Return a logistic curve, from 0 to 1."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * x))
