"""Completion of missing values: against the plain conditional mean, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timl.nn import DeepKernel
from timl.nn.completion import conditional_means


def correlation(size: int, seed: int = 0) -> np.ndarray:
    """Return a positive definite correlation, [size, size]."""
    factors = np.random.default_rng(seed).normal(size=(size, 5))
    covariance = factors @ factors.T + 0.3 * np.eye(size)
    deviations = np.sqrt(np.diag(covariance))
    found: np.ndarray = covariance / deviations / deviations[:, None]
    return found


def small_kernel() -> DeepKernel:
    """Return a kernel of four steps with a mean, a scale and a correlation of its own."""
    kernel = DeepKernel(4, 1, 2, 2, ["crop"])
    rng = np.random.default_rng(1)
    kernel.mean.copy_(torch.from_numpy(rng.normal(size=len(kernel.mean))))
    kernel.scale.copy_(torch.from_numpy(rng.uniform(0.5, 2, size=len(kernel.mean))))
    kernel.correlation.copy_(torch.from_numpy(correlation(72)))
    return kernel


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_missing_numbers_become_the_conditional_mean_row_by_row(seed: int, share: float) -> None:
    rng, matrix = np.random.default_rng(seed), correlation(9, seed)
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
    assert kernel.complete(x) is x
    gaps = x.copy()
    gaps[1, 2:], gaps[2, :, 3], gaps[3, 0, 0] = np.nan, np.nan, np.nan
    completed = kernel.complete(gaps)
    there = ~np.isnan(gaps)
    np.testing.assert_array_equal(completed[there], x[there])
    assert np.isfinite(completed).all() and np.isnan(gaps[1, 2:]).all()
    assert completed.dtype == np.float32


def test_completion_is_in_the_units_of_the_series_and_outliers_do_not_carry_it_away() -> None:
    kernel = small_kernel()
    mean, scale = kernel.mean[:72].double().numpy(), kernel.scale[:72].double().numpy()
    x = (mean + 3 * scale).reshape(1, 4, 18).astype(np.float32)
    x[0, 3] = np.nan
    z = np.full(54, 3.0)
    matrix = kernel.correlation.double().numpy()
    expected = matrix[54:, :54] @ np.linalg.solve(matrix[:54, :54], z) * scale[54:] + mean[54:]
    np.testing.assert_allclose(kernel.complete(x)[0, 3], expected, rtol=1e-4, atol=1e-5)
    huge, large = x.copy(), x.copy()
    huge[0, 0, 0], large[0, 0, 0] = 1e30, mean[0] + 9 * scale[0]
    np.testing.assert_allclose(kernel.complete(huge)[0, 3], kernel.complete(large)[0, 3], rtol=1e-5)


def test_without_correlation_the_mean_is_filled_in() -> None:
    kernel = small_kernel()
    kernel.correlation.copy_(torch.eye(72))
    x = np.full((1, 4, 18), np.nan, np.float32)
    x[0, 0] = 7
    filled = kernel.complete(x).reshape(72)
    np.testing.assert_allclose(filled[18:], kernel.mean[18:72].numpy(), rtol=1e-6)


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
        small_kernel().complete(change(x).astype(np.float32))  # type: ignore[operator]
