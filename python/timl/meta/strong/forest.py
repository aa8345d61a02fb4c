"""Forest of the strong protocol: extremely randomised trees, balanced however rare a class is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from timl import random
from timl.meta.strong.constants import LEAST_OF_TREE, MOST_OF_TREE, TREE_RATIO, TREES
from timl.nn.strong.trees import Trees
from timl.random import Purpose


def fit_forest(
    x: NDArray[np.float32],
    positive: NDArray[np.bool_],
    seed: int,
    counts: NDArray[np.float64] | None = None,
) -> Trees:
    """Fit extremely randomised trees with the classes weighted equally.

    A tree sees at most three times as many labels of the commoner class as of the rarer one (30
    at least, 1,000 at most of either), drawn anew for each: many negatives then make the trees
    differ, instead of making their leaves pure. Where no class is so large all trees see all
    labels.

    Parameters
    ----------
    x : float32 array of shape [n, D]
        Descriptions.
    positive : bool array of shape [n]
        Whether each is a positive; both occur.
    seed
        Seed of trees and draws.
    counts : float64 array of shape [n]
        How many samples each label stands for; by default one. Draws are of labels.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    sides = sorted((np.flatnonzero(positive), np.flatnonzero(~positive)), key=len)
    rarer = len(sides[0])
    most = (
        min(rarer, MOST_OF_TREE),
        min(len(sides[1]), MOST_OF_TREE, max(LEAST_OF_TREE, TREE_RATIO * rarer)),
    )
    if sum(most) < len(positive):
        return Trees.from_fitted(_subset_trees(x, positive, sides, most, seed, counts))
    forest = ExtraTreesClassifier(
        TREES,
        class_weight="balanced" if counts is None else None,
        random_state=seed % 2**32,
        n_jobs=1,
    )
    weight = None if counts is None else _balanced(counts, positive)
    return Trees.from_fitted(forest.fit(x, positive, weight).estimators_)


def _balanced(counts: NDArray[np.float64], positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return weights [n] by which both classes weigh alike, and labels in a class as `counts`."""
    classes = np.where(positive, counts[positive].sum(), counts[~positive].sum())
    weight: NDArray[np.float64] = counts / classes * (counts.sum() / 2)
    return weight


def _subset_trees(
    x: NDArray[np.float32],
    positive: NDArray[np.bool_],
    sides: list[NDArray[np.int64]],
    most: tuple[int, int],
    seed: int,
    counts: NDArray[np.float64] | None,
) -> list[Any]:
    """Return trees that are each fitted to so many labels of both sides."""
    from sklearn.tree import ExtraTreeClassifier

    drawn = random.uniform((TREES,), seed=seed, purpose=Purpose.FOREST_SEEDS)
    seeds = (drawn * 2**24).astype(np.int64)
    weight = np.repeat([0.5 / most[0], 0.5 / most[1]], most) * sum(most)
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
        own = weight if counts is None else _balanced(counts[rows], positive[rows])
        trees.append(tree.fit(x[rows], positive[rows], own, check_input=False))
    return trees
