"""Completion of missing values: against the plain conditional mean, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timl.completion import conditional_means
from timl.nn import DeepKernel


def covariance(size: int, seed: int = 0) -> np.ndarray:
    """Return a positive definite covariance, [size, size]."""
    factors = np.random.default_rng(seed).normal(size=(size, 5))
    found: np.ndarray = (factors @ factors.T + 0.3 * np.eye(size)) / 5
    return found


MEAN = np.random.default_rng(1).normal(size=(4, 18)).astype(np.float32)


def small_kernel() -> DeepKernel:
    """Return a kernel of four steps with a mean, a scale and a covariance of its own."""
    kernel = DeepKernel(4, 1, 2, 2, ["crop"])
    rng = np.random.default_rng(2)
    kernel.mean.copy_(torch.from_numpy(rng.normal(size=len(kernel.mean))))
    kernel.scale.copy_(torch.from_numpy(rng.uniform(0.5, 2, size=len(kernel.mean))))
    kernel.covariance.copy_(torch.from_numpy(covariance(72)))
    return kernel


@settings(max_examples=40)
@given(seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_missing_numbers_become_the_conditional_mean_row_by_row(seed: int, share: float) -> None:
    rng, matrix = np.random.default_rng(seed), covariance(9, seed)
    z = rng.normal(size=(6, 9))
    z[rng.random(z.shape) < share] = np.nan
    z[0] = z[3]  # two rows of one pattern
    found = conditional_means(z, matrix)
    for row, filled in zip(z, found, strict=True):
        o, m = np.flatnonzero(~np.isnan(row)), np.flatnonzero(np.isnan(row))
        expected = row.copy()
        expected[m] = matrix[np.ix_(m, o)] @ np.linalg.inv(matrix[np.ix_(o, o)]) @ row[o]
        np.testing.assert_allclose(filled, expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(conditional_means(row[None], matrix)[0], filled)


def test_what_is_there_keeps_its_bits_and_a_whole_series_is_returned_itself() -> None:
    x = np.random.default_rng(0).normal(size=(5, 4, 18)).astype(np.float32)
    kernel = small_kernel()
    assert kernel.complete(x, MEAN) is x
    gaps = x.copy()
    gaps[1, 2:], gaps[2, :, 3], gaps[3, 0, 0] = np.nan, np.nan, np.nan
    completed = kernel.complete(gaps, MEAN)
    there = ~np.isnan(gaps)
    np.testing.assert_array_equal(completed[there], x[there])
    assert np.isfinite(completed).all() and np.isnan(gaps[1, 2:]).all()
    assert completed.dtype == np.float32


def test_completion_is_in_the_units_of_the_series_and_outliers_do_not_carry_it_away() -> None:
    kernel = small_kernel()
    mean, scale = MEAN.ravel(), kernel.scale[:72].numpy()
    x = (mean + 3 * scale).reshape(1, 4, 18)
    x[0, 3] = np.nan
    matrix = kernel.covariance.double().numpy()
    expected = matrix[54:, :54] @ np.linalg.solve(matrix[:54, :54], np.full(54, 3.0))
    expected = expected * scale[54:] + mean[54:]
    np.testing.assert_allclose(kernel.complete(x, MEAN)[0, 3], expected, rtol=1e-4, atol=1e-5)
    huge, large = x.copy(), x.copy()
    huge[0, 0, 0], large[0, 0, 0] = 1e30, mean[0] + 9 * scale[0]
    np.testing.assert_allclose(
        kernel.complete(huge, MEAN)[0, 3], kernel.complete(large, MEAN)[0, 3], rtol=1e-5
    )


def test_a_tasks_mean_is_that_of_what_is_there_and_of_one_learned_series() -> None:
    kernel = small_kernel()
    learned = kernel.mean[:72].numpy().reshape(4, 18)
    x = np.random.default_rng(0).normal(size=(3, 4, 18)).astype(np.float32)
    x[:, 3] = np.nan
    x[0, 0] = np.nan
    mean = kernel.task_mean(x)
    np.testing.assert_allclose(mean[0], (x[1, 0] + x[2, 0] + learned[0]) / 3, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mean[1], (x[:, 1].sum(0) + learned[1]) / 4, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mean[3], learned[3], rtol=1e-6)


def test_without_covariance_the_tasks_mean_is_filled_in() -> None:
    kernel = small_kernel()
    kernel.covariance.copy_(torch.eye(72))
    x = np.full((1, 4, 18), np.nan, np.float32)
    x[0, 0] = 7
    np.testing.assert_allclose(kernel.complete(x, MEAN)[0, 1:], MEAN[1:], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, :3], r"x is of shape \[2, 3, 18\]: give \[n, 4, 18\]"),
        (lambda x: np.where(x > 0, np.inf, x), r"\[2, 4, 18\] with \d+ infinite values: give NaN"),
        (lambda x: x * [[[np.nan]], [[1]]], r"\[2, 4, 18\] with 1 series of NaN alone"),
    ],
)
def test_what_cannot_be_completed_is_refused(change: object, message: str) -> None:
    x = np.random.default_rng(0).normal(size=(2, 4, 18)).astype(np.float32)
    with pytest.raises(ValueError, match=message):
        small_kernel().complete(change(x).astype(np.float32), MEAN)  # type: ignore[operator]
