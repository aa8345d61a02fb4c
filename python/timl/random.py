"""Random numbers that depend on nothing but (seed, purpose, task, epoch, step).

Every draw is a block of Philox4x32-10 words. Its key is the seed; its counter is (number of the
group of four words, task, epoch, purpose + 256 * step). The same draw therefore has the same bits
on any device, with any number of threads or processes, and after a resume.
docs/explanation/random-numbers.md lists all draws.
"""

from __future__ import annotations

import enum
import math

import numpy as np
import numpy.typing as npt
import torch  # noqa: F401  # before the core, which finds PyTorch's libraries loaded

from timl import _core

__all__ = ["Index", "Purpose", "distinct", "dropout_mask", "normal", "permutation", "uniform"]

Index = int | np.integer | npt.NDArray[np.integer]
"""One index, or an array of them: then a whole batch is drawn in one call."""

_STEPS = 2**24
"""Number of steps that the counter can tell apart."""


class Purpose(enum.IntEnum):
    """Purpose of a draw. Every draw has its own, so that no two share a word."""

    SAMPLING = 0
    SUPPORT_DROPOUT = 1
    QUERY_DROPOUT = 2
    TASK_NOISE = 3
    ENCODER_DROPOUT = 4
    TASK_ORDER = 5
    FINE_TUNING_SAMPLES = 6
    FINE_TUNING_DROPOUT = 7
    VALIDATION_SPLIT = 8
    SIMULATION = 9
    LABEL_SUBSET = 10
    SHUFFLE = 11
    INTERFACE_SAMPLING = 12
    FOLDS = 13
    SPATIAL_BLOCKS = 14
    SPLIT_ORDER = 15
    TEST_SUBSET = 16
    POOL = 17
    PRE_TRAINING_SPLIT = 18
    PRE_TRAINING_ORDER = 19
    PRE_TRAINING_DROPOUT = 20
    KERNEL_SUBSET = 21
    SPLIT_TIES = 22
    RANDOM_SPLIT = 23
    SIGN_FLIPS = 24
    CLUSTER_RESAMPLES = 25
    KERNEL_WEIGHTS = 26
    KERNEL_POINT_WEIGHTS = 27
    KERNEL_TASK = 28
    KERNEL_UNION = 29
    KERNEL_SIDES = 30
    KERNEL_ORDER = 31
    KERNEL_AUGMENTATION = 32
    KERNEL_BLANKS = 33
    KERNEL_NOISE = 34
    KERNEL_INPUT_DROPOUT = 35
    KERNEL_HIDDEN_DROPOUT = 36
    FOREST_SEEDS = 37
    FOREST_SUBSET = 38
    REFERENCE_SAMPLE = 39
    BLOCK_FOLDS = 40
    BLOCK_RESAMPLES = 41
    CURVE_SUBSET = 42
    KERNEL_REFERENCE = 43
    ENSEMBLE_LABELS = 44
    CROP_TYPE_SUBSET = 45
    NWAY_CLASSES = 46
    NWAY_SAMPLING = 47
    NWAY_TASK_CLASSES = 48
    NWAY_LABELS = 49
    LABEL_PIXELS = 50


def _checked(name: str, value: Index, limit: int) -> npt.NDArray[np.integer]:
    """Return the index or indices as an array of integers, all of them in [0, limit)."""
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} is an array of {array.dtype}: give integers")
    if array.size and (int(array.min()) < 0 or int(array.max()) >= limit):
        raise ValueError(
            f"{name} is from {array.min()} to {array.max()}: give integers in [0, {limit})"
        )
    return array


