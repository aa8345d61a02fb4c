"""Ensembles of fine-tunings on resampled labels, whose spread tells how certain a map is."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from timl import random
from timl.data import BenchmarkTask, CropTypeTask
from timl.meta.checks import require_count
from timl.meta.finetuning import Protocol, finetune
from timl.nn import TIML, Classifier, DeepKernel, Device, StrongClassifier
from timl.random import Purpose


def finetune_ensemble(
    model: TIML | Classifier | DeepKernel | str | Path,
    benchmark: BenchmarkTask | CropTypeTask,
    members: int = 5,
    *,
    protocol: Protocol | None = None,
    seed: int = 0,
    device: Device | None = None,
) -> list[Classifier | StrongClassifier]:
    """Adapt a model to resampled labels of a task, several times.

    Each member sees as many samples of each class as there are, drawn with replacement (the
    bootstrap within classes; B. Efron, Annals of Statistics 7, 1979): the spread of its predictions
    is what other labels of the same kind and number would have changed. It does not tell the error
    where all members are wrong in the same way, for instance of a crop that no label is of.

    Parameters
    ----------
    model, benchmark, protocol, device
        As of `timl.finetune`.
    members
        Number of members, at least 2.
    seed
        Seed of the draws and of each fine-tuning.

    Raises
    ------
    ValueError
        If there are fewer than 2 members; otherwise as `timl.finetune`.
    """
    require_count("members", members, 2)
    return [
        finetune(
            model, _resampled(benchmark, seed, member), protocol=protocol, seed=seed, device=device
        )
        for member in range(members)
    ]


def _resampled(
    benchmark: BenchmarkTask | CropTypeTask, seed: int, member: int
) -> BenchmarkTask | CropTypeTask:
    """Return the task with as many labels of each class, drawn with replacement."""
    made = copy.copy(benchmark)
    if isinstance(made, CropTypeTask):
        made.positions = made.positions.copy()
        for number in range(len(made.classes)):
            of_class = made.codes == number
            made.positions[of_class] = _with_replacement(
                made.positions[of_class], seed, member, number
            )
        return made
    assert isinstance(benchmark, BenchmarkTask)
    made.positives, made.negatives = (
        _with_replacement(pool, seed, member, number)
        for number, pool in enumerate((benchmark.positives, benchmark.negatives))
    )
    return made


def _with_replacement(
    pool: NDArray[np.int64], seed: int, member: int, number: int
) -> NDArray[np.int64]:
    """Return as many of a pool as it has; number 0 is that of the positives or the first class."""
    drawn = random.uniform(
        (len(pool),), seed=seed, task=number, step=member, purpose=Purpose.ENSEMBLE_LABELS
    )
    return pool[np.minimum((drawn * len(pool)).astype(np.int64), len(pool) - 1)]
