"""Probabilities at the share of a place: shifts, estimated shares, calibration, thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from timl.evaluation.prevalence import (
    at_prevalence,
    choose_threshold,
    estimate_prevalence,
    fit_calibration,
)


def drawn(share: float, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated logits of two normal classes, meant for equal shares, and labels."""
    generator = np.random.default_rng(seed)
    labels = generator.random(count) < share
    x = generator.normal(np.where(labels, 1.0, -1.0))
    return 2 * x, labels.astype(int)  # log likelihood ratio of N(1, 1) and N(-1, 1)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.9])
def test_probabilities_at_the_right_share_sum_to_it(share: float) -> None:
    logits, labels = drawn(share, 40_000)
    probability = expit(at_prevalence(logits, share))
    assert probability.mean() == pytest.approx(share, abs=0.01)
    high = probability > 0.7
    assert labels[high].mean() == pytest.approx(probability[high].mean(), abs=0.03)
    assert estimate_prevalence(logits) == pytest.approx(share, abs=0.01)
    # logits that are meant for another share are first taken back from it
    moved = at_prevalence(logits, 0.3)
    np.testing.assert_allclose(at_prevalence(moved, 0.5, given=0.3), logits, atol=1e-12)
    assert estimate_prevalence(moved, given=0.3) == pytest.approx(estimate_prevalence(logits))


def test_the_estimate_is_where_expectation_maximisation_ends() -> None:
    logits, _ = drawn(0.13, 500)
    share = 0.5
    for _ in range(300):  # Saerens et al. (2002), equation 2.10
        share = float(expit(logits + logit(share)).mean())
    assert estimate_prevalence(logits) == pytest.approx(share, abs=1e-9)


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=50))
def test_the_mean_probability_at_the_estimate_is_the_estimate(values: list[float]) -> None:
    share = estimate_prevalence(values)
    assert 0 <= share <= 1
    if 0 < share < 1:
        assert expit(at_prevalence(values, share)).mean() == pytest.approx(share, abs=1e-6)


def test_estimates_at_the_edges() -> None:
    assert estimate_prevalence([-3.0, -2.0]) == 0
    assert estimate_prevalence([3.0, 2.0]) == 1
    assert estimate_prevalence([0.0]) == 0.5
    assert 0 < estimate_prevalence([800.0, -800.0]) < 1


def test_a_calibration_undoes_slope_and_intercept_whatever_the_classes_shares() -> None:
    for share in (0.1, 0.5):
        logits, labels = drawn(share, 60_000, seed=1)
        found = fit_calibration(3 * logits + 1, labels)
        assert found.slope == pytest.approx(1 / 3, abs=0.02)
        assert found.intercept == pytest.approx(-1 / 3, abs=0.05)
        np.testing.assert_allclose(found.apply([1.0]), found.slope + found.intercept)


def test_a_calibration_of_separate_classes_is_finite() -> None:
    found = fit_calibration([-5.0, -4.0, 4.0, 5.0], [0, 0, 1, 1])
    assert 0 < found.slope < 1 and abs(found.intercept) < 1e-6


def test_a_calibration_keeps_the_order() -> None:
    assert fit_calibration([1.0, 2.0, -1.0, -2.0], [0, 0, 1, 1]) == (0, pytest.approx(0, abs=1e-6))


def test_few_labels_leave_the_threshold_where_it_is() -> None:
    logits = [-2.0, -1.0, 0.5, 1.0, 1.5, 2.0]
    assert choose_threshold(logits, [0, 0, 0, 1, 1, 1]) == 0.5  # 0.75 would be right six times
    assert choose_threshold(np.repeat(logits, 20), np.repeat([0, 0, 0, 1, 1, 1], 20)) > 0.6


def test_the_threshold_has_the_greatest_balanced_accuracy() -> None:
    assert choose_threshold([-2.0, -1.0, 1.0, 2.0], [0, 0, 1, 1]) == 0.5
    many = np.repeat([1.0, 2.0, 3.0, 4.0], 10)
    assert choose_threshold(many, many > 2.5) == pytest.approx(expit(2.5))
    logits, labels = drawn(0.2, 20_000)
    assert choose_threshold(logits, labels) == pytest.approx(0.5, abs=0.1)
    assert choose_threshold(logits + 3, labels) == pytest.approx(expit(3), abs=0.03)
    # shares of the classes do not move it
    kept = np.random.default_rng(5).random(20_000) < np.where(labels, 1.0, 0.1)
    assert choose_threshold(logits[kept], labels[kept]) == pytest.approx(0.5, abs=0.1)


def test_wrong_input_is_refused() -> None:
    for call, message in (
        (lambda: at_prevalence([0.0], 0), "prevalence is 0"),
        (lambda: at_prevalence([0.0], 0.5, given=1), "given is 1"),
        (lambda: at_prevalence([np.nan], 0.5), "1 values that are not finite"),
        (lambda: estimate_prevalence([]), "give at least one"),
        (lambda: fit_calibration([0.0, 1.0], [1, 1]), "2 positives and 0 negatives"),
        (lambda: fit_calibration([0.0, 1.0], [1, 2]), "labels 1 and 0"),
        (lambda: choose_threshold([0.0], [1, 0]), "give both of shape"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
