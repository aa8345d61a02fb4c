"""Folds of blocks of the map, for a cross-validation whose test places are apart from the others.

Neighbouring places resemble each other, so that folds of single places make a classifier look
better than it is where nothing was labelled.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timl import random
from timl.data import BenchmarkTask, CropTypeTask
from timl.data.regions.sphere import EARTH_RADIUS_KM, on_unit_sphere
from timl.data.regions.splits import spatial_blocks
from timl.evaluation.few_shot.tasks import places_of
from timl.random import Purpose

_SMALLEST_KM = 0.05
"""Edge below which blocks are no blocks any more."""
_FEW_BLOCKS = 10
"""Blocks below which an interval over blocks is too narrow."""


@dataclass(frozen=True, eq=False)
class BlockFolds:
    """Folds of a task's training samples.

    Parameters
    ----------
    benchmark
        The task.
    positions : int64 array of shape [n]
        Positions of its samples, each once, positives first where there are two classes.
    labels : int8 array of shape [n]
        Their labels, 1 and 0, or 0 to K - 1.
    blocks, folds : int64 arrays of shape [n]
        Block of the map that each is in, and fold, from 0.
    near : bool array of shape [folds, n]
        Which samples are nearer than ``distance_km`` to one of a fold; they are not trained on when
        it is scored.
    block_km, distance_km
        Edge of a block, and distance between training and test samples, at least.
    """

    benchmark: BenchmarkTask | CropTypeTask
    positions: NDArray[np.int64]
    labels: NDArray[np.int8]
    blocks: NDArray[np.int64]
    folds: NDArray[np.int64]
    near: NDArray[np.bool_]
    block_km: float
    distance_km: float

    @property
    def count(self) -> int:
        """Number of folds."""
        return len(self.near)

    def trained(self, fold: int) -> NDArray[np.bool_]:
        """Return which samples are trained on when a fold is scored, [n]."""
        return np.asarray((self.folds != fold) & ~self.near[fold])

    def training(self, samples: NDArray[np.bool_]) -> BenchmarkTask | CropTypeTask:
        """Return the task with some of its samples alone, [n].

        Negatives that are balanced by repetition stay repeated.
        """
        if isinstance(self.benchmark, CropTypeTask):
            return self.benchmark.with_samples(samples)
        kept = self.positions[samples]
        part = copy.copy(self.benchmark)
        part.positives = self.benchmark.positives[np.isin(self.benchmark.positives, kept)]
        part.negatives = self.benchmark.negatives[np.isin(self.benchmark.negatives, kept)]
        return part


def block_folds(
    benchmark: BenchmarkTask | CropTypeTask,
    folds: int = 5,
    *,
    block_km: float = 3.0,
    distance_km: float = 1.0,
    seed: int = 0,
) -> BlockFolds:
    """Divide a task's training samples into folds of whole blocks of a grid.

    The folds get about the same numbers of each class; they are fewer than asked for where many
    blocks are of one class alone. Where the blocks are too few for that, or a class would be
    missing in what a fold is trained on, their edges and the distance are halved until they are
    enough.

    Parameters
    ----------
    benchmark
        Task, for instance of `timl.data.own_points`. Its test samples are not used.
    folds
        Number of folds, at least 2.
    block_km
        Edge of a block.
    distance_km
        Samples nearer than that to one of the fold that is scored are not trained on.
    seed
        Seed of the grid's place and of the order of equally large blocks.

    Raises
    ------
    ValueError
        If an argument is out of range, or the samples cannot be divided at any size of blocks.

    Warns
    -----
    UserWarning
        If the blocks were made smaller, or are fewer than ten, so that intervals over them are too
        narrow.
    """
    if folds < 2 or not 0 < block_km < math.inf or not 0 <= distance_km < math.inf:
        raise ValueError(
            f"folds is {folds}, block_km is {block_km}, distance_km is {distance_km}: give at "
            f"least 2 folds, blocks of more than 0 km and a distance of at least 0 km"
        )
    positions, labels, names = _samples(benchmark)
    sizes = np.bincount(labels, minlength=len(names)).tolist()
    if min(sizes) < 2:
        listed = [f"{size} {name}" for name, size in zip(names, sizes, strict=True)][::-1]
        raise ValueError(
            f"points has {', '.join(listed[:-1])} and {listed[-1]}: give at least 2 of each, "
            f"for one is scored by what was learned on another"
        )
    lat, lon = places_of(benchmark.data)[positions].T
    edge, distance, first = block_km, distance_km, 0
    while True:
        blocks = spatial_blocks(lat, lon, edge, seed)
        number = int(blocks.max()) + 1
        first = first or number
        if number >= folds:
            of = _folds_of_blocks(blocks, labels, folds, seed)
            near = _near(lat, lon, of, distance)
            found = BlockFolds(benchmark, positions, labels, blocks, of, near, edge, distance)
            sides = [len(np.unique(labels[found.trained(f)])) for f in range(found.count)]
            if found.count > 1 and min(sides) == len(names):
                break
        edge, distance = edge / 2, distance / 2
        if edge < _SMALLEST_KM:
            raise ValueError(
                f"points has {len(labels)} samples in {first} blocks of {block_km:g} km and "
                f"{number} of {2 * edge:g} km, too few for {folds} folds with "
                f"{'both' if len(names) == 2 else f'all {len(names)}'} classes in what is left of "
                f"each: give points farther apart, or fewer folds"
                f"{'' if len(names) == 2 else ', or leave out the rarest class'}"
            )
    if edge < block_km:
        warnings.warn(
            f"the points lie in {first} blocks of {block_km:g} km, too close together for {folds} "
            f"folds: blocks of {edge:g} km are taken, {number} of them, with training points at "
            f"least {distance:g} km away. Scores are likely too high for places farther off; label "
            f"points in other places too",
            stacklevel=3,
        )
    elif number < _FEW_BLOCKS:
        warnings.warn(
            f"the points lie in {number} blocks of {block_km:g} km: intervals over so few are too "
            f"narrow; label points in other places too",
            stacklevel=3,
        )
    return found


def require_two_classes(points: object) -> None:
    """Raise TypeError unless a task is of two classes."""
    if not isinstance(points, BenchmarkTask):
        raise TypeError(f"the task is a {type(points).__name__}: give one of two classes")


def _samples(
    benchmark: BenchmarkTask | CropTypeTask,
) -> tuple[NDArray[np.int64], NDArray[np.int8], Sequence[str]]:
    """Return positions and labels of a task's training samples, and the names of its classes."""
    if isinstance(benchmark, CropTypeTask):
        return benchmark.positions, benchmark.codes, benchmark.classes
    sides = (benchmark.positives, benchmark.unique_negatives)
    labels = np.repeat(np.array([1, 0], np.int8), [len(side) for side in sides])
    return np.concatenate(sides), labels, ("negatives", "positives")


