"""Probabilities at the share of a place: shifts, estimated shares, calibration, thresholds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit, softmax
from scipy.stats import norm
from timl.evaluation import probabilities
from timl.evaluation.prevalence import (
    Calibration,
    at_prevalence,
    choose_threshold,
    estimate_prevalence,
    fit_calibration,
    given_prevalence,
    logit_line,
)
from timl.nn import Classifier


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


# --- several classes -----------------------------------------------------------------------------

CENTRES = np.array([-2.0, 0.0, 1.5])
SHARES = {"rare": 0.05, "common": 0.7, "other": 0.25}


class Known(Classifier):
    """Classifier of one number that knows how likely each class makes it: normal, of width 1."""

    def __init__(self) -> None:
        super().__init__(bands=1, steps=1, hidden=1, outputs=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 4.0 - (x[:, 0] - torch.from_numpy(CENTRES).to(x)) ** 2 / 2


def mixture(count: int, shares: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of a mixture of the three classes, and which made each."""
    generator = np.random.default_rng(0)
    labels = generator.choice(3, count, p=shares)
    return generator.normal(CENTRES[labels]), labels


def test_stated_probabilities_of_several_classes_are_the_true_ones() -> None:
    shares = list(SHARES.values())
    x, labels = mixture(20_000, shares)
    density = norm.pdf(x[:, None] - CENTRES) * shares
    posterior = density / density.sum(axis=1, keepdims=True)
    found = probabilities(Known(), x.reshape(-1, 1, 1), prevalence=SHARES, classes=list(SHARES))
    np.testing.assert_allclose(found, posterior, atol=1e-5)  # the classifier is float32
    np.testing.assert_allclose(found.mean(axis=0), shares, atol=0.01)
    for number in range(3):
        sure = found[:, number] > 0.5
        assert (labels[sure] == number).mean() == pytest.approx(
            found[sure, number].mean(), abs=0.03
        )
    even = probabilities(Known(), x.reshape(-1, 1, 1))
    assert np.mean(even.argmax(1) == labels) < np.mean(found.argmax(1) == labels) - 0.1


@pytest.mark.parametrize(("factor", "bias"), [(0.3, 0.0), (1.0, 0.5), (4.0, 1.0)])
def test_logits_of_several_classes_are_calibrated(factor: float, bias: float) -> None:
    shares = [0.6, 0.3, 0.1]
    x, labels = mixture(6000, shares)
    true = -((x[:, None] - CENTRES) ** 2) / 2  # for classes that are equally frequent
    given = factor * (true + bias * np.log(shares))  # as if the counts of labels had their part
    found = fit_calibration(given, labels)
    assert found.slope * factor == pytest.approx(1, abs=0.06)
    even = softmax(found.apply(given), axis=1)
    np.testing.assert_allclose(even, softmax(true, axis=1), atol=0.05)
    line = logit_line(Known(), SHARES, calibration=found, classes=list(SHARES))
    expected = found.apply(given) + np.log(list(SHARES.values()))
    np.testing.assert_allclose(line.apply(given), expected, atol=1e-12)


def test_a_calibration_exists_for_classes_that_are_apart_and_for_those_that_are_mistaken() -> None:
    labels = np.arange(9) % 3
    right = np.eye(3)[labels]
    assert 0 < fit_calibration(right, labels).slope < 50
    assert fit_calibration(np.eye(3)[(labels + 1) % 3], labels).slope == 0
    np.testing.assert_allclose(fit_calibration(np.zeros((9, 3)), labels).intercept, 0, atol=1e-9)
    for wrong in (labels[:8], np.zeros(9, int), labels + 1):
        with pytest.raises(ValueError, match=r"labels has shape \[.\] and the numbers"):
            fit_calibration(right, wrong)


def test_a_prevalence_of_other_classes_is_refused() -> None:
    known, two, names = Known(), Classifier(hidden=1), list(SHARES)
    assert given_prevalence(two) == 0.5
    cases = [
        (lambda: given_prevalence(known), "3 logits, of classes that weigh alike"),
        (lambda: logit_line(known, SHARES), "classes is None, and prevalence is given"),
        (lambda: logit_line(known, SHARES, classes=names[:2]), "classes is"),
        (lambda: logit_line(known, 0.2, classes=names), "give a share of each, by name"),
        (lambda: logit_line(known, {"rare": 1.0}, classes=names), "give the shares of rare"),
        (lambda: logit_line(two, SHARES), "give the share of the positive class alone"),
        (lambda: logit_line(two, 1.0), "prevalence is 1.0: give a share"),
        (lambda: logit_line(known, calibration=Calibration(1, 0.5)), "is of 3 classes: give one"),
        (lambda: logit_line(two, calibration=Calibration(1, np.zeros(3))), "is of 2 classes"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
