"""The invented countries: boxes in groups of neighbours, their climates and calendars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timl.data.regions.boxes import BBox
from timl.data.simulator.covers import COVERS, Regime
from timl.data.simulator.draws import Draws, Floats, Integers, Stream

MOST_COUNTRIES = 540

BLOCKS = 4
"""A country is divided into 4 x 4 blocks."""

NEIGHBOURS = 3
"""Countries of a cluster: they share climate, and nearly their calendars."""

_BAND_EDGES = (40, 0, -30, 20, 10, -20, 30, 50, -10, -40)
"""Southern edges of the bands of latitude, 10 degrees wide, in the order clusters take them."""

_CELLS = 18
"""Cells of a band, 20 degrees of longitude wide; a cell holds one cluster."""

# fmt: off
_FIRST = (
    "Brun", "Cald", "Dorv", "Elst", "Fenn", "Galv", "Hesk", "Ivr", "Jorv",
    "Keld", "Lorm", "Morv", "Nask", "Orv", "Pell", "Quel", "Rund", "Selk",
    "Skel", "Tarv", "Ulm", "Vask", "Wend", "Yarl", "Zelm", "Osk", "Quor",
)
_LAST = (
    "avia", "onia", "aria", "esia", "ora", "andor", "eth", "imar", "una", "istra",
    "ova", "alia", "enna", "ostan", "uria", "adia", "elia", "ath", "omir", "isse",
)
# fmt: on


@dataclass(frozen=True, eq=False)
class Places:
    """The countries of a world, one entry (row) of each array per country.

    Parameters
    ----------
    boxes
        Boxes of the countries; no two overlap.
    regime : int64 array of shape [C]
        Climates, values of `Regime`.
    peak : float64 array of shape [C]
        Day of the year when the rain is strongest.
    rain : array of shape [C]
        Mean rain, mm per day.
    continental : array of shape [C]
        Factor of the yearly range of temperature.
    relief, altitude : arrays of shape [C]
        Spread and mean of the elevation, m.
    soil : array of shape [C]
        Brightness of the soils, 0 dark to 1 bright.
    care : array of shape [C]
        Factor of the crops' cover.
    second_season : array of shape [C]
        Share of fields that bear in the second season too.
    calendar : array of shape [C, covers]
        Days by which a cover's season comes later here than the climate says.
    warming, wetness : arrays of shape [C, 12]
        Weather of the year: degrees added to, and factor of, each month's usual.
    year : int64 array of shape [C]
        Year in which the series begin.
    block_shift, block_soil : arrays of shape [C, blocks]
        Addition of a block to the calendar (days) and to ``soil``.
    """

    boxes: tuple[BBox, ...]
    regime: Integers
    peak: Floats
    rain: Floats
    continental: Floats
    relief: Floats
    altitude: Floats
    soil: Floats
    care: Floats
    second_season: Floats
    calendar: Floats
    warming: Floats
    wetness: Floats
    year: Integers
    block_shift: Floats
    block_soil: Floats


def draw_places(countries: int, draws: Draws) -> Places:
    """Draw the countries of a world."""
    clusters = -(-countries // NEIGHBOURS)
    cluster = np.arange(countries) // NEIGHBOURS
    u = draws.uniform(Stream.CLUSTERS, clusters, 9)[cluster]
    v = draws.uniform(Stream.PLACES, countries, 8)
    boxes = _draw_boxes(countries, draws)
    latitude = np.array([box.centre[0] for box in boxes])
    regime = _regimes(cluster, dry_summer=u[:, 8] < 0.5)
    mean_rain = np.array([4.6, 3.2, 2.6, 1.7, 2.2])[regime]
    calendar = 18 * draws.normal(Stream.CALENDARS, clusters + countries, len(COVERS))
    weather = draws.normal(Stream.WEATHER, countries, 12, 2)
    blocks = draws.normal(Stream.BLOCKS, countries, BLOCKS * BLOCKS, 2)
    return Places(
        boxes=boxes,
        regime=regime,
        peak=_rain_peak(regime, latitude) + 44 * (u[:, 0] - 0.5) + 14 * (v[:, 0] - 0.5),
        rain=mean_rain * np.exp(0.5 * (u[:, 1] - 0.5) + 0.3 * (v[:, 1] - 0.5)),
        continental=0.75 + 0.5 * u[:, 2],
        relief=20 + 350 * u[:, 3] ** 2 + 80 * v[:, 3],
        altitude=60 + 900 * u[:, 4] ** 2 + 150 * v[:, 4],
        soil=0.15 + 0.6 * u[:, 5] + 0.2 * v[:, 5],
        care=0.86 + 0.12 * u[:, 6] + 0.06 * v[:, 6],
        second_season=np.where(regime == Regime.EQUATORIAL, 0.5, 0.12) * (u[:, 7] + v[:, 7]),
        calendar=calendar[cluster] + 0.35 * calendar[clusters:],
        warming=0.9 * weather[..., 0],
        wetness=np.exp(0.22 * weather[..., 1]),
        year=2016 + (6 * v[:, 2]).astype(np.int64),
        block_shift=4 * blocks[..., 0],
        block_soil=0.08 * blocks[..., 1],
    )


def _draw_boxes(countries: int, draws: Draws) -> tuple[BBox, ...]:
    """Draw boxes of up to 5.5 x 6 degrees; a cluster's countries lie side by side in one cell."""
    names = draws.permutation(Stream.NAMES, len(_FIRST) * len(_LAST))
    cells = draws.permutation(Stream.CELLS, _CELLS)
    u = draws.uniform(Stream.BOXES, countries, 3)
    boxes = []
    for country in range(countries):
        cluster, neighbour = divmod(country, NEIGHBOURS)
        turn, band = divmod(cluster, len(_BAND_EDGES))
        south = _BAND_EDGES[band] + 1.0 + 3 * u[country, 0]
        west = -180 + 20 * float(cells[(turn + 5 * band) % _CELLS]) + 6.5 * neighbour + 0.3
        height, width = 3.5 + 2 * u[country, 1], 4.5 + 1.5 * u[country, 2]
        first, last = divmod(int(names[country]), len(_LAST))
        boxes.append(
            BBox(
                min_lat=round(float(south), 2),
                max_lat=round(float(south + height), 2),
                min_lon=round(float(west), 2),
                max_lon=round(float(west + width), 2),
                name=_FIRST[first] + _LAST[last],
            )
        )
    return tuple(boxes)


def _regimes(cluster: Integers, dry_summer: NDArray[np.bool_]) -> Integers:
    edges = np.array(_BAND_EDGES)[cluster % len(_BAND_EDGES)]
    distance = np.where(edges >= 0, edges, -edges - 10)  # of the band from the equator, degrees
    by_distance = [Regime.EQUATORIAL, Regime.WET_DRY, Regime.MONSOON]
    regimes: Integers = np.array([*by_distance, *3 * [Regime.MID_LATITUDE]], np.int64)[
        distance // 10
    ]
    regimes[(distance == 30) & dry_summer] = Regime.MEDITERRANEAN
    return regimes


def _rain_peak(regime: Integers, latitude: Floats) -> Floats:
    """Return the usual day of most rain: the first of two near the equator, else in summer."""
    northern = np.array([105.0, 218.0, 214.0, 5.0, 200.0])[regime]
    southern_shift = np.where((latitude < 0) & (regime != Regime.EQUATORIAL), 182.5, 0.0)
    peak: Floats = northern + southern_shift
    return peak
