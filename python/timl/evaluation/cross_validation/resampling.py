"""Scores of out-of-fold logits, and their intervals by a bootstrap over blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from timl import random
from timl.random import Purpose

RESAMPLES = 2000
"""Draws of blocks."""
_WEIGHTS_AT_ONCE = 2**21


class Interval(NamedTuple):
    """A score with its interval, NaN where it is not defined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def block_weights(blocks: NDArray[np.int64], seed: int) -> Iterator[NDArray[np.float64]]:
    """Draw, for each resample, how often each sample counts: as often as its block was drawn.

    Parameters
    ----------
    blocks : int64 array of shape [n]
        Block of each sample, from 0.
    seed
        Seed of the draws.

    Yields
    ------
    float64 array of shape [resamples, n]
        All together `RESAMPLES` rows.
    """
    count = int(blocks.max()) + 1
    at_once = max(1, _WEIGHTS_AT_ONCE // len(blocks))
    for step, start in enumerate(range(0, RESAMPLES, at_once)):
        rows = min(at_once, RESAMPLES - start)
        drawn = random.uniform((rows, count), seed=seed, step=step, purpose=Purpose.BLOCK_RESAMPLES)
        chosen = (drawn * np.float32(count)).astype(np.int64)
        chosen += count * np.arange(rows)[:, None]
        times = np.bincount(chosen.ravel(), minlength=rows * count).reshape(rows, count)
        yield times[:, blocks].astype(np.float64)


def weighted_auc(
    logits: NDArray[np.float64], positive: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the area under the ROC curve under each row of weights, [rows, n]; ties count half."""
    values, group = np.unique(logits, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(values)))
    weights = weights[:, order]
    of_positives, of_negatives = (
        np.add.reduceat(weights * side[order], starts, axis=1) for side in (positive, ~positive)
    )  # [rows, values]
    below = np.cumsum(of_negatives, axis=1) - of_negatives / 2
    return _divide(
        (of_positives * below).sum(axis=1), of_positives.sum(axis=1) * of_negatives.sum(axis=1)
    )


def scores(
    logits: NDArray[np.float64],
    positive: NDArray[np.bool_],
    blocks: NDArray[np.int64],
    *,
    threshold: float,
    level: float,
    seed: int,
) -> dict[str, Interval]:
    """Score logits, with percentile intervals over draws of blocks with replacement.

    Parameters
    ----------
    logits, positive, blocks : arrays of shape [n]
        Logit, label and block of each sample.
    threshold
        Probability above which a sample counts as positive.
    level
        Probability that an interval is to hold the score of other blocks of this kind.
    seed
        Seed of the draws.

    Returns
    -------
    dict
        Score by name: auc_roc, f1, overall_accuracy, users_accuracy, producers_accuracy, brier.
    """
    cut = math.log(threshold) - math.log1p(-threshold)
    value = _all(logits, positive, np.ones((1, len(logits))), cut)
    drawn = [_all(logits, positive, weights, cut) for weights in block_weights(blocks, seed)]
    tails = [(1 - level) / 2, (1 + level) / 2]
    found = {}
    for name in value:
        values = np.concatenate([part[name] for part in drawn])
        values = values[np.isfinite(values)]
        low, high = np.quantile(values, tails) if len(values) else (math.nan, math.nan)
        found[name] = Interval(float(value[name][0]), float(low), float(high))
    return found


def _all(
    logits: NDArray[np.float64],
    positive: NDArray[np.bool_],
    weights: NDArray[np.float64],
    cut: float,
) -> dict[str, NDArray[np.float64]]:
    """Return each score under each row of weights, [rows, n]."""
    from scipy.special import expit

    chosen = logits > cut
    total = weights.sum(axis=1)
    both, called, are = (weights @ side for side in (chosen & positive, chosen, positive))
    return {
        "auc_roc": weighted_auc(logits, positive, weights),
        "f1": _divide(2 * both, called + are),
        "overall_accuracy": _divide(weights @ (chosen == positive), total),
        "users_accuracy": _divide(both, called),
        "producers_accuracy": _divide(both, are),
        "brier": _divide(weights @ (expit(logits) - positive) ** 2, total),
    }


def _divide(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return quotients, NaN over 0."""
    return np.asarray(np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0))