def _words(
    count: int, seed: int, task: Index, epoch: Index, step: Index, purpose: Purpose | int
) -> npt.NDArray[np.uint32]:
    """Draw words, uint32 [*batch, count], with `batch` the shape of task, epoch and step."""
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed}: give an integer in [0, 2**64)")
    tasks, epochs, steps = np.broadcast_arrays(
        _checked("task", task, 2**32),
        _checked("epoch", epoch, 2**32),
        _checked("step", step, _STEPS),
    )
    groups = -(-count // 4)
    keys = np.empty((*tasks.shape, 3), dtype=np.uint32)
    keys[..., 0] = tasks
    keys[..., 1] = epochs
    keys[..., 2] = int(Purpose(purpose)) + 256 * steps.astype(np.int64)
    words = _core.philox_words(seed & 0xFFFFFFFF, seed >> 32, keys.reshape(-1, 3), groups)
    return words.reshape(*tasks.shape, 4 * groups)[..., :count]


def uniform(
    shape: tuple[int, ...],
    *,
    seed: int,
    task: Index = 0,
    epoch: Index = 0,
    step: Index = 0,
    purpose: Purpose | int,
) -> npt.NDArray[np.float32]:
    """Draw uniform numbers in [0, 1), multiples of 2**-24.

    Parameters
    ----------
    shape
        Shape of one draw.
    seed
        Seed in [0, 2**64).
    task, epoch, step
        Indices, or arrays of indices that broadcast to one shape `batch`. Task and epoch are in
        [0, 2**32), step in [0, 2**24).
    purpose
        Purpose of the draw.

    Returns
    -------
    float32 array of shape [*batch, *shape]
        Each entry of the batch equals the draw of its indices alone.

    Raises
    ------
    TypeError
        If an index is no integer.
    ValueError
        If the seed, an index or the purpose is out of range.
    """
    words = _words(math.prod(shape), seed, task, epoch, step, purpose)
    numbers: npt.NDArray[np.float32] = (words >> np.uint32(8)).astype(np.float32)
    numbers *= np.float32(2.0**-24)
    return numbers.reshape(*words.shape[:-1], *shape)


def normal(
    shape: tuple[int, ...],
    *,
    seed: int,
    task: Index = 0,
    epoch: Index = 0,
    step: Index = 0,
    purpose: Purpose | int,
) -> npt.NDArray[np.float32]:
    """Draw standard normal numbers by Box and Muller's transform of pairs of words.

    They are computed in float64 and rounded once. Parameters, result and errors are those of
    `uniform`.
    """
    count = math.prod(shape)
    words = _words(count + count % 2, seed, task, epoch, step, purpose)
    u = (words.astype(np.float64) + 0.5) * 2.0**-32
    radius = np.sqrt(-2.0 * np.log(u[..., 0::2]))
    angle = 2.0 * np.pi * u[..., 1::2]
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    numbers = pairs.reshape(words.shape)[..., :count].astype(np.float32)
    return numbers.reshape(*words.shape[:-1], *shape)


def dropout_mask(
    shape: tuple[int, ...],
    rate: float,
    *,
    seed: int,
    task: Index = 0,
    epoch: Index = 0,
    step: Index = 0,
    purpose: Purpose | int,
) -> npt.NDArray[np.float32]:
    """Draw a dropout mask: 0 with probability `rate` in [0, 1), else 1 / (1 - rate).

    The other parameters, the result's shape and the errors are those of `uniform`.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate is {rate}: give a number in [0, 1)")
    u = uniform(shape, seed=seed, task=task, epoch=epoch, step=step, purpose=purpose)
    mask: npt.NDArray[np.float32] = (u >= np.float32(rate)).astype(np.float32)
    mask *= np.float32(1 / (1 - rate))
    return mask


def permutation(
    n: int,
    *,
    seed: int,
    task: Index = 0,
    epoch: Index = 0,
    step: Index = 0,
    purpose: Purpose | int,
) -> npt.NDArray[np.int64]:
    """Draw a random order of 0 .. n - 1: the stable order of n words.

    The parameters and errors are those of `uniform`.

    Returns
    -------
    int64 array of shape [*batch, n]
    """
    words = _words(n, seed, task, epoch, step, purpose)
    return np.argsort(words, axis=-1, kind="stable").astype(np.int64, copy=False)


def distinct(
    sizes: npt.ArrayLike,
    count: int,
    *,
    seed: int,
    task: Index = 0,
    epoch: Index = 0,
    step: Index = 0,
    purpose: Purpose | int,
) -> npt.NDArray[np.int64]:
    """Draw `count` different numbers out of 0 .. size - 1, in random order, for each size.

    The draw is the first `count` steps of Fisher and Yates's shuffle; only the places that these
    steps touch are kept.

    Parameters
    ----------
    sizes : integers of shape [groups] or [*batch, groups]
        How many numbers each group has to draw from: at least `count`.
    count
        How many numbers to draw from each group.
    seed, task, epoch, step, purpose
        Those of `uniform`.

    Returns
    -------
    int64 array of shape [*batch, groups, count]

    Raises
    ------
    ValueError
        If a size is below `count` or above 2**32, or `sizes` has another shape.
    """
    limits = np.asarray(sizes, dtype=np.int64)
    if limits.ndim == 0 or limits.size == 0:
        raise ValueError(
            f"sizes is an array of shape {list(limits.shape)}: give shape [groups] or "
            f"[*batch, groups]"
        )
    if limits.min() < count or limits.max() > 2**32:
        raise ValueError(
            f"sizes is from {limits.min()} to {limits.max()}: give integers in [{count}, 2**32] "
            f"to draw {count} different numbers"
        )
    words = _words(limits.shape[-1] * count, seed, task, epoch, step, purpose)
    shape = (*words.shape[:-1], limits.shape[-1])
    if limits.shape not in (shape, shape[-1:]):
        raise ValueError(
            f"sizes is an array of shape {list(limits.shape)}: give shape {list(shape[-1:])} or, "
            f"for this batch, {list(shape)}"
        )
    limits = np.broadcast_to(limits, shape)
    drawn = _core.draw_distinct(limits.reshape(-1), words.reshape(-1, count))
    return drawn.reshape(*limits.shape, count)
