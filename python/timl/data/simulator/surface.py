"""Measurements of satellites: Sentinel-2 reflectances and Sentinel-1 backscatter of a surface."""

from __future__ import annotations

import numpy as np

from timl.bands import BANDS, STEPS
from timl.data.simulator.climate import Climate
from timl.data.simulator.covers import column, number
from timl.data.simulator.draws import Draws, Floats, Stream
from timl.data.simulator.phenology import Growth
from timl.data.simulator.places import Places
from timl.data.simulator.samples import Samples

OPTICAL = tuple(name for name in BANDS if name.startswith("B"))
"""The eleven bands of Sentinel-2 that the record keeps."""

# Reflectances x 1e4 in these bands: round figures of our own after published spectra.
# B2, B3, B4, B5, B6, B7, B8, B8A, B9, B11, B12
_GREEN = np.array([230, 560, 260, 850, 2900, 3900, 4150, 4350, 4300, 1900, 820.0])
_DRY = np.array([800, 1120, 1450, 1750, 2050, 2250, 2450, 2650, 2700, 3300, 2500.0])
_BRIGHT_SOIL = np.array([1150, 1550, 2000, 2250, 2400, 2550, 2700, 2850, 2950, 3600, 3200.0])
_DARK_SOIL = np.array([420, 580, 740, 860, 960, 1050, 1140, 1230, 1270, 1650, 1450.0])
_WATER = np.array([520, 480, 330, 260, 200, 185, 170, 150, 140, 70, 50.0])
_TOWN = np.array([1250, 1400, 1600, 1720, 1850, 1950, 2080, 2150, 2200, 2350, 2150.0])
_SNOW = np.array([7600, 7700, 7700, 7600, 7500, 7400, 7300, 7200, 6300, 1000, 800.0])
_CLOUD = np.array([5600, 5400, 5500, 5700, 5900, 6000, 6100, 6200, 3200, 4300, 3400.0])
# Where leaves absorb by pigments, scatter, and absorb by water: 0 to 1.
_PIGMENT = np.array([0.8, 1, 1, 0.8, 0.15, 0, 0, 0, 0, 0, 0])
_SCATTER = np.array([0, 0.1, 0, 0.2, 0.8, 1, 1, 1, 1, 0.35, 0.1])
_LEAF_WATER = np.array([0, 0, 0, 0, 0, 0, 0, 0.05, 0.1, 0.9, 1.2])
_HAZE = np.array([620, 330, 190, 140, 90, 70, 50, 40, 30, 5, 0.0])
"""Light scattered by the air: the record's reflectances are those at the top of the atmosphere."""

_VAPOUR = 0.34
"""Share of B9 that water vapour leaves."""


def reflectances(
    places: Places, samples: Samples, climate: Climate, growth: Growth, draws: Draws
) -> Floats:
    """Return monthly composites of the optical bands, reflectance x 1e4, float64 [m, 12, 11]."""
    m = len(samples)
    z = draws.normal(Stream.REFLECTANCE, m, STEPS * len(OPTICAL) + STEPS + 4)
    field, month = z[:, :4], z[:, 4 : 4 + STEPS]
    surface = _clear_surface(places, samples, growth, field)
    celsius = climate.temperature - 273.15
    snow = np.clip((-0.5 - celsius) / 5, 0, 1) * (0.35 + 0.5 * _squash(month))
    surface += snow[..., None] * (_SNOW - surface)
    surface *= np.exp(0.05 * month)[..., None]  # sun and view
    surface[..., OPTICAL.index("B9")] *= _VAPOUR * np.exp(-0.02 * np.maximum(celsius, 0))
    surface += _HAZE * np.exp(0.25 * month[:, ::-1])[..., None]
    _cloud(surface, climate, draws)
    grain = z[:, 4 + STEPS :].reshape(m, STEPS, len(OPTICAL))
    surface *= 1 + 0.025 * grain
    return np.clip(surface, 1, 12000)