def _folds_of_blocks(
    blocks: NDArray[np.int64], labels: NDArray[np.int8], folds: int, seed: int
) -> NDArray[np.int64]:
    """Return the fold of each sample: the largest blocks first, each to the emptiest fold.

    Blocks of one class alone share folds, which may then be fewer.
    """
    count = int(blocks.max()) + 1
    kinds = np.unique(labels)[::-1]
    shares = np.stack(
        [np.bincount(blocks[labels == y], minlength=count) / (labels == y).sum() for y in kinds],
        axis=1,
    )  # [blocks, classes]
    order = random.permutation(count, seed=seed, purpose=Purpose.BLOCK_FOLDS)
    order = order[np.argsort(-shares[order].max(axis=1), kind="stable")]
    filled, fold = np.zeros((folds, len(kinds))), np.zeros(count, np.int64)
    for block in order:
        fold[block] = ((filled + shares[block]) ** 2 - filled**2).sum(axis=1).argmin()
        filled[fold[block]] += shares[block]
    return np.unique(fold[blocks], return_inverse=True)[1].reshape(-1)


def _near(
    lat: NDArray[np.float64],
    lon: NDArray[np.float64],
    folds: NDArray[np.int64],
    distance_km: float,
) -> NDArray[np.bool_]:
    """Return which samples are near one of each fold, [folds, n]."""
    from scipy.spatial import cKDTree

    points = on_unit_sphere(lat, lon)
    chord = 2 * np.sin(distance_km / (2 * EARTH_RADIUS_KM))
    near = [
        cKDTree(points[folds == fold]).query(points)[0] < chord for fold in range(folds.max() + 1)
    ]
    return np.stack(near)
