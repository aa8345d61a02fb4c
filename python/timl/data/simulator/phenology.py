"""How green each sample is in each month: seasons of crops, and vegetation that follows climate."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from timl.bands import STEPS
from timl.data.simulator.climate import DAYS, YEAR, Climate
from timl.data.simulator.covers import Kind, column, number
from timl.data.simulator.draws import Draws, Floats, Stream
from timl.data.simulator.places import Places
from timl.data.simulator.samples import Samples


class Growth(NamedTuple):
    """Surface of m samples in 12 months.

    Parameters
    ----------
    green, dry : float64 arrays of shape [m, 12]
        Shares of the surface covered by green and by dead plants; the rest is bare.
    moisture : array of shape [m, 12]
        Moisture of the soil, 0 to 1, irrigation included.
    flooded : array of shape [m, 12]
        Share of the bare part that stands under water.
    """

    green: Floats
    dry: Floats
    moisture: Floats
    flooded: Floats


def growth(places: Places, samples: Samples, climate: Climate, draws: Draws) -> Growth:
    """Grow what the samples bear; `draws` are those of their chunk."""
    place, cover = samples.place, samples.cover
    kind = column("kind", cover)
    u = draws.uniform(Stream.FIELDS, len(samples), 6)
    z = draws.normal(Stream.GROWTH, len(samples), STEPS + 3)
    irrigated = u[:, 0] < column("irrigated", cover) * np.maximum(
        climate.dryness, column("irrigated", cover) > 0.95
    )
    wild_growth = climate.warmth * climate.moisture**0.8
    watered = np.where(irrigated[:, None], np.maximum(climate.moisture, 0.75), climate.moisture)

    seasonal, straw, early = _seasons(places, samples, climate, u, z)
    evergreen = column("evergreen", cover)[:, None]
    following = evergreen + (1 - evergreen) * climate.warmth * watered**0.7
    cropped = (kind <= Kind.COOL)[:, None]
    fit = 0.45 + 0.55 * np.minimum(1, 1.5 * watered)
    vigour = np.where(kind <= Kind.WOODY, places.care[place], 1.0) * (1 - 0.35 * u[:, 1] ** 2)
    peak = column("peak", cover) * vigour
    green = peak[:, None] * np.where(cropped, seasonal * fit, following)
    cut = column("cuts", cover)[:, None] * _unit(z[:, :STEPS]) ** 2
    green *= 1 - cut

    # Weeds between the seasons, and the field's surroundings within the pixel.
    weeds = np.where(kind <= Kind.WOODY, 0.06 + 0.38 * u[:, 2] ** 2, 0.0)[:, None] * wild_growth
    green = np.maximum(green, weeds * (1 - seasonal))
    beside = np.where(cover == number("water"), 0.05, 0.4)[:, None] * (u[:, 3] ** 3)[:, None]
    green += beside * (0.6 * wild_growth - green)
    green = np.clip(green + 0.015 * z[:, :STEPS], 0, 0.98)

    dry = np.where(cropped, 0.75 * peak[:, None] * straw, 0.55 * (peak[:, None] - green))
    dry = np.clip(np.where((kind == Kind.DEAD)[:, None], 0.0, dry), 0, 1 - green)
    paddy = (cover == number("rice"))[:, None]
    return Growth(green, dry, watered, np.where(paddy, early, 0.0))


def _seasons(
    places: Places, samples: Samples, climate: Climate, u: Floats, z: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return green part, straw, and the weeks about sowing, of sown crops: three times [m, 12]."""
    place, cover = samples.place, samples.cover
    warm = column("kind", cover) == Kind.WARM
    middle = np.where(warm, climate.warm_season, climate.cool_season) + column("delay", cover)
    middle += places.calendar[place, cover] + places.block_shift[place, samples.block]
    middle += 12 * z[:, STEPS]
    length = column("length", cover) * np.exp(0.12 * z[:, STEPS + 1])
    # The second season: in some fields after the first, near the equator in others instead of it.
    short = warm & (column("length", cover) < 95)
    second = short & (u[:, 4] < places.second_season[place])
    instead = second & (climate.second_season > 170) & (u[:, 5] < 0.5)
    middles = [middle + np.where(instead, climate.second_season, 0), middle + climate.second_season]
    curves = [_one_season(cover_middle, length, samples) for cover_middle in middles]
    has_both = (second & ~instead)[:, None]
    first, other = (np.array(curve) for curve in curves)
    both = np.where(has_both, np.maximum(first, 0.9 * other), first)
    return both[0], both[1] * (1 - both[0]), both[2]


def _one_season(middle: Floats, length: Floats, samples: Samples) -> tuple[Floats, Floats, Floats]:
    rise = np.maximum(column("rise", samples.cover), 1)[:, None]
    fall = np.maximum(column("fall", samples.cover), 1)[:, None]
    half = np.maximum(length, 1)[:, None] / 2
    # Days since the middle, taken twice around the year so that long seasons meet themselves.
    days = (DAYS - middle[:, None] + YEAR / 2) % YEAR - YEAR / 2
    green = np.zeros(days.shape)
    straw = np.zeros(days.shape)
    early = np.zeros(days.shape)
    for turn in (-YEAR, 0.0, YEAR):
        d = days + turn
        begun, ended = _logistic((d + half) / rise), _logistic((d - half) / fall)
        green += begun - ended
        straw += ended - _logistic((d - half - 45) / 14)
        early += _logistic((d + half + 30) / 6) - _logistic((d + half - 22) / 8)
    return np.clip(green, 0, 1), np.clip(straw, 0, 1), np.clip(early, 0, 1)


def _logistic(x: Floats) -> Floats:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * x))


def _unit(z: Floats) -> Floats:
    """Turn standard normal numbers into numbers between 0 and 1."""
    return _logistic(1.6 * z)
