"""Fitting the strong protocol's classifier to the labels of one task."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from timl import random
from timl.nn import Classifier
from timl.nn.metric import Metric
from timl.nn.strong_classifier import StrongClassifier, forest_numbers, kernel
from timl.nn.trees import Trees
from timl.random import Purpose

_TREES = 100
_MOST = 1500


def fit_strong(
    network: Classifier, metric: Metric, x: ArrayLike, y: ArrayLike, *, seed: int, name: str = "y"
) -> StrongClassifier:
    """Fit a kernel regression in the metric, and extremely randomised trees, to a task's labels.

    The kernel's coefficients solve (K + D) a = t, with t = 1 for positives and -1 for negatives
    and D the inverse of each label's weight, which gives both classes the same sum.

    Parameters
    ----------
    network
        The task's classifier, with its FiLM values and `normalization`.
    metric
        The model's.
    x : array, shape [n, T, 18]
        Normalised series.
    y : array, shape [n]
        Labels, 0 and 1.
    seed
        Of the trees; and of the draw where a class has more than 1,500 labels, which is as many as
        the kernel takes of each. The trees see all.
    name
        What the labels are, for messages.

    Returns
    -------
    StrongClassifier

    Raises
    ------
    ValueError
        There are no positives or no negatives, or the network has no `normalization`.
    """
    from sklearn.ensemble import ExtraTreesClassifier
    from threadpoolctl import threadpool_limits

    series, labels = np.asarray(x, np.float32), np.asarray(y)
    members = [np.flatnonzero(labels == label) for label in (1, 0)]
    if min(map(len, members)) == 0:
        raise ValueError(
            f"{name} has {len(members[0])} positives and {len(members[1])} negatives: fine-tuning "
            f"needs both"
        )
    if network.normalization is None:
        raise ValueError("the network has no normalization: say how its series are prepared")
    kept = np.concatenate([_drawn(rows, seed, side) for side, rows in enumerate(members)])
    with threadpool_limits(1):
        places = metric.transform(network, series[kept], network.normalization)
        positive = labels[kept] == 1
        weight = np.where(positive, 0.5 / positive.mean(), 0.5 / (1 - positive.mean()))
        gram = kernel(places, places, float(metric.length)) + np.diag(1 / weight)
        coefficients = np.linalg.solve(gram, np.where(positive, 1.0, -1.0))
        forest = ExtraTreesClassifier(
            _TREES, class_weight="balanced", random_state=seed % 2**32, n_jobs=1
        ).fit(forest_numbers(series, network.normalization), labels == 1)
    trees = Trees.of(forest)
    made = StrongClassifier(
        network.configuration(),
        list(metric.projection.shape),
        len(kept),
        [len(trees.roots), len(trees.left)],
    )
    made.network, made.metric, made.trees = network, copy.deepcopy(metric), trees
    made.places.copy_(torch.as_tensor(places))
    made.coefficients.copy_(torch.as_tensor(coefficients))
    return made.eval()


def _drawn(rows: NDArray[np.int64], seed: int, side: int) -> NDArray[np.int64]:
    """Return the rows of a class that the kernel takes."""
    if len(rows) <= _MOST:
        return rows
    purpose = Purpose.FINE_TUNING_SAMPLES
    order = random.permutation(len(rows), seed=seed, task=side, purpose=purpose)
    return rows[np.sort(order[:_MOST])]
