"""Fit of the strong protocol's classifier to the labels of one task."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from timl import random
from timl.arrays import labelled_series, require_size
from timl.meta.strong.constants import (
    FEW,
    LEAST_KERNEL_WEIGHT,
    MOST_IN_ALL,
    MOST_LABELS,
    SHIFT,
    SLOPE,
    SLOPE_POWER,
)
from timl.meta.strong.forest import fit_forest
from timl.nn import DeepKernel, StrongClassifier, one_thread
from timl.nn.strong.deep_kernel import fit_ridge, fit_ridge_classes
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
    counts: ArrayLike | None = None,
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
    counts : array of shape [n]
        How many samples each series stands for, above 0; by default one. Whole numbers give the
        regression that so many copies of each would, where it takes all labels, and trees that
        differ only where splits tie.
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
    given, labels = labelled_series(x, y, name)
    series = given.astype(np.float32)
    sides = [np.flatnonzero(labels == label) for label in (1, 0)]
    if min(map(len, sides)) == 0:
        raise ValueError(
            f"{name} is of {len(sides[0])} positives and {len(sides[1])} negatives: give some "
            f"of both"
        )
    return _fit(
        deep_kernel,
        series,
        sides,
        None,
        deep_kernel.describe_task(classification_label, target_label)[None],
        counts=_checked_counts(counts, labels),
        normalization=normalization,
        seed=seed,
    )


def fit_strong_classes(
    deep_kernel: DeepKernel,
    x: ArrayLike,
    y: ArrayLike,
    classes: Sequence[str],
    *,
    normalization: Normalization,
    classification_labels: Sequence[str | None] | None = None,
    counts: ArrayLike | None = None,
    seed: int = 0,
    name: str = "y",
) -> StrongClassifier:
    """Fit kernel ridge regressions in a deep kernel, and a forest, to labels of several classes.

    One solve for all classes: the difference of two classes' logits is the regression that
    `fit_strong` fits to one label against another. Every class weighs the same, whatever its
    number of labels: the probabilities, softmax of the logits, are those where all classes are
    equally frequent.

    Parameters
    ----------
    deep_kernel, x, normalization, counts, name
        Those of `fit_strong`.
    y : integer array of shape [n]
        Classes, 0 to K - 1, each at least once.
    classes
        Names of the K classes, two or more and different; those that the deep kernel knows get
        the prior mean of their label.
    classification_labels
        FAO class of each, "crop" for any crop, or None: nothing is assumed of it.
    seed
        That of `fit_strong`. Of more than 2,000 labels the kernel takes 2,000 / K of a class.

    Returns
    -------
    StrongClassifier
        Classifier in evaluation mode, with a logit of each class.

    Raises
    ------
    ValueError
        If a class has no labels or is none of the names, names are alike, or the series do not
        fit the deep kernel.
    """
    count = len(classes)
    kinds = [None] * count if classification_labels is None else list(classification_labels)
    if count < 2 or len(set(classes)) < count or len(kinds) != count:
        raise ValueError(
            f"classes is {list(classes)} with the FAO classes {kinds}: give two names or more, all "
            f"different, and one FAO class or None for each"
        )
    given, labels = labelled_series(x, y, name, count)
    series = given.astype(np.float32)
    members = [np.flatnonzero(labels == number) for number in range(count)]
    sizes = [len(rows) for rows in members]
    if min(sizes) == 0:
        found = dict(zip(classes, sizes, strict=True))
        raise ValueError(
            f"{name} is of {len(labels)} labels, of classes {found}: give some labels of each"
        )
    described = [
        deep_kernel.describe_task(kind, name) for kind, name in zip(kinds, classes, strict=True)
    ]
    return _fit(
        deep_kernel,
        series,
        members,
        classes,
        torch.stack(described),
        counts=_checked_counts(counts, labels),
        normalization=normalization,
        seed=seed,
    )


def _fit(
    deep_kernel: DeepKernel,
    series: NDArray[np.float32],
    members: list[NDArray[np.int64]],
    classes: Sequence[str] | None,
    task: Tensor,
    *,
    counts: NDArray[np.float64] | None,
    normalization: Normalization,
    seed: int,
) -> StrongClassifier:
    """Return the classifier fitted to the rows of each class.

    With one logit `members` are positives and negatives, and `task` is [1, O]; else both have an
    entry for each class.
    """
    from threadpoolctl import threadpool_limits

    mean = deep_kernel.task_mean(series, counts)
    require_size(series, "x", "give normalised series")
    described = describe_series(deep_kernel.complete(series, mean), normalization)
    most = min(MOST_LABELS, MOST_IN_ALL // len(members))
    parts = [_kernel_rows(rows, most, seed, number) for number, rows in enumerate(members)]
    kept = np.concatenate(parts)
    of_kept = None if counts is None else torch.from_numpy(counts[kept])
    of_class = torch.from_numpy(np.repeat(np.arange(len(parts)), [len(part) for part in parts]))
    with threadpool_limits(1), one_thread():
        standard = deep_kernel.standardize(described[kept])
        networks = deep_kernel.embed(standard, task)
        if classes is None:
            targets = torch.where(of_class == 0, 1.0, -1.0).double()
            fitted = [
                (points, *fit_ridge(points, prior[0], targets, head, of_kept))
                for head, points, prior in networks
            ]
        else:
            fitted = [
                (points, *fit_ridge_classes(points, prior, of_class, head, of_kept))
                for head, points, prior in networks
            ]
        label_points = standard @ deep_kernel.members[0].axes.double().cpu()
        trees = fit_forest(described, members, seed, counts, several=classes is not None)
    classifier = StrongClassifier(
        deep_kernel.configuration(),
        len(kept),
        [len(trees.roots), len(trees.left), *trees.value.shape[1:]],
        classes,
    )
    classifier.deep_kernel, classifier.trees = copy.deepcopy(deep_kernel), trees
    classifier.normalization = normalization
    totals = [float(len(rows)) if counts is None else counts[rows].sum() for rows in members]
    rarest = min(totals)
    shift = (
        SHIFT * math.log(totals[0] / totals[1]) if classes is None else torch.zeros(len(classes))
    )
    for buffer, values in (
        ("task", task),
        ("task_mean", mean),
        ("points", torch.stack([points for points, _, _ in fitted])),
        ("coefficients", torch.stack([coefficients for _, coefficients, _ in fitted])),
        ("levels", torch.stack([level for _, _, level in fitted])),
        ("label_points", label_points),
        ("kernel_weight", kernel_weight(rarest)),
        ("slope", slope(rarest)),
        ("shift", shift),
    ):
        target = getattr(classifier, buffer)
        target.copy_(torch.as_tensor(values).reshape(target.shape))
    return classifier.to(deep_kernel.mean).eval()


def _checked_counts(
    counts: ArrayLike | None, labels: NDArray[np.generic]
) -> NDArray[np.float64] | None:
    """Return how many samples each label stands for, checked; None: one."""
    if counts is None:
        return None
    each = np.asarray(counts, np.float64)
    if each.shape != labels.shape or not (np.isfinite(each) & (each > 0)).all():
        raise ValueError(
            f"counts is of shape {list(each.shape)} for {len(labels)} series: give a finite number "
            f"above 0 for each"
        )
    return each


def kernel_weight(rarer: float) -> float:
    """Return the weight of the kernel against the forest, by the labels of the rarer class.

    What other regions teach counts less the more labels there are.
    """
    return min(1.0, max(LEAST_KERNEL_WEIGHT, math.sqrt(FEW / rarer)))


def slope(rarer: float) -> float:
    """Return the slope of the logit: with few labels kernel and forest are too sure."""
    return min(1.0, SLOPE * math.pow(rarer / FEW, SLOPE_POWER))


def _kernel_rows(rows: NDArray[np.int64], most: int, seed: int, number: int) -> NDArray[np.int64]:
    """Return the rows that the kernel takes of a class; number 0 is that of the positives."""
    if len(rows) <= most:
        return rows
    order = random.permutation(len(rows), seed=seed, task=number, purpose=Purpose.KERNEL_SUBSET)
    return rows[np.sort(order[:most])]
