"""Weather and seasons of each sample: temperature, rain, moisture, and when its seasons begin."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from timl.bands import STEPS
from timl.data.simulator.covers import Regime
from timl.data.simulator.draws import Draws, Floats, Stream
from timl.data.simulator.places import Places
from timl.data.simulator.samples import Samples

YEAR = 365.25
"""Days of a year."""

FIRST_MONTH = 2
"""Series go from February to January, as most of the record's."""

DAYS = ((np.arange(STEPS) + FIRST_MONTH - 0.5) * YEAR / STEPS) % YEAR
"""Day of the year in the middle of each step."""


class Climate(NamedTuple):
    """Climate of m samples.

    Parameters
    ----------
    temperature : float64 array of shape [m, 12]
        Monthly mean temperatures, K.
    rain : array of shape [m, 12]
        Monthly mean rain, mm per day.
    moisture : array of shape [m, 12]
        Moisture of the soil, 0 to 1, without irrigation.
    warmth : array of shape [m, 12]
        Warmth for plants, from 0, too cold to grow, to 1, warm enough.
    warm_season, cool_season : arrays of shape [m]
        Day of the year when WARM crops' first season begins, and when COOL crops stand highest.
    second_season : array of shape [m]
        Days from the first season's begin to the second's.
    dryness : array of shape [m]
        Dryness of the growing season, 0 to 1: share of the land for irrigation that is irrigated.
    elevation, slope : arrays of shape [m]
        Elevation, m, and slope, degrees.
    """

    temperature: Floats
    rain: Floats
    moisture: Floats
    warmth: Floats
    warm_season: Floats
    cool_season: Floats
    second_season: Floats
    dryness: Floats
    elevation: Floats
    slope: Floats


def climate(places: Places, samples: Samples, draws: Draws) -> Climate:
    """Draw the climate of samples; `draws` are those of their chunk."""
    place, latitude = samples.place, samples.latitude
    noise = draws.normal(Stream.FIELD_WEATHER, len(samples), 2 * STEPS + 2)
    elevation, slope = _terrain(places, samples, noise[:, -2:])
    # Usual yearly course of the temperature, degrees Celsius: our fit by eye to climate tables.
    mean = 27.5 - 0.0072 * latitude**2 - 6.5e-3 * elevation
    swing = 0.32 * np.abs(latitude) * places.continental[place]
    warmest = np.where(latitude >= 0, 203.0, 20.5)
    celsius = mean[:, None] + swing[:, None] * _wave(DAYS - warmest[:, None])
    celsius += places.warming[place] + 0.5 * noise[:, :STEPS]
    rain = _usual_rain(places, samples) * places.wetness[place]
    rain *= np.exp(0.12 * noise[:, STEPS : 2 * STEPS])
    demand = 0.6 + 0.13 * np.maximum(celsius, 0)
    stored = 0.55 * rain + 0.3 * np.roll(rain, 1, axis=1) + 0.15 * np.roll(rain, 2, axis=1)
    moisture = np.clip(stored / demand, 0.02, 1)
    warmth = 1 / (1 + np.exp(-(celsius - 8) / 2.2))
    driest = (warmth * (1 - moisture)).sum(axis=1) / warmth.sum(axis=1)
    rainy = places.regime[place] < Regime.MEDITERRANEAN
    equatorial = places.regime[place] == Regime.EQUATORIAL
    warm = _warm_season(places, samples, mean, swing, warmest)
    colder = np.where(latitude >= 0, 45.0, 45 + YEAR / 2)
    cool = colder + 4.2 * np.maximum(np.abs(latitude) - 25, -6)
    return Climate(
        temperature=celsius + 273.15,
        rain=rain,
        moisture=moisture,
        warmth=warmth,
        warm_season=warm,
        cool_season=np.where(equatorial, warm + YEAR / 2 + 75, cool),
        second_season=np.where(equatorial, YEAR / 2, np.where(rainy, 165.0, 95.0)),
        dryness=np.clip(1.6 * driest - 0.1, 0, 1),
        elevation=elevation,
        slope=slope,
    )


def _wave(days: Floats) -> Floats:
    """Return the cosine of the year, 1 at day 0."""
    return np.asarray(np.cos(2 * np.pi / YEAR * days))


def _usual_rain(places: Places, samples: Samples) -> Floats:
    """Return the usual rain of each month, mm per day [m, 12]."""
    place = samples.place
    regime = places.regime[place][:, None]
    phase = DAYS - places.peak[place][:, None]
    sharpness = np.array([0.0, 1.9, 2.7, 1.2, 0.25])[regime]
    course = np.where(
        regime == Regime.EQUATORIAL, 1 + 0.75 * _wave(2 * phase), np.exp(sharpness * _wave(phase))
    )
    course /= course.mean(axis=1, keepdims=True)
    return np.asarray(places.rain[place][:, None] * course)


def _warm_season(
    places: Places, samples: Samples, mean: Floats, swing: Floats, warmest: Floats
) -> Floats:
    """Return the day when WARM crops are sown: with the rain, or when it is 11 degrees warm."""
    place = samples.place
    before_rain = np.array([42.0, 62.0, 52.0, 0, 0])[places.regime[place]]
    cosine = np.clip((11 - mean) / np.maximum(swing, 0.1), -0.6, 0.9)
    thermal = warmest - np.arccos(cosine) * YEAR / (2 * np.pi)
    rainy = places.regime[place] < Regime.MEDITERRANEAN
    return np.where(rainy, places.peak[place] - before_rain, thermal)


def _terrain(places: Places, samples: Samples, noise: Floats) -> tuple[Floats, Floats]:
    """Return elevation, m, and slope, degrees: waves over the land, and the field's own part."""
    place = samples.place
    y, x = np.radians(samples.latitude), np.radians(samples.longitude)
    hills = np.sin(31 * y + 17 * x) + 0.6 * np.sin(83 * x - 57 * y) + 0.4 * np.sin(151 * (x + y))
    relief = places.relief[place]
    elevation = places.altitude[place] + relief * (0.6 * hills + 0.3 * noise[:, 0])
    slope = 0.4 + (0.5 + relief / 70) * np.exp(0.8 * noise[:, 1] - 0.6)
    return np.maximum(elevation, 1), np.minimum(slope, 45)
