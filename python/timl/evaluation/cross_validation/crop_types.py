"""Cross-validation of several classes: scores of out-of-fold logits, with intervals over blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from timl.data import CropTypeTask
from timl.evaluation.class_scores import TITLES, ClassScores, class_scores, measures
from timl.evaluation.cross_validation.folds import BlockFolds
from timl.evaluation.cross_validation.resampling import Interval, block_weights
from timl.evaluation.prevalence import Calibration, fit_calibration
from timl.text import markdown_cell

if TYPE_CHECKING:
    import pandas as pd

CROP_TYPE_SCORES = ("overall_accuracy", "balanced_accuracy", "mean_iou", "macro_f1")
"""Scores over all classes of a cross-validation."""


@dataclass(frozen=True, eq=False, repr=False)
class CropTypeValidation:
    """Result of `cross_validate` with several classes.

    Parameters
    ----------
    scores
        Each of `CROP_TYPE_SCORES` with its interval; those of means are of the draws in which all
        classes occur. All but the balanced accuracy depend on the
        shares of the classes among the points: they are those of the map only if the points were
        drawn at random. For a map's accuracy and area see `timl.area`.
    of_classes
        For each class its iou, recall, precision and f1 with their intervals.
    logits : float64 array of shape [n, K]
        Logits of each sample by a classifier that was fitted to the other folds, for classes that
        are equally frequent.
    folds
        Samples, their labels, blocks and folds.
    class_scores
        Scores and confusion matrix of all samples together.
    level
        Level of the intervals.
    """

    scores: dict[str, Interval]
    of_classes: dict[str, dict[str, Interval]]
    logits: NDArray[np.float64]
    folds: BlockFolds
    class_scores: ClassScores
    level: float

    @property
    def labels(self) -> NDArray[np.int8]:
        """Classes of the samples, 0 to K - 1, [n]."""
        return self.folds.labels

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Class that each sample was taken for, [n]."""
        return np.asarray(self.logits.argmax(axis=1))

    def calibrate(self) -> Calibration:
        """Fit a calibration to these logits: see `timl.evaluation.prevalence`."""
        return fit_calibration(self.logits, self.labels)

    def to_frame(self) -> pd.DataFrame:
        """Return a table with a row per class and score, and columns value, low, high.

        The scores over all classes come last, of the class "all".
        """
        import pandas as pd

        rows = [
            (label, score, *interval)
            for label, of in (*self.of_classes.items(), ("all", self.scores))
            for score, interval in of.items()
        ]
        columns = ["class", "score", "value", "low", "high"]
        return pd.DataFrame(rows, columns=columns).set_index(["class", "score"])

    def to_markdown(self) -> str:
        """Return the table of IoU and accuracy per class, with intervals, in Markdown."""
        lines = [
            f"| class | {' | '.join(TITLES.values())} | samples |",
            f"|---|{'---:|' * (len(TITLES) + 1)}",
        ]
        for (label, of), size in zip(
            self.of_classes.items(), self.class_scores.support, strict=True
        ):
            lines.append(
                f"| {markdown_cell(label)} | {' | '.join(map(str, of.values()))} | {size} |"
            )
        return "\n".join([*lines, "", f"All classes: {self._overall()}."]) + "\n"

    def __repr__(self) -> str:
        return f"CropTypeValidation({len(self.of_classes)} classes: {self._overall()})"

    def _repr_html_(self) -> str:
        return f"<p>{self._overall()}</p>{self.to_frame().to_html(float_format='{:.3f}'.format)}"

    def _overall(self) -> str:
        return (
            f"overall accuracy {self.scores['overall_accuracy']}, mean IoU "
            f"{self.scores['mean_iou']} on {len(self.labels)} samples, {self.folds.count} folds of "
            f"{int(self.folds.blocks.max()) + 1} blocks of {self.folds.block_km:g} km"
        )


def weighted_measures(
    logits: NDArray[np.float64], labels: NDArray[np.int8], weights: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Return `measures` of logits under each row of weights.

    Parameters
    ----------
    logits : float64 array of shape [n, K]
        Logits of samples.
    labels : int8 array of shape [n]
        Their classes.
    weights : float64 array of shape [rows, n]
        How often each counts.

    Returns
    -------
    dict
        Scores, [rows, K] of the classes and [rows] over them; means over classes are NaN in the
        rows in which a class has no samples.
    """
    numbers = np.arange(logits.shape[1])
    of = labels[:, None] == numbers
    taken = logits.argmax(axis=1)[:, None] == numbers
    right, are, called = (weights @ side.astype(np.float64) for side in (of & taken, of, taken))
    found = measures(right, are, called)
    complete = (are > 0).all(axis=1)
    for score in ("balanced_accuracy", "mean_iou", "macro_f1"):
        found[score] = np.where(complete, found[score], np.nan)  # else a mean of other classes
    return found


def validate_crop_types(
    task: CropTypeTask,
    logits: NDArray[np.float64],
    divided: BlockFolds,
    *,
    level: float,
    seed: int,
) -> CropTypeValidation:
    """Score the logits of all folds, with percentile intervals over draws of blocks.

    Parameters
    ----------
    task
        Task of the samples.
    logits : float64 array of shape [n, K]
        Logits of each sample by a classifier that was not fitted to its fold.
    divided
        The folds.
    level, seed
        Those of `cross_validate`.
    """
    drawn = [
        weighted_measures(logits, divided.labels, weights)
        for weights in block_weights(divided.blocks, seed)
    ]
    whole = weighted_measures(logits, divided.labels, np.ones((1, len(logits))))
    value = {score: values[0] for score, values in whole.items()}

    def interval(score: str, number: int | None = None) -> Interval:
        """Return a score of a class, or of all, with its percentiles."""
        values = np.concatenate([part[score] for part in drawn])
        if number is not None:
            values = values[:, number]
        values = values[np.isfinite(values)]
        tails = [(1 - level) / 2, (1 + level) / 2]
        low, high = np.quantile(values, tails) if len(values) else (math.nan, math.nan)
        found = value[score] if number is None else value[score][number]
        return Interval(float(found), float(low), float(high))

    return CropTypeValidation(
        {score: interval(score) for score in CROP_TYPE_SCORES},
        {
            label: {score: interval(score, number) for score in TITLES}
            for number, label in enumerate(task.classes)
        },
        logits,
        divided,
        class_scores(
            divided.labels,
            logits.argmax(axis=1),
            task.classes,
            classification_labels=task.classification_labels,
        ),
        level,
    )