def _clear_surface(places: Places, samples: Samples, growth: Growth, field: Floats) -> Floats:
    """Mix plants and ground by their shares of the surface, [m, 12, 11]."""
    place, cover = samples.place, samples.cover
    bright = places.soil[place] + places.block_soil[place, samples.block] + 0.14 * field[:, 0]
    bright = np.clip(bright, 0, 1.2)[:, None, None]
    soil = _DARK_SOIL + bright * (_BRIGHT_SOIL - _DARK_SOIL)
    ground = soil * (1 - 0.38 * growth.moisture[..., None])
    water = _WATER * np.exp(0.3 * field[:, 1])[:, None, None]
    ground += growth.flooded[..., None] * 0.8 * (water - ground)
    ground = np.where((cover == number("water"))[:, None, None], water, ground)
    town = _TOWN * np.exp(0.22 * field[:, 0])[:, None, None]
    ground = np.where((cover == number("built-up"))[:, None, None], town, ground)
    pigment = column("pigment", cover) * np.exp(0.08 * field[:, 1])
    structure = column("structure", cover) * np.exp(0.09 * field[:, 2])
    leaf_water = column("water", cover) * np.exp(0.09 * field[:, 3])
    leaf = _GREEN * np.exp(
        -1.2 * (pigment[:, None] - 1) * _PIGMENT
        + np.log(structure)[:, None] * _SCATTER
        - 1.1 * (leaf_water[:, None] - 1) * _LEAF_WATER
    )
    bare = 1 - growth.green - growth.dry
    return np.asarray(
        growth.green[..., None] * leaf[:, None]
        + growth.dry[..., None] * _DRY
        + bare[..., None] * ground
    )


def _cloud(surface: Floats, climate: Climate, draws: Draws) -> None:
    """Leave clouds in rainy months' composites, or fill the month from its neighbours in time."""
    u = draws.uniform(Stream.CLOUDS, len(surface), STEPS, 3)
    risk = 0.03 + 0.33 * np.minimum(climate.rain / 7, 1)
    lost = u[..., 0] < risk
    filled = lost & (u[..., 1] < 0.5)
    between = 0.5 * (np.roll(surface, 1, axis=1) + np.roll(surface, -1, axis=1))
    between[:, 0], between[:, -1] = surface[:, 1], surface[:, -2]
    share = 0.04 + 0.5 * u[..., 2] ** 2
    hazy = surface + share[..., None] * (_CLOUD - surface)
    surface[:] = np.where(
        filled[..., None], between, np.where((lost & ~filled)[..., None], hazy, surface)
    )


def backscatter(samples: Samples, climate: Climate, growth: Growth, draws: Draws) -> Floats:
    """Return VV and VH in decibels, float64 [m, 12, 2]: plants are a cloud of water over ground.

    After the water cloud model of Attema and Ulaby (1978): sigma = plants (1 - t) + ground t, with
    the two-way transmission t = exp(-2 x depth).
    """
    cover = samples.cover
    z = draws.normal(Stream.RADAR, len(samples), STEPS * 2 + 2)
    depth = column("bulk", cover)[:, None] * (growth.green + 0.25 * growth.dry)
    wet = growth.moisture
    still = np.maximum(growth.flooded, (cover == number("water"))[:, None] * 0.97)
    slope = np.minimum(climate.slope, 20)[:, None]
    town = (cover == number("built-up"))[:, None]
    both = []
    for plants, dry_ground, wetting, surface_water, corner in (
        (-8.3, -15.0, 6.5, -21.0, -5.5),
        (-13.6, -22.5, 4.5, -28.0, -13.0),
    ):
        ground = _power(dry_ground + wetting * wet + 0.05 * slope + 0.8 * z[:, -2:-1])
        ground = (1 - still) * ground + still * _power(np.full(1, surface_water))
        ground = np.where(town, _power(np.full(1, corner)), ground)
        through = np.exp(-2 * 0.55 * depth)
        power = _power(np.full(1, plants)) * (1 - through) + ground * through
        both.append(10 * np.log10(power))
    grain = z[:, : 2 * STEPS].reshape(len(samples), STEPS, 2)
    decibels = np.stack(both, axis=-1) + 0.7 * grain + 0.7 * z[:, -1][:, None, None]
    return np.asarray(decibels)


def _power(decibels: Floats) -> Floats:
    return np.asarray(10 ** (decibels / 10))


def _squash(z: Floats) -> Floats:
    return np.asarray(0.5 + 0.5 * np.tanh(z))
