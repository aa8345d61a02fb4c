"""Tests and intervals of paired differences that come in clusters, such as the tasks of a region.

Tasks of one region share test samples, and regions of one survey share the way they were labelled:
they do not count as independent. Here the clusters do, however many differences each holds.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timl import random
from timl.random import Purpose

_EXACT = 20
"""Clusters up to which all ways to flip their signs are tried: 2**20."""
_DRAWS = 100_000
"""Random ways to flip the signs of more clusters."""
_RESAMPLES = 10_000
"""Draws of clusters for an interval."""
_AT_ONCE = 2**14


@dataclass(frozen=True)
class ClusteredDifference:
    """A mean paired difference, with a test and an interval that count clusters."""

    mean: float
    """Mean over the differences, each counting once."""
    differences: int
    clusters: int
    p: float
    """Two-sided p of the sign-flip test over clusters; at least 2 / 2**clusters."""
    low: float
    high: float
    """95 % interval of the mean, by the bootstrap over clusters; NaN with a single cluster."""


def clustered_difference(
    differences: Sequence[float], clusters: Sequence[Hashable], seed: int = 0
) -> ClusteredDifference:
    """Test whether paired differences are 0 on average, counting clusters.

    The test flips the signs of whole clusters: were both sides alike, every cluster's differences
    could as well have come out with the other sign. It tries all 2**clusters ways up to 20
    clusters, and 100,000 random ones above. The interval is that between the 2.5 % and 97.5 %
    quantiles of the means of 10,000 draws of clusters with replacement; with fewer than about ten
    clusters it is too narrow.

    Parameters
    ----------
    differences
        Differences of two scores, at least one.
    clusters
        Cluster of each.
    seed
        Seed of the random draws; the same seed gives the same p and interval.

    Raises
    ------
    ValueError
        If there is no difference, one is not finite, or the lengths differ.
    """
    values = np.asarray(differences, np.float64)
    if not len(values) or len(values) != len(clusters) or not np.isfinite(values).all():
        raise ValueError(
            f"differences has shape {list(values.shape)}, clusters has length {len(clusters)}: "
            f"give at least one finite difference, and a cluster for each"
        )
    number = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    members = np.array([number[cluster] for cluster in clusters])
    sums = np.bincount(members, values).astype(np.float64)
    sizes = np.bincount(members).astype(np.float64)
    low, high = _interval(sums, sizes, seed) if len(sums) > 1 else (np.nan, np.nan)
    return ClusteredDifference(
        float(values.mean()), len(values), len(sums), _sign_flip_p(sums, seed), low, high
    )


def _sign_flip_p(sums: NDArray[np.float64], seed: int) -> float:
    """Return how often flipped sums are as far from 0 as the true one."""
    count = len(sums)
    # what differs by rounding alone counts as equal
    least = float(abs(sums.sum()) - 1e-12 * np.abs(sums).sum())
    if count <= _EXACT:
        ways = 2 ** (count - 1)  # the other half has the same distances from 0
        extreme = 0
        for start in range(0, ways, _AT_ONCE):
            numbers = np.arange(start, min(start + _AT_ONCE, ways))[:, None]
            signs = 1.0 - 2.0 * ((numbers >> np.arange(count)) & 1)
            extreme += int((np.abs(signs @ sums) >= least).sum())
        return float(extreme / ways)
    extreme = 0
    for step, start in enumerate(range(0, _DRAWS, _AT_ONCE)):
        shape = (min(_AT_ONCE, _DRAWS - start), count)
        coins = random.uniform(shape, seed=seed, step=step, purpose=Purpose.SIGN_FLIPS)
        extreme += int((np.abs(np.where(coins < 0.5, -1.0, 1.0) @ sums) >= least).sum())
    return (extreme + 1) / (_DRAWS + 1)


def _interval(
    sums: NDArray[np.float64], sizes: NDArray[np.float64], seed: int
) -> tuple[float, float]:
    """Return the 95 % interval of the mean over differences, by drawing clusters."""
    count = len(sums)
    means = []
    for step, start in enumerate(range(0, _RESAMPLES, _AT_ONCE)):
        shape = (min(_AT_ONCE, _RESAMPLES - start), count)
        drawn = random.uniform(shape, seed=seed, step=step, purpose=Purpose.CLUSTER_RESAMPLES)
        chosen = (drawn * np.float32(count)).astype(np.int64)
        means.append(sums[chosen].sum(axis=1) / sizes[chosen].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(low), float(high)
