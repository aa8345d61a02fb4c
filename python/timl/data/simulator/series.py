"""The series of samples: all 18 bands of 12 months."""

from __future__ import annotations

import numpy as np

from timl.bands import BANDS, STEPS
from timl.data.record.ndvi import NDVI_BANDS, normalised_difference
from timl.data.simulator.climate import climate
from timl.data.simulator.draws import Draws, Floats
from timl.data.simulator.phenology import growth
from timl.data.simulator.places import Places
from timl.data.simulator.samples import Samples
from timl.data.simulator.surface import OPTICAL, backscatter, reflectances


def make_series(places: Places, samples: Samples, draws: Draws) -> Floats:
    """Simulate the series of some samples.

    Values are rounded as measured ones are: reflectances and m to 1, decibels, K and degrees to
    0.01, rain to 1e-7 m per day.

    Parameters
    ----------
    places
        Countries of the world.
    samples
        Chunk of the world's samples.
    draws
        Draws of the chunk.

    Returns
    -------
    float64 array of shape [m, 12, 18]
    """
    weather = climate(places, samples, draws)
    plants = growth(places, samples, weather, draws)
    series = np.empty((len(samples), STEPS, len(BANDS)))
    series[..., :2] = np.round(backscatter(samples, weather, plants, draws), 2)
    optical = slice(BANDS.index(OPTICAL[0]), BANDS.index(OPTICAL[-1]) + 1)
    series[..., optical] = np.round(reflectances(places, samples, weather, plants, draws))
    series[..., BANDS.index("temperature_2m")] = np.round(weather.temperature, 2)
    series[..., BANDS.index("total_precipitation")] = np.round(weather.rain / 1000, 7)
    series[..., BANDS.index("elevation")] = np.round(weather.elevation)[:, None]
    series[..., BANDS.index("slope")] = np.round(weather.slope, 2)[:, None]
    high, low = (series[..., BANDS.index(band)] for band in NDVI_BANDS["record"])
    series[..., BANDS.index("NDVI")] = normalised_difference(high, low)
    return series
