"""Fit of the strong protocol's classifier to the labels of one task."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from timl import random
from timl.nn import Classifier
from timl.nn.metric import Metric
from timl.nn.strong_classifier import StrongClassifier, forest_features, kernel
from timl.nn.trees import Trees
from timl.random import Purpose

_TREES = 100
"""Number of trees of the forest."""
_MOST = 1500
"""Greatest number of labels of a class that the kernel takes."""


def fit_strong(
    network: Classifier, metric: Metric, x: ArrayLike, y: ArrayLike, *, seed: int, name: str = "y"
) -> StrongClassifier:
    """Fit a kernel regression in the metric, and extremely randomised trees, to a task's labels.

    The kernel's coefficients solve (K + D) a = t, with t = 1 for positives and -1 for negatives
    and D the inverse of each label's weight, which gives both classes the same sum.

    Parameters
    ----------
    network
        Classifier of the task, with its FiLM values and `normalization`.
    metric
        Metric of the model.
    x : array of shape [n, T, 18]
        Normalised series.
    y : array of shape [n]
        Labels, 0 and 1.
    seed
        Seed of the trees, and of the draw of 1,500 labels of a class for the kernel where there are
        more. The trees are fitted to all labels.
    name
        Name of the labels in messages.

    Returns
    -------
    StrongClassifier
        Classifier in evaluation mode.

    Raises
    ------
    ValueError
        If there are no positives or no negatives, or the network has no `normalization`.
    """
    from sklearn.ensemble import ExtraTreesClassifier
    from threadpoolctl import threadpool_limits

    series, labels = np.asarray(x, np.float32), np.asarray(y)
    members = [np.flatnonzero(labels == label) for label in (1, 0)]
    if min(map(len, members)) == 0:
        raise ValueError(
            f"{name} is of {len(members[0])} positives and {len(members[1])} negatives: give some "
            f"of both"
        )
    if network.normalization is None:
        raise ValueError("network.normalization is None: say how its series are prepared")
    kept = np.concatenate([_kernel_rows(rows, seed, c) for c, rows in enumerate(members)])
    with threadpool_limits(1):
        places = metric.transform(network, series[kept], network.normalization)
        positive = labels[kept] == 1
        weight = np.where(positive, 0.5 / positive.mean(), 0.5 / (1 - positive.mean()))
        gram = kernel(places, places, float(metric.length)) + np.diag(1 / weight)
        coefficients = np.linalg.solve(gram, np.where(positive, 1.0, -1.0))
        forest = ExtraTreesClassifier(
            _TREES, class_weight="balanced", random_state=seed % 2**32, n_jobs=1
        ).fit(forest_features(series, network.normalization), labels == 1)
    trees = Trees.from_forest(forest)
    classifier = StrongClassifier(
        network.configuration(),
        list(metric.projection.shape),
        len(kept),
        [len(trees.roots), len(trees.left)],
    )
    classifier.network, classifier.metric = network, copy.deepcopy(metric)
    classifier.trees = trees
    classifier.places.copy_(torch.as_tensor(places))
    classifier.coefficients.copy_(torch.as_tensor(coefficients))
    return classifier.eval()


def _kernel_rows(rows: NDArray[np.int64], seed: int, number: int) -> NDArray[np.int64]:
    """Return the rows that the kernel takes of a class; number 0 is that of the positives."""
    if len(rows) <= _MOST:
        return rows
    order = random.permutation(len(rows), seed=seed, task=number, purpose=Purpose.KERNEL_SUBSET)
    return rows[np.sort(order[:_MOST])]
