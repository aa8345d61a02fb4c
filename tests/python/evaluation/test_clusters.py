"""Tests and intervals that count clusters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import permutation_test
from timl.evaluation.clusters import clustered_difference


def test_p_is_that_of_an_independent_permutation_test() -> None:
    sums = np.array([0.3, 0.1, -0.05, 0.2, 0.12, -0.01, 0.4])
    ours = clustered_difference(sums.tolist(), range(len(sums)))
    theirs = permutation_test((sums,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert ours.p == pytest.approx(theirs.pvalue)
    assert (ours.mean, ours.clusters) == (pytest.approx(sums.mean()), 7)


def test_differences_of_one_cluster_count_once() -> None:
    alone = clustered_difference([0.1] * 6, range(6))
    together = clustered_difference([0.1] * 6, [0, 0, 0, 1, 1, 1])
    assert alone.p == 2 / 2**6
    assert together.p == 2 / 2**2
    assert together.differences == 6 and together.clusters == 2


def test_one_cluster_tells_nothing() -> None:
    found = clustered_difference([0.1, 0.2], ["Kenya", "Kenya"])
    assert found.p == 1 and np.isnan([found.low, found.high]).all()


def test_many_clusters_are_drawn_and_agree_with_all_ways() -> None:
    values = np.sin(np.arange(20.0)) + 0.3
    exact = clustered_difference(values.tolist(), range(20))
    zero_more = clustered_difference([*values.tolist(), 0.0], range(21))  # drawn; 0 changes no sum
    assert zero_more.p == pytest.approx(exact.p, abs=0.005)
    assert zero_more == clustered_difference([*values.tolist(), 0.0], range(21))


def test_under_the_null_few_ps_are_small_and_intervals_cover() -> None:
    generator = np.random.default_rng(0)
    clusters = np.repeat(np.arange(12), 5)
    small = covered = 0
    for _ in range(200):
        shared = generator.normal(size=12)[clusters]  # what the tasks of a cluster share
        found = clustered_difference((shared + 0.3 * generator.normal(size=60)).tolist(), clusters)
        small += found.p < 0.05
        covered += found.low <= 0 <= found.high
    assert small <= 20 and covered >= 170  # of 200: 10 and 190 are expected, the latter optimistic


@pytest.mark.parametrize("values", [[], [0.1, np.nan], [0.1]])
def test_what_cannot_be_tested_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="give at least one finite difference"):
        clustered_difference(values, [0, 1])
