"""Dividing samples into a training and a test part that are apart in space."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from timl import random
from timl.data.regions.sphere import EARTH_RADIUS_KM, chord_to_km, on_unit_sphere
from timl.random import Purpose

_COARSENINGS = (1, 2, 4, 8, 16, 32)
"""Blocks are tried at these multiples of their size: the denser the samples, the larger."""


class Split(NamedTuple):
    """One division of a task's samples; each part holds indices into the samples given."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    distance_km: float
    """The smallest distance of a training and a test sample."""


def derived_seed(seed: int, *of: object) -> int:
    """Derive a seed in [0, 2**31) from a run's seed and what it is for."""
    text = "/".join(map(str, (seed, *of)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def split_in_space(
    lat: NDArray[np.float64],
    lon: NDArray[np.float64],
    positive: NDArray[np.bool_],
    *,
    block_km: float = 3.0,
    distance_km: float = 2.0,
    seed: int = 0,
    least_train: int = 5,
    least_test: int = 10,
) -> Split | None:
    """Divide samples into a training and a test part that are apart in space.

    Whole groups go to one side, so that each side has about half of the positives and half of the
    negatives. The groups are either the blocks of a grid, of `block_km` or a multiple; then the
    training samples that are nearer than `distance_km` to a test sample are left out. Or they are
    chains of samples each nearer than that to the next, together with all that lie in the same
    blocks; then nothing is left out. Of these divisions the one counts whose smallest part, of
    positives or negatives in training or test, is the largest.

    Parameters
    ----------
    lat, lon : float64 array of shape [n]
        Degrees.
    positive : bool array of shape [n]
        The samples' labels.
    block_km
        Edge of a block, km, in an equal-distance sense: narrower in longitude towards the poles.
    distance_km
        Training and test samples are at least so far apart, km.
    seed
        Seed of the grid's place and the order of the groups.
    least_train, least_test
        Positives, and negatives, that either part needs.

    Returns
    -------
    Split or None
        None where no such division exists.
    """
    sides = (positive, ~positive)
    sizes = (block_km, distance_km, seed, least_train, least_test)
    return _divided_in_space(lat, lon, sides, *sizes)


def split_classes_in_space(
    lat: NDArray[np.float64],
    lon: NDArray[np.float64],
    classes: NDArray[np.integer],
    *,
    block_km: float = 3.0,
    distance_km: float = 2.0,
    seed: int = 0,
    least_train: int = 10,
    least_test: int = 10,
) -> Split | None:
    """Divide samples of several classes into parts that are apart in space.

    Parameters, result and rule are those of `split_in_space`, with each class in place of
    positives and negatives.

    Parameters
    ----------
    classes : integer array of shape [n]
        The samples' classes, 0 to K - 1.
    """
    sides = [classes == number for number in range(int(classes.max()) + 1)]
    sizes = (block_km, distance_km, seed, least_train, least_test)
    return _divided_in_space(lat, lon, sides, *sizes)


def _divided_in_space(
    lat: NDArray[np.float64],
    lon: NDArray[np.float64],
    members: Sequence[NDArray[np.bool_]],
    block_km: float,
    distance_km: float,
    seed: int,
    least_train: int,
    least_test: int,
) -> Split | None:
    """Divide samples in space, of classes whose samples the masks `members`, each [n], tell."""
    if not 0 < block_km < math.inf or not 0 <= distance_km < math.inf:
        raise ValueError(
            f"block_km is {block_km}, distance_km is {distance_km}: give a block of more than 0 "
            f"and a distance of at least 0"
        )
    if min(own.sum() for own in members) < least_train + least_test:
        return None
    from scipy.spatial import cKDTree

    points = on_unit_sphere(lat, lon)
    chord = 2 * np.sin(distance_km / (2 * EARTH_RADIUS_KM))  # on the unit sphere
    blocks = spatial_blocks(lat, lon, block_km, seed)
    candidates = [(_chains(points, blocks, chord), False)]
    candidates += [(spatial_blocks(lat, lon, block_km * c, seed), True) for c in _COARSENINGS]
    best: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None
    most = 0
    for groups, drop in candidates:
        test = _sides(groups, members, seed)
        train = ~test
        if drop and test.any() and train.any():
            nearest = cKDTree(points[test]).query(points[train])[0]
            train[np.flatnonzero(train)[nearest < chord]] = False
        in_train = [int((train & own).sum()) for own in members]
        in_test = [int((test & own).sum()) for own in members]
        if min(in_train) < least_train or min(in_test) < least_test:
            continue
        if min(*in_train, *in_test) > most:
            best, most = (train, test), min(*in_train, *in_test)
    if best is None:
        return None
    train, test = best
    return _split(points, np.flatnonzero(train), np.flatnonzero(test))


def split_at_random(
    lat: NDArray[np.float64],
    lon: NDArray[np.float64],
    positive: NDArray[np.bool_],
    like: Split,
    *,
    seed: int = 0,
) -> Split:
    """Divide samples at random into parts of the sizes, by class, that another division has."""
    parts: list[list[NDArray[np.int64]]] = [[], []]
    for number, side in enumerate((positive, ~positive)):
        members = np.flatnonzero(side)
        order = members[
            random.permutation(len(members), seed=seed, task=number, purpose=Purpose.RANDOM_SPLIT)
        ]
        train, test = int(side[like.train].sum()), int(side[like.test].sum())
        parts[0].append(order[:train])
        parts[1].append(order[train : train + test])
    train_part, test_part = (np.sort(np.concatenate(part)) for part in parts)
    return _split(on_unit_sphere(lat, lon), train_part, test_part)


def smallest_distance_km(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the smallest distance between places of two sets, [n, 2] and [m, 2] degrees, in km."""
    from scipy.spatial import cKDTree

    tree = cKDTree(on_unit_sphere(*one.T))
    return float(chord_to_km(tree.query(on_unit_sphere(*other.T))[0].min()))


def _split(points: NDArray[np.float64], train: NDArray[Any], test: NDArray[Any]) -> Split:
    from scipy.spatial import cKDTree

    chord = float(cKDTree(points[test]).query(points[train])[0].min())
    return Split(train, test, float(chord_to_km(chord)))


def spatial_blocks(
    lat: NDArray[np.float64], lon: NDArray[np.float64], block_km: float, seed: int
) -> NDArray[np.int64]:
    """Return the number of the block of a grid that each sample is in, from 0.

    Parameters
    ----------
    lat, lon : float64 arrays of shape [n]
        Degrees.
    block_km
        Edge of a block, as of `split_in_space`.
    seed
        Seed of the grid's place.

    Returns
    -------
    int64 array of shape [n]
    """
    degree = EARTH_RADIUS_KM * np.pi / 180
    shift = random.uniform((2,), seed=seed, purpose=Purpose.SPATIAL_BLOCKS).astype(np.float64)
    row = np.floor(lat * degree / block_km + shift[0])
    middle = np.radians((row + 0.5 - shift[0]) * block_km / degree)
    column = np.floor(lon * degree * np.maximum(np.cos(middle), 0.01) / block_km + shift[1])
    numbers = np.unique(np.stack([row, column]), axis=1, return_inverse=True)[1]
    return np.asarray(numbers, np.int64).reshape(-1)


def _chains(
    points: NDArray[np.float64], blocks: NDArray[np.int64], chord: float
) -> NDArray[np.int64]:
    """Return the number of each sample's chain, [n]."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    order = np.argsort(blocks, kind="stable")
    same = blocks[order][1:] == blocks[order][:-1]
    in_block = np.stack([order[:-1][same], order[1:][same]], axis=1)
    near = cKDTree(points).query_pairs(chord, output_type="ndarray")
    pairs = np.concatenate([in_block, near])
    links = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=[len(points)] * 2)
    return np.asarray(connected_components(links, directed=False)[1], np.int64)


def _sides(
    groups: NDArray[np.int64], members: Sequence[NDArray[np.bool_]], seed: int
) -> NDArray[np.bool_]:
    """Return which samples are on the test side."""
    count = int(groups.max()) + 1
    sizes = [np.bincount(groups[own], minlength=count) for own in members]
    return sides_of_groups(np.stack(sizes, axis=1), seed)[groups]


def sides_of_groups(sizes: NDArray[np.integer], seed: int) -> NDArray[np.bool_]:
    """Put whole groups on two sides, so that each has about half of every class.

    Parameters
    ----------
    sizes : integer array of shape [groups, classes]
        Number of samples of each class in each group; each class has some.
    seed
        Seed of the order among groups of about the same size: the larger are placed first.

    Returns
    -------
    bool array of shape [groups]
        Which groups are on the test side.
    """
    count, classes = sizes.shape
    shares = sizes / sizes.sum(axis=0)
    order = random.permutation(count, seed=seed, purpose=Purpose.SPLIT_ORDER)
    coins = random.uniform((count,), seed=seed, purpose=Purpose.SPLIT_TIES) < 0.5
    magnitude = np.floor(np.log2(shares.max(axis=1)))
    filled = np.zeros((2, classes))  # [training or test, classes]
    side = np.zeros(count, bool)
    for group in order[np.argsort(-magnitude[order], kind="stable")]:
        train, test = filled @ shares[group]
        side[group] = coins[group] if train == test else test < train
        filled[int(side[group])] += shares[group]
    return side
