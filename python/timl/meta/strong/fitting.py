"""Fit of the strong protocol's classifier to the labels of one task."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from timl import random
from timl.arrays import labelled_series, require_size
from timl.meta.strong.constants import (
    FEW,
    LEAST_KERNEL_WEIGHT,
    MOST_LABELS,
    SHIFT,
    SLOPE,
    SLOPE_POWER,
)
from timl.meta.strong.forest import fit_forest
from timl.nn import DeepKernel, StrongClassifier, one_thread
from timl.nn.strong.deep_kernel import fit_ridge
from timl.nn.strong.description import describe_series
from timl.normalization import Normalization
from timl.random import Purpose


def fit_strong(
    deep_kernel: DeepKernel,
    x: ArrayLike,
    y: ArrayLike,
    *,
    normalization: Normalization,
    classification_label: str | None = None,
    target_label: str | None = None,
    seed: int = 0,
    name: str = "y",
) -> StrongClassifier:
    """Fit kernel ridge regressions in a deep kernel, and a forest, to a task's labels.

    Parameters
    ----------
    deep_kernel
        Deep kernel that was learned on other regions. It stays as it is.
    x : array of shape [n, T, 18]
        Normalised series. NaN where a value is missing: `DeepKernel.complete` replaces it.
    y : array of shape [n]
        Labels, 0 and 1.
    normalization
        How the series were normalised.
    classification_label, target_label
        FAO class and name of the positives, "crop" and "crop" for crop versus non-crop; None, or
        one that the deep kernel does not know: nothing is assumed of the positives.
    seed
        Seed of the trees, and of the draw of 500 labels of a class for the kernel where there are
        more.
    name
        Name of the labels in messages.

    Returns
    -------
    StrongClassifier
        Classifier in evaluation mode.

    Raises
    ------
    ValueError
        If there are no positives or no negatives, the series have another number of steps or bands
        than those of the deep kernel, or nothing is there of a series.
    """
    from threadpoolctl import threadpool_limits

    given, labels = labelled_series(x, y, name)
    series = given.astype(np.float32)
    sides = [np.flatnonzero(labels == label) for label in (1, 0)]
    if min(map(len, sides)) == 0:
        raise ValueError(
            f"{name} is of {len(sides[0])} positives and {len(sides[1])} negatives: give some "
            f"of both"
        )
    mean = deep_kernel.task_mean(series)
    require_size(series, "x", "give normalised series")
    described = describe_series(deep_kernel.complete(series, mean), normalization)
    kept = np.concatenate([_kernel_rows(rows, seed, c) for c, rows in enumerate(sides)])
    task = deep_kernel.describe_task(classification_label, target_label)
    targets = torch.from_numpy(np.where(labels[kept] == 1, 1.0, -1.0))
    with threadpool_limits(1), one_thread():
        standard = deep_kernel.standardize(described[kept])
        fitted = [
            (points, *fit_ridge(points, prior, targets, head))
            for head, points, prior in deep_kernel.embed(standard, task)
        ]
        label_points = standard @ deep_kernel.members[0].axes.double().cpu()
        trees = fit_forest(described, labels == 1, seed)
    classifier = StrongClassifier(
        deep_kernel.configuration(), len(kept), [len(trees.roots), len(trees.left)]
    )
    classifier.deep_kernel, classifier.trees = copy.deepcopy(deep_kernel), trees
    classifier.normalization = normalization
    counts = [len(side) for side in sides]
    for buffer, values in (
        ("task", task),
        ("task_mean", mean),
        ("points", torch.stack([points for points, _, _ in fitted])),
        ("coefficients", torch.stack([coefficients for _, coefficients, _ in fitted])),
        ("levels", torch.stack([level for _, _, level in fitted])),
        ("label_points", label_points),
        ("kernel_weight", kernel_weight(min(counts))),
        ("slope", slope(min(counts))),
        ("shift", SHIFT * math.log(counts[0] / counts[1])),
    ):
        getattr(classifier, buffer).copy_(torch.as_tensor(values))
    return classifier.to(deep_kernel.mean).eval()


def kernel_weight(rarer: int) -> float:
    """Return the weight of the kernel against the forest, by the labels of the rarer class.

    What other regions teach counts less the more labels there are.
    """
    return min(1.0, max(LEAST_KERNEL_WEIGHT, math.sqrt(FEW / rarer)))


def slope(rarer: int) -> float:
    """Return the slope of the logit: with few labels kernel and forest are too sure."""
    return min(1.0, SLOPE * math.pow(rarer / FEW, SLOPE_POWER))


def _kernel_rows(rows: NDArray[np.int64], seed: int, number: int) -> NDArray[np.int64]:
    """Return the rows that the kernel takes of a class; number 0 is that of the positives."""
    if len(rows) <= MOST_LABELS:
        return rows
    order = random.permutation(len(rows), seed=seed, task=number, purpose=Purpose.KERNEL_SUBSET)
    return rows[np.sort(order[:MOST_LABELS])]
