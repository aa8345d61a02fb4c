"""Forest of the strong protocol: extremely randomised trees, balanced however rare a class is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timl import random
from timl.meta.strong.constants import LEAST_OF_TREE, MOST_OF_TREE, TREE_RATIO, TREES
from timl.nn.strong.trees import Trees
from timl.random import Purpose


def fit_forest(
    x: NDArray[np.float32],
    members: Sequence[NDArray[np.int64]],
    seed: int,
    counts: NDArray[np.float64] | None = None,
    *,
    several: bool,
) -> Trees:
    """Fit extremely randomised trees with the classes weighted equally.

    A tree sees at most three times as many labels of a class as of the rarest one (30 at least,
    1,000 at most of any), drawn anew for each: many negatives then make the trees differ, instead
    of making their leaves pure. Where no class is so large all trees see all labels.

    Parameters
    ----------
    x : float32 array of shape [n, D]
        Descriptions.
    members
        Rows of the classes: positives and negatives, or of several classes.
    seed
        Seed of trees and draws.
    counts : float64 array of shape [n]
        How many samples each label stands for; by default one. Draws are of labels.
    several
        Whether the trees tell the share of each class, not of positives alone.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    # of two classes 1 is the positives'
    numbers = range(len(members)) if several else (1, 0)
    codes = np.empty(len(x), np.int64)
    for number, rows in zip(numbers, members, strict=True):
        codes[rows] = number
    outputs = len(members) if several else 1
    sides = sorted(members, key=len)
    rarest = len(sides[0])
    most = [min(len(side), MOST_OF_TREE, max(LEAST_OF_TREE, TREE_RATIO * rarest)) for side in sides]
    if sum(most) < len(x):
        return Trees.from_fitted(_subset_trees(x, codes, sides, most, seed, counts), outputs)
    forest = ExtraTreesClassifier(
        TREES,
        class_weight="balanced" if counts is None else None,
        random_state=seed % 2**32,
        n_jobs=1,
    )
    weight = None if counts is None else _balanced(counts, codes)
    return Trees.from_fitted(forest.fit(x, codes, weight).estimators_, outputs)


def _balanced(counts: NDArray[np.float64], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return weights [n] by which all classes weigh alike, and labels in a class as `counts`."""
    totals = np.bincount(codes, weights=counts)
    weight: NDArray[np.float64] = counts / totals[codes] * (counts.sum() / len(totals))
    return weight


def _subset_trees(
    x: NDArray[np.float32],
    codes: NDArray[np.int64],
    sides: list[NDArray[np.int64]],
    most: list[int],
    seed: int,
    counts: NDArray[np.float64] | None,
) -> list[Any]:
    """Return trees that are each fitted to so many labels of every class."""
    from sklearn.tree import ExtraTreeClassifier

    drawn = random.uniform((TREES,), seed=seed, purpose=Purpose.FOREST_SEEDS)
    seeds = (drawn * 2**24).astype(np.int64)
    weight = np.repeat([1 / len(most) / count for count in most], most) * sum(most)
    trees = []
    for number in range(TREES):
        orders = (
            random.permutation(
                len(side), seed=seed, task=which, step=number, purpose=Purpose.FOREST_SUBSET
            )
            for which, side in enumerate(sides)
        )
        rows = np.concatenate(
            [side[order[:count]] for side, order, count in zip(sides, orders, most, strict=True)]
        )
        tree = ExtraTreeClassifier(max_features="sqrt", random_state=int(seeds[number]))
        own = weight if counts is None else _balanced(counts[rows], codes[rows])
        trees.append(tree.fit(x[rows], codes[rows], own, check_input=False))
    return trees
