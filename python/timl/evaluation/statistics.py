"""Statistics over runs: means and their errors, sources of variance, and tests between rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Estimate:
    """A mean over runs, and its standard error: None for a single run.

    Where the meta-training was repeated, the error is that of the mean over its repetitions, and
    the two standard deviations tell what the runs and what the meta-training adds to one result.
    """

    mean: float
    standard_error: float | None
    runs: int
    meta_seeds: int = 1
    """Repetitions of the meta-training."""
    run_deviation: float | None = None
    """Standard deviation between runs of one meta-training; None for a single run."""
    meta_deviation: float | None = None
    """Standard deviation between meta-trainings beyond that of their runs; None for a single."""

    def __str__(self) -> str:
        mean = _short(self.mean)
        return mean if self.standard_error is None else f"{mean} ± {_short(self.standard_error)}"


@dataclass(frozen=True)
class PairedTest:
    """Wilcoxon's signed-rank test between a row and the one compared with, over runs both have."""

    row: str
    other: str
    """The row compared with."""
    difference: float
    """Mean of row - other."""
    pairs: int
    p: float
    """Two-sided p-value."""
    p_corrected: float
    """The p-value corrected by Holm's method, over the comparisons with that row."""


def estimate(values: Sequence[float]) -> Estimate:
    """Estimate a mean from runs: the standard error is s / sqrt(n), s**2 the unbiased variance."""
    return estimate_groups([values])


def estimate_groups(values: Sequence[Sequence[float]]) -> Estimate:
    """Estimate a mean and what it varies with.

    Parameters
    ----------
    values
        Scores of the runs of each meta-training.

    Returns
    -------
    Estimate
        With one meta-training the same as `estimate`. With K the error is that of the K means,
        and the sources of variance are those of a one-way analysis of variance with random effects
        (the variance between is at least 0).
    """
    groups = [np.asarray(group, np.float64) for group in values]
    runs = sum(len(group) for group in groups)
    within = [float(np.var(group, ddof=1)) for group in groups if len(group) > 1]
    run_variance = float(np.mean(within)) if within else None
    run_deviation = None if run_variance is None else math.sqrt(run_variance)
    if len(groups) == 1:
        values_ = groups[0]
        error = float(np.std(values_, ddof=1)) / math.sqrt(runs) if runs > 1 else None
        return Estimate(float(np.mean(values_)), error, runs, 1, run_deviation)
    means = np.array([group.mean() for group in groups])
    between = float(np.var(means, ddof=1))
    per_group = runs / len(groups)
    beyond = max(between - (run_variance or 0.0) / per_group, 0.0)
    return Estimate(
        float(means.mean()),
        math.sqrt(between / len(groups)),
        runs,
        len(groups),
        run_deviation,
        math.sqrt(beyond),
    )


def paired_tests(
    rows: Mapping[str, Mapping[tuple[int, int], float]], compare_with: str
) -> list[PairedTest]:
    """Test every other row against one, on the runs that both have.

    Not every pair of rows: corrected for the 36 pairs of nine rows, ten runs could never reach
    p < 0.05 (the smallest p of ten pairs is 2 / 2**10).

    Parameters
    ----------
    rows
        For each row its score in each run, by (repetition of the meta-training, run). A row of a
        single run has no randomness: its score stands for every run.
    compare_with
        Name of the row that the others are tested against.

    Returns
    -------
    list of PairedTest
        In the order of the rows; those with equal scores in every run have p = 1.
    """
    from scipy.stats import wilcoxon

    found: list[tuple[str, NDArray[np.float64], float]] = []
    for row in rows:
        if row != compare_with:
            difference = _differences(rows[row], rows[compare_with])
            p = 1.0 if not difference.any() else float(wilcoxon(difference).pvalue)
            found.append((row, difference, p))
    corrected = holm([p for *_, p in found])
    return [
        PairedTest(row, compare_with, float(difference.mean()), len(difference), p, q)
        for (row, difference, p), q in zip(found, corrected, strict=True)
    ]


def smallest_p(pairs: int, comparisons: int) -> float:
    """Return the smallest corrected p that so many paired runs can give."""
    return min(2.0 ** (1 - pairs) * comparisons, 1.0)


def holm(p: Sequence[float]) -> list[float]:
    """Correct p-values for their number by Holm's step-down method."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    corrected, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min((len(p) - rank) * p[i], 1.0))
        corrected[i] = largest
    return corrected


def _differences(
    one: Mapping[tuple[int, int], float], other: Mapping[tuple[int, int], float]
) -> NDArray[np.float64]:
    if len(one) == 1 and len(other) > 1:
        one = dict.fromkeys(other, next(iter(one.values())))
    elif len(other) == 1 and len(one) > 1:
        other = dict.fromkeys(one, next(iter(other.values())))
    return np.array([one[run] - other[run] for run in one if run in other])


def _short(value: float) -> str:
    """Return three digits, without the zero before the point."""
    return f"{value:.3f}".removeprefix("0")
