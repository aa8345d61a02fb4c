"""What a simulated world shows: seasons, plausible bands, tasks to learn and not too easy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from timl.data import BANDS, BBox, CropHarvest
from timl.data.simulator.climate import FIRST_MONTH
from timl.data.simulator.covers import COVERS, CROPS, NON_CROPS, Regime, number
from timl.data.simulator.draws import Draws, Floats
from timl.data.simulator.places import draw_places
from timl.data.simulator.samples import Samples
from timl.data.simulator.series import make_series


def grow(label: str, latitude: float, regime: Regime, count: int = 60) -> Floats:
    """Series of one cover about one latitude, with usual weather and an undelayed calendar."""
    draws = Draws(7)
    places = draw_places(1, draws)
    places = replace(
        places,
        boxes=(BBox(latitude - 1, latitude + 1, 10, 12, "here"),),
        regime=np.array([regime]),
        peak=np.array([200.0 if latitude > 0 else 20.0]),
        calendar=0 * places.calendar,
        block_shift=0 * places.block_shift,
        care=np.ones(1),
        altitude=np.full(1, 100.0),
    )
    samples = Samples(
        place=np.zeros(count, np.int64),
        cover=np.full(count, number(label)),
        block=np.arange(count) % 16,
        latitude=np.full(count, latitude),
        longitude=np.full(count, 11.0),
        named=np.ones(count, np.bool_),
        evaluation=np.full(count, -1),
    )
    return make_series(places, samples, draws)


def band(series: Floats, name: str) -> Floats:
    return series[..., BANDS.index(name)]


def usual(series: Floats, name: str) -> Floats:
    """Median year of a band, [12]."""
    return np.asarray(np.median(band(series, name), axis=0))


def month_of_peak(series: Floats) -> int:
    """1 to 12."""
    return (int(usual(series, "NDVI").argmax()) + FIRST_MONTH - 1) % 12 + 1


@pytest.mark.parametrize("label", ["maize", "soybean", "wheat"])
def test_seasons_are_half_a_year_apart_across_the_equator(label: str) -> None:
    north = month_of_peak(grow(label, 45, Regime.MID_LATITUDE))
    south = month_of_peak(grow(label, -45, Regime.MID_LATITUDE))
    assert min((north - south) % 12, (south - north) % 12) in (5, 6)


def test_calendars_are_those_of_the_field() -> None:
    """Mid-latitude wheat stands green in spring, maize in late summer; forests stay greener."""
    assert month_of_peak(grow("wheat", 45, Regime.MID_LATITUDE)) in (5, 6)
    assert month_of_peak(grow("maize", 45, Regime.MID_LATITUDE)) in (7, 8)
    assert month_of_peak(grow("cotton", 45, Regime.MID_LATITUDE)) in (8, 9)
    assert month_of_peak(grow("wheat", 27, Regime.MONSOON)) in (1, 2, 3)
    forest, maize = grow("forest", 15, Regime.WET_DRY), grow("maize", 15, Regime.WET_DRY)
    assert usual(forest, "NDVI").min() > usual(maize, "NDVI").min() + 0.1
    assert np.ptp(usual(maize, "NDVI")) > 0.3


def test_spectra_are_those_of_the_surface() -> None:
    green = grow("maize", 45, Regime.MID_LATITUDE)[:, 5]  # July
    assert usual(green[:, None], "B8")[0] > 2.5 * usual(green[:, None], "B4")[0]  # red edge
    assert usual(green[:, None], "B11")[0] < usual(green[:, None], "B8A")[0]  # leaf water
    bare = grow("bare", 25, Regime.MONSOON)
    assert (np.diff([usual(bare, name).mean() for name in ("B3", "B4", "B8", "B11")]) > 0).all()
    water = grow("water", 25, Regime.MONSOON)
    assert usual(water, "B11").max() < 300
    assert usual(water, "VV").max() < -17
    assert usual(grow("forest", 5, Regime.EQUATORIAL), "VH").min() > -17


def test_flooded_rice_is_dark_to_radar_before_it_greens() -> None:
    rice, maize = grow("rice", 27, Regime.MONSOON), grow("maize", 27, Regime.MONSOON)
    flooded = int(usual(rice, "VV").argmin())
    assert usual(rice, "VV")[flooded] < usual(maize, "VV")[flooded] - 2
    assert 0 < (usual(rice, "NDVI").argmax() - flooded) % 12 <= 4


def test_bands_stay_in_plausible_ranges(simulated: CropHarvest) -> None:
    x = simulated.series(np.arange(len(simulated)), normalize=False).astype(np.float64)
    for name in BANDS:
        if name.startswith("B"):
            assert band(x, name).min() > 0
            assert band(x, name).max() <= 12000
            assert 300 < band(x, name).mean() < 4000
    assert -32 < band(x, "VH").min() < band(x, "VH").max() < -5
    assert -28 < band(x, "VV").min() < band(x, "VV").max() < 2
    assert (band(x, "VV").mean(1) > band(x, "VH").mean(1)).all()
    assert 230 < band(x, "temperature_2m").min() < band(x, "temperature_2m").max() < 320
    assert 0 <= band(x, "total_precipitation").min() < band(x, "total_precipitation").max() < 0.05
    for name in ("elevation", "slope"):
        assert (np.ptp(band(x, name), axis=1) == 0).all()
    assert 0 <= band(x, "slope").min() < band(x, "slope").max() <= 45
    assert np.abs(band(x, "NDVI")).max() <= 1
    clouded = (band(x, "B2") > 2500) & (band(x, "temperature_2m") > 280)
    assert 0.005 < clouded.mean() < 0.1


def test_the_covers_are_in_order() -> None:
    assert (*CROPS, *NON_CROPS) == tuple(range(len(COVERS)))
    assert len(CROPS) == 25
    assert len({COVERS[crop].classification_label for crop in CROPS}) == 9
    assert len({cover.label for cover in COVERS}) == len(COVERS)


def test_twenty_labels_teach_a_forest_much_less_than_all(simulated: CropHarvest) -> None:
    few, every = [], []
    for benchmark in simulated.benchmarks:
        test = benchmark.test
        known = test.y >= 0

        def score(x: np.ndarray, y: np.ndarray, seed: int) -> float:
            forest = RandomForestClassifier(60, random_state=seed).fit(x.reshape(len(x), -1), y)
            scores = forest.predict_proba(test.x[known].reshape(known.sum(), -1))[:, 1]  # noqa: B023
            return float(roc_auc_score(test.y[known], scores))  # noqa: B023

        few.append(np.mean([score(*benchmark.sample(10, seed), seed) for seed in range(5)]))
        every.append(score(*benchmark.train_arrays(), 0))
    assert (np.array(few) > 0.55).all()
    assert (np.array(every) > np.array(few)).all()
    assert 0.75 < np.mean(every) < 0.99
    assert np.mean(every) - np.mean(few) > 0.08
