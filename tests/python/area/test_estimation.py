"""Estimates of area and accuracy: published examples, identities, coverage, hostile input."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timl.area import estimate_area, estimate_area_from_matrix
from timl.area.result import PIXEL_COUNTING

FOREST = ["deforestation", "forest gain", "stable forest", "stable non-forest"]
# Olofsson et al. (2014), table 8
COUNTS = pd.DataFrame(
    [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]], FOREST, FOREST
)
HECTARES = dict(zip(FOREST, [18_000.0, 13_500.0, 288_000.0, 580_500.0], strict=True))

# Stehman (2014), table 2: strata, map classes and reference classes of 40 units
STEHMAN = pd.DataFrame(
    {
        "stratum": list("A" * 10 + "B" * 10 + "C" * 10 + "D" * 10),
        "map_class": list("A" * 7 + "B" * 3 + "A" + "B" * 11 + "C" * 6 + "BB" + "D" * 10),
        "reference": list("AAAAACBABC" + "ABBBBBAABB" + "CCCCCDDBBA" + "DDDDDDDCCB"),
    }
)
PIXELS = {"A": 40_000, "B": 30_000, "C": 20_000, "D": 10_000}


def test_the_example_of_olofsson_et_al_to_the_printed_digit() -> None:
    result = estimate_area_from_matrix(COUNTS, HECTARES)
    table = result.to_frame()
    # section 5.2.2
    assert table["area"].round().tolist() == [21158, 11686, 285770, 581386]
    halves = 1.96 * table["area_standard_error"]
    assert halves.round().tolist() == [6158, 3756, 15510, 16282]
    # section 5.2.1
    assert table["users_accuracy"].round(2).tolist() == [0.88, 0.73, 0.93, 0.96]
    halves = 1.96 * table["users_accuracy_standard_error"]
    assert halves.round(2).tolist() == [0.07, 0.10, 0.04, 0.02]
    assert table["producers_accuracy"].round(2).tolist() == [0.75, 0.85, 0.93, 0.96]
    halves = 1.96 * table["producers_accuracy_standard_error"]
    # printed are 0.21, 0.23, 0.03, 0.01; equation 7 of the paper gives 0.25 and 0.02 for two
    assert halves.round(2).tolist() == [0.21, 0.25, 0.03, 0.02]
    assert round(result.overall.value, 2) == 0.95
    assert round(1.96 * result.overall.standard_error, 2) == 0.02
    # table 9
    assert result.matrix.round(4).to_numpy().tolist() == [
        [0.0176, 0.0, 0.0013, 0.0011],
        [0.0, 0.0110, 0.0016, 0.0024],
        [0.0019, 0.0, 0.2967, 0.0213],
        [0.0040, 0.0020, 0.0179, 0.6212],
    ]
    assert table["mapped"].tolist() == list(HECTARES.values())


def test_the_example_of_stehman_to_the_printed_digit() -> None:
    for units in (None, PIXELS):  # with and without the finite population correction
        result = estimate_area(STEHMAN, PIXELS, units=units, unit="pixels")
        table = result.to_frame()
        # pages 4932 to 4936
        assert table["share"].round(2)[["A", "C"]].tolist() == [0.35, 0.20]
        assert table["share_standard_error"].round(3)[["A", "C"]].tolist() == [0.082, 0.064]
        assert round(result.overall.value, 2) == 0.63
        assert round(result.overall.standard_error, 3) == 0.085
        assert round(table["users_accuracy"]["B"], 3) == 0.574
        assert round(table["users_accuracy_standard_error"]["B"], 3) == 0.125
        assert round(table["producers_accuracy"]["B"], 3) == 0.794
        # the paper prints 0.114, with 0 where its own table 3 has the variance 0.1 of stratum D
        assert table["producers_accuracy_standard_error"]["B"] == pytest.approx(0.1165, abs=2e-4)
        assert round(result.matrix.loc["B", "C"], 2) == 0.08
        assert result.mapped is None and math.isnan(table["mapped"]["A"])


def olofsson(counts: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Equations 1 to 3 and 5 to 10 of Olofsson et al. (2014), written as they stand there."""
    n = counts.sum(axis=1)
    p = weights[:, None] * counts / n[:, None]
    users, producers = np.diag(p) / p.sum(axis=1), np.diag(p) / p.sum(axis=0)
    of_users = users * (1 - users) / (n - 1)
    spread = (counts / n[:, None]) * (1 - counts / n[:, None]) / (n - 1)[:, None]
    others = weights[:, None] ** 2 * spread * (1 - np.eye(len(n)))
    above = weights**2 * (1 - producers) ** 2 * of_users + producers**2 * others.sum(axis=0)
    return {
        "share": p.sum(axis=0),
        "share_standard_error": np.sqrt((weights[:, None] ** 2 * spread).sum(axis=0)),
        "users_accuracy": users,
        "users_accuracy_standard_error": np.sqrt(of_users),
        "producers_accuracy": producers,
        "producers_accuracy_standard_error": np.sqrt(above) / p.sum(axis=0),
        "overall": np.sqrt((weights**2 * of_users).sum()),
    }


