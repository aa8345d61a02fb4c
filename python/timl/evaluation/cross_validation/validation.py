"""Cross-validation: what fine-tuning on a task's own places is worth in places between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from timl.data import BenchmarkTask, CropTypeTask
from timl.evaluation.cross_validation.crop_types import CropTypeValidation, validate_crop_types
from timl.evaluation.cross_validation.folds import BlockFolds, block_folds
from timl.evaluation.cross_validation.resampling import Interval, scores
from timl.evaluation.prediction import logits as predict_logits
from timl.evaluation.prevalence import (
    Calibration,
    at_prevalence,
    choose_threshold,
    fit_calibration,
    given_prevalence,
)
from timl.meta.finetuning import Protocol, finetune
from timl.nn import TIML, Classifier, DeepKernel, Device

if TYPE_CHECKING:
    import pandas as pd

SCORES = (
    "auc_roc",
    "f1",
    "overall_accuracy",
    "users_accuracy",
    "producers_accuracy",
    "brier",
)
"""Scores of a cross-validation."""


@dataclass(frozen=True, eq=False, repr=False)
class CrossValidation:
    """Result of `cross_validate`.

    Parameters
    ----------
    scores
        Each of `SCORES` with its interval. User's accuracy is that of the positives, also called
        precision; producer's accuracy is also called recall. All but AUC ROC and producer's
        accuracy depend on the share of positives among the points: they are those of the map only
        if the points were drawn at random. For a map's accuracy and area see `timl.area`.
    logits : float64 array of shape [n]
        Logit of each sample by a classifier that was fitted to the other folds, for a share of
        positives of 0.5: what the strong protocol adds for the labels' counts is taken off.
    folds
        Samples, their labels, blocks and folds.
    threshold
        Probability above which a sample counted as positive.
    level
        Level of the intervals.
    """

    scores: dict[str, Interval]
    logits: NDArray[np.float64]
    folds: BlockFolds
    threshold: float
    level: float

    @property
    def labels(self) -> NDArray[np.int8]:
        """Labels of the samples, 1 and 0, [n]."""
        return self.folds.labels

    def choose_threshold(self) -> float:
        """Choose a threshold by these logits: see `timl.evaluation.prevalence`."""
        return choose_threshold(self.logits, self.labels)

    def calibrate(self) -> Calibration:
        """Fit a calibration to these logits: see `timl.evaluation.prevalence`."""
        return fit_calibration(self.logits, self.labels)

    def to_frame(self) -> pd.DataFrame:
        """Return a table with a row per score and columns value, low, high."""
        import pandas as pd

        return pd.DataFrame.from_dict(
            {name: score._asdict() for name, score in self.scores.items()}, orient="index"
        ).rename_axis("score")

    def __repr__(self) -> str:
        return (
            f"CrossValidation({len(self.labels)} samples, {self.folds.count} folds of "
            f"{int(self.folds.blocks.max()) + 1} blocks of {self.folds.block_km:g} km: AUC ROC "
            f"{self.scores['auc_roc']}, F1 {self.scores['f1']})"
        )


@overload
def cross_validate(
    model: TIML | Classifier | DeepKernel,
    points: BenchmarkTask,
    *,
    folds: int = 5,
    block_km: float = 3.0,
    distance_km: float = 1.0,
    protocol: Protocol | None = None,
    steps: int | None = None,
    k: int | None = None,
    learning_rate: float | Sequence[float] | None = None,
    threshold: float = 0.5,
    level: float = 0.95,
    seed: int = 0,
    device: Device | None = None,
) -> CrossValidation: ...
@overload
def cross_validate(
    model: TIML | Classifier | DeepKernel,
    points: CropTypeTask,
    *,
    folds: int = 5,
    block_km: float = 3.0,
    distance_km: float = 1.0,
    protocol: Protocol | None = None,
    steps: int | None = None,
    k: int | None = None,
    learning_rate: float | Sequence[float] | None = None,
    threshold: float = 0.5,
    level: float = 0.95,
    seed: int = 0,
    device: Device | None = None,
) -> CropTypeValidation: ...
def cross_validate(
    model: TIML | Classifier | DeepKernel,
    points: BenchmarkTask | CropTypeTask,
    *,
    folds: int = 5,
    block_km: float = 3.0,
    distance_km: float = 1.0,
    protocol: Protocol | None = None,
    steps: int | None = None,
    k: int | None = None,
    learning_rate: float | Sequence[float] | None = None,
    threshold: float = 0.5,
    level: float = 0.95,
    seed: int = 0,
    device: Device | None = None,
) -> CrossValidation | CropTypeValidation:
    """Score fine-tuning on a task's own samples by cross-validation over blocks of the map.

    Each fold is scored by a classifier that was fine-tuned on the other folds. Scores are those of
    all folds' logits together. Intervals are percentiles of 2,000 draws of blocks with replacement:
    samples of one block do not count as independent. They tell how the scores would differ with
    test places elsewhere, not with other training places.

    Parameters
    ----------
    model
        Model to fine-tune, as of `timl.finetune`.
    points
        Task of your places, `timl.data.own_points`, or any other, of two classes or several. Its
        test samples are not used.
    folds, block_km, distance_km
        Those of `block_folds`.
    protocol, steps, k, learning_rate
        Those of `timl.finetune`.
    threshold
        Probability above which a sample counts as positive. Of several classes the most probable
        is taken.
    level
        Level of the intervals.
    seed
        Seed of folds, fine-tuning and bootstrap.
    device
        Device that classifiers are adapted and scored on, as of `timl.finetune`. None: the model's.

    Returns
    -------
    CrossValidation or CropTypeValidation
        The latter of a `CropTypeTask`.

    Raises
    ------
    ValueError
        If an argument is out of range, the samples cannot be divided, or there is no such device.

    Warns
    -----
    UserWarning
        If the samples lie too close together for blocks of that size, or in few blocks.
    """
    if not 0 < threshold < 1 or not 0 < level < 1:
        raise ValueError(
            f"threshold is {threshold}, level is {level}: give probabilities between 0 and 1"
        )
    divided = block_folds(points, folds, block_km=block_km, distance_km=distance_km, seed=seed)
    options: dict[str, Any] = {
        "protocol": protocol,
        "steps": steps,
        "k": k,
        "learning_rate": learning_rate,
        "device": device,
    }
    outputs = [len(points.classes)] if isinstance(points, CropTypeTask) else []
    logits = np.empty((len(divided.labels), *outputs))
    for fold in range(divided.count):
        logits[divided.folds == fold] = fold_logits(
            model, divided, fold, divided.trained(fold), seed, options
        )
    if isinstance(points, CropTypeTask):
        return validate_crop_types(points, logits, divided, level=level, seed=seed)
    found = scores(
        logits,
        divided.labels == 1,
        divided.blocks,
        threshold=threshold,
        level=level,
        seed=seed,
    )
    return CrossValidation(found, logits, divided, threshold, level)


def fold_logits(
    model: TIML | Classifier | DeepKernel,
    divided: BlockFolds,
    fold: int,
    trained: NDArray[np.bool_],
    seed: int,
    options: dict[str, Any],
) -> NDArray[np.float64]:
    """Return the logits of a fold's samples after fine-tuning on some others, [n] or [n, K]."""
    classifier = finetune(model, divided.training(trained), seed=seed, **options)
    benchmark = divided.benchmark
    x = benchmark.data.series(
        divided.positions[divided.folds == fold], normalize=benchmark.normalize
    )
    if isinstance(benchmark, CropTypeTask):
        return predict_logits(classifier, x)
    return at_prevalence(predict_logits(classifier, x), 0.5, given=given_prevalence(classifier))