@settings(max_examples=30)
@given(st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_where_strata_are_the_classes_it_is_the_estimator_of_olofsson_et_al(k: int, s: int) -> None:
    generator = np.random.default_rng(s)
    counts = generator.integers(1, 40, (k, k))
    weights = generator.dirichlet(np.ones(k))
    result = estimate_area_from_matrix(
        pd.DataFrame(counts), dict(enumerate(weights.tolist())), unit="share"
    )
    table, expected = result.to_frame(), olofsson(counts.astype(float), weights)
    np.testing.assert_allclose(result.overall.standard_error, expected.pop("overall"), rtol=1e-9)
    for name, values in expected.items():
        np.testing.assert_allclose(table[name], values, rtol=1e-9, err_msg=name)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_what_strata_and_sizes_do_to_an_estimate(seed: int) -> None:
    generator = np.random.default_rng(seed)
    sample = pd.DataFrame(
        {
            "stratum": np.repeat([0, 1, 2], 20),
            "map_class": generator.integers(0, 3, 60),
            "reference": generator.integers(0, 3, 60),
        }
    )
    sizes = {0: 10.0, 1: 30.0, 2: 60.0}
    one = estimate_area(sample, sizes)
    assert sum(share.value for share in one.shares) == pytest.approx(1)
    assert one.matrix.to_numpy().sum() == pytest.approx(1)
    shuffled = estimate_area(sample.sample(frac=1, random_state=0), sizes)
    pd.testing.assert_frame_equal(one.to_frame(), shuffled.to_frame())
    larger = estimate_area(sample, {name: 7 * size for name, size in sizes.items()})
    assert larger.overall == pytest.approx(one.overall)
    assert larger.areas[0] == pytest.approx(one.areas[0].times(7))
    whole = estimate_area(sample, sizes, units=dict.fromkeys(sizes, 20))
    assert whole.overall.standard_error == 0  # every unit was visited
    wide, narrow = (estimate_area(sample, sizes, level=level).overall for level in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_intervals_hold_the_true_area_as_often_as_they_say_and_pixel_counting_is_biased() -> None:
    generator = np.random.default_rng(0)
    truth = generator.random((300, 300)) < 0.2
    # errors lie in one quarter of the map, and there are more commissions than omissions
    rate = np.where(truth, 0.15, 0.12) * np.where(np.arange(300) < 150, 1.5, 0.5)
    mapped = truth ^ (generator.random(truth.shape) < rate)
    share, counted = truth.mean(), mapped.mean()
    sizes = {0: float((~mapped).sum()), 1: float(mapped.sum())}
    pools = [np.flatnonzero(mapped.ravel() == side) for side in (0, 1)]
    held, estimates, outside = 0, [], 0
    for _ in range(1000):
        units = np.concatenate([generator.choice(pool, 300, replace=False) for pool in pools])
        sample = {"map_class": mapped.ravel()[units], "reference": truth.ravel()[units]}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = estimate_area(pd.DataFrame(sample).astype(int), sizes, unit="pixels")
        held += result.shares[1].low <= share <= result.shares[1].high
        outside += not result.shares[1].low <= counted <= result.shares[1].high
        estimates.append(result.shares[1].value)
    assert 930 <= held <= 970
    assert abs(np.mean(estimates) - share) < 0.001  # unbiased
    assert counted - share > 0.05 and outside > 950


def test_a_stratum_without_errors_is_warned_of() -> None:
    counts = pd.DataFrame([[20, 0], [3, 17]])
    with pytest.warns(UserWarning, match=r"all 20 .* stratum 0 agree .* up to 13\.9 %"):
        result = estimate_area_from_matrix(counts, {0: 1.0, 1: 1.0})
    assert result.users[0] == (1.0, 0.0, 1.0, 1.0)


def test_a_class_that_is_only_on_one_side_is_estimated_too() -> None:
    counts = pd.DataFrame([[18, 1, 2], [3, 17, 0]], [0, 1], [0, 1, 7])
    result = estimate_area_from_matrix(counts, {0: 300.0, 1: 100.0})
    assert result.classes == (0, 1, 7) and result.mapped == (300.0, 100.0, 0.0)
    assert math.isnan(result.users[2].value) and result.producers[2].value == 0
    assert result.areas[2].value == pytest.approx(300 * 2 / 21)
    assert "not in the sample" in repr(result)


def test_tables_say_what_they_hold() -> None:
    result = estimate_area_from_matrix(COUNTS, HECTARES)
    assert repr(result).splitlines()[1].split("  ")[0] == "deforestation"
    assert "21,158 ± 6,158" in repr(result)
    assert repr(result).splitlines()[-1] == "Overall accuracy 0.947 ± 0.018, 640 sampled units"
    text = result.to_markdown()
    assert text.splitlines()[2].startswith("| deforestation | 18,000 | 21,158 ± 6,158 | 0.024 ± ")
    assert PIXEL_COUNTING in text and "biased" in text
    document = result.to_dict()
    assert document["classes"][0]["area"]["value"] == pytest.approx(21157.76, abs=0.01)
    assert document["sampled"] == 640


@pytest.mark.parametrize(
    ("sample", "sizes", "message"),
    [
        ({"map_class": [1]}, {1: 1.0}, "give reference too"),
        ({"map_class": [1, None], "reference": [1, 1]}, {1: 1.0}, "1 of 2 rows with an empty"),
        ({"map_class": [1, 2], "reference": [1, 2]}, {1: 1.0, 2: 1.0}, "1 units in stratum 1"),
        ({"map_class": [1, 1], "reference": [1, 2]}, {1: 1.0, 2: 1.0}, "0 units in stratum 2"),
        ({"map_class": [1, 1], "reference": [1, 2]}, {2: 1.0}, "without a size above 0 .* 1"),
        ({"map_class": [1, 1], "reference": [1, 2]}, {1: -1.0}, "finite sizes"),
        ({"map_class": [1, 1], "reference": [1, 2]}, {1: math.nan}, "finite sizes"),
    ],
)
def test_wrong_input_is_refused(
    sample: dict[str, list[object]], sizes: dict[int, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        estimate_area(pd.DataFrame(sample), sizes)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match="level is 95"):
        estimate_area(STEHMAN, PIXELS, level=95)
    with pytest.raises(ValueError, match="units has 9 units of stratum 'A', of which 10"):
        estimate_area(STEHMAN, PIXELS, units={**PIXELS, "A": 9})
    with pytest.raises(ValueError, match="no counts"):
        estimate_area_from_matrix(COUNTS / 2, HECTARES)
