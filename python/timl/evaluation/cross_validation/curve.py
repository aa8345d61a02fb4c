"""Learning curves: scores against numbers of labels, and what more labels are likely to bring."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from timl import random
from timl.data import BenchmarkTask, CropTypeTask
from timl.evaluation.cross_validation.crop_types import weighted_measures
from timl.evaluation.cross_validation.folds import BlockFolds, block_folds
from timl.evaluation.cross_validation.resampling import Interval, block_weights, weighted_auc
from timl.evaluation.cross_validation.validation import fold_logits
from timl.meta.finetuning import Protocol
from timl.nn import TIML, Classifier, DeepKernel, Device
from timl.random import Purpose

if TYPE_CHECKING:
    import pandas as pd

_SHARES = (0.15, 0.25, 0.4, 0.65, 1.0)
"""Shares of the training samples at which a curve is measured where no numbers are given."""
_FARTHEST = 2.0
"""Times the number of labels up to which a curve is extrapolated."""
_LEAST = 2
"""Labels of each class, where there are as many, in each draw of a curve."""
CURVE_TITLES = {"auc_roc": "AUC ROC", "macro_f1": "macro F1"}
"""Scores of a learning curve, and what texts call them."""


@dataclass(frozen=True, eq=False, repr=False)
class LearningCurve:
    """Result of `learning_curve`.

    Parameters
    ----------
    labels
        Numbers of labels trained on, ascending: means over folds.
    values
        The score at each, a mean over draws, with its interval over blocks.
    resampled : float64 array of shape [resamples, points]
        The score under each draw of blocks.
    level
        Level of the intervals.
    score
        Which score it is: "auc_roc", or of several classes "macro_f1", the mean of their F1.
    """

    labels: tuple[float, ...]
    values: tuple[Interval, ...]
    resampled: NDArray[np.float64]
    level: float
    score: str = "auc_roc"

    @property
    def title(self) -> str:
        """What texts call the score."""
        return CURVE_TITLES[self.score]

    def after(self, more: float) -> Interval:
        """Extrapolate to so many labels more than the last, at most as many again.

        A straight line of log(1 - score) over log(labels), fitted by least squares to all points of
        the curve but passing through the last: 1 - score falls as a power of the number of labels.
        Its interval has the lines of all draws of blocks. It is wide for good reasons, and
        does not tell what labels of another kind or place would bring.

        Raises
        ------
        ValueError
            If ``more`` is out of range.
        """
        last = self.labels[-1]
        if not 0 <= more <= (_FARTHEST - 1) * last:
            raise ValueError(
                f"more is {more}: give 0 to {(_FARTHEST - 1) * last:.0f}, no more than there are"
            )
        measured = np.array([[score.value for score in self.values]])
        factor = 1 + more / last
        value = float(self._extrapolated(measured, factor)[0])
        usable = self.resampled[np.isfinite(self.resampled).all(axis=1)]
        if not len(usable):
            return Interval(value, math.nan, math.nan)
        tails = [(1 - self.level) / 2, (1 + self.level) / 2]
        low, high = np.quantile(self._extrapolated(usable, factor), tails)
        return Interval(value, float(low), float(high))

    def gain(self, more: float) -> Interval:
        """Return how much `after` is above the last point of the curve, with its interval."""
        after = self.after(more)
        usable = self.resampled[np.isfinite(self.resampled).all(axis=1)]
        if not len(usable):
            return Interval(after.value - self.values[-1].value, math.nan, math.nan)
        differences = self._extrapolated(usable, 1 + more / self.labels[-1]) - usable[:, -1]
        low, high = np.quantile(differences, [(1 - self.level) / 2, (1 + self.level) / 2])
        return Interval(after.value - self.values[-1].value, float(low), float(high))

    def hint(self) -> str:
        """Say in words what as many labels again are likely to bring."""
        last, more = self.values[-1], int((_FARTHEST - 1) * self.labels[-1])
        gain = self.gain(more)
        start = (
            f"With about {self.labels[-1]:.0f} labels {self.title} is {last.value:.3f}. About "
            f"{more} more points"
        )
        if gain.low > 0:
            return (
                f"{start} would bring about {gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f} "
                f"at {100 * self.level:g} %), if they are like these. The curve is measured on the "
                f"same points, so that this is a hint and no promise."
            )
        return (
            f"{start} may bring something or nothing: {gain.value:+.3f} ({gain.low:+.3f} to "
            f"{gain.high:+.3f} at {100 * self.level:g} %). The curve does not tell more points of "
            f"the same kind from none; points in other places may still help."
        )

    def to_frame(self) -> pd.DataFrame:
        """Return a table with a row per number of labels: labels, the score's name, low, high."""
        import pandas as pd

        return pd.DataFrame(
            [(n, *score) for n, score in zip(self.labels, self.values, strict=True)],
            columns=["labels", self.score, "low", "high"],
        )

    def __repr__(self) -> str:
        points = ", ".join(
            f"{n:.0f}: {score.value:.3f}" for n, score in zip(self.labels, self.values, strict=True)
        )
        return f"LearningCurve({self.title} by labels {points})"

    def _extrapolated(self, values: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
        """Return the score at so many times the last number of labels, for each of [curves, m]."""
        error = np.log(np.maximum(1 - values, 1e-4))
        x = np.log(np.array(self.labels) / self.labels[-1])
        power = (error - error[:, -1:]) @ x / max(float(x @ x), 1e-12)
        return np.asarray(1 - np.exp(error[:, -1] + np.minimum(power, 0) * math.log(factor)))


def learning_curve(
    model: TIML | Classifier | DeepKernel,
    points: BenchmarkTask | CropTypeTask,
    sizes: Sequence[int] | None = None,
    *,
    draws: int = 3,
    folds: int = 5,
    block_km: float = 3.0,
    distance_km: float = 1.0,
    protocol: Protocol | None = None,
    steps: int | None = None,
    k: int | None = None,
    learning_rate: float | Sequence[float] | None = None,
    level: float = 0.95,
    seed: int = 0,
    device: Device | None = None,
) -> LearningCurve:
    """Measure a score against the number of labels, by cross-validation over blocks.

    The score is AUC ROC, of several classes macro F1. Each fold is scored by classifiers fine-tuned
    on 15, 25, 40, 65 and 100 % of the samples of the other folds, drawn with the shares of the
    classes that they have, but 2 of each class at least; smaller draws are part of larger.

    Parameters
    ----------
    model, points, folds, block_km, distance_km, protocol, steps, k, learning_rate, level
        Those of `cross_validate`.
    sizes
        Numbers of labels, at least 2 for each class, instead of those shares. All there are in the
        other folds always come last.
    draws
        Draws of each smaller number of labels, which are averaged.
    seed, device
        Those of `cross_validate`.

    Raises
    ------
    ValueError
        As of `cross_validate`; or if a size is out of range.

    Warns
    -----
    UserWarning
        As of `cross_validate`.
    """
    if draws < 1 or not 0 < level < 1:
        raise ValueError(f"draws is {draws}, level is {level}: give at least 1 and a probability")
    divided = block_folds(points, folds, block_km=block_km, distance_km=distance_km, seed=seed)
    options: dict[str, Any] = {
        "protocol": protocol,
        "steps": steps,
        "k": k,
        "learning_rate": learning_rate,
        "device": device,
    }
    trained = [divided.trained(fold) for fold in range(divided.count)]
    every = [int(samples.sum()) for samples in trained]
    wanted = _sizes(sizes, every, divided)
    outputs = [len(points.classes)] if isinstance(points, CropTypeTask) else []
    numbers, logits = [], []  # of each point of the curve
    for size in wanted:
        repeats = 1 if size is None else draws
        at_size, found = [], np.empty((repeats, len(divided.labels), *outputs))
        for draw in range(repeats):
            for fold in range(divided.count):
                chosen = trained[fold]
                if size is not None:
                    chosen = _drawn(divided, chosen, size, fold, draw, seed)
                at_size.append(int(chosen.sum()))
                with warnings.catch_warnings():
                    # few labels are meant here
                    warnings.simplefilter("ignore", UserWarning)
                    found[draw, divided.folds == fold] = fold_logits(
                        model, divided, fold, chosen, seed, options
                    )
        numbers.append(float(np.mean(at_size)))
        logits.append(found)
    return _curve(numbers, logits, divided, level, seed)


def _sizes(sizes: Sequence[int] | None, every: list[int], divided: BlockFolds) -> list[int | None]:
    """Return the numbers of labels to draw; None, all, comes last."""
    least, fewest = min(every), _LEAST * len(np.unique(divided.labels))
    if sizes is None:
        shares = [round(share * least) for share in _SHARES[:-1]]
        return [*(size for size in dict.fromkeys(shares) if fewest <= size < least), None]
    chosen = sorted(set(sizes))
    if not chosen or chosen[0] < fewest or chosen[-1] >= max(every):
        raise ValueError(
            f"sizes is {list(sizes)}: give numbers from {fewest} to {max(every) - 1}, of the "
            f"{least} to {max(every)} samples that {divided.count - 1} of {divided.count} folds "
            f"have"
        )
    return [*(size for size in chosen if size < least), None]


def _drawn(
    divided: BlockFolds,
    among: NDArray[np.bool_],
    size: int,
    fold: int,
    draw: int,
    seed: int,
) -> NDArray[np.bool_]:
    """Draw samples with the shares of the classes that all have, 2 of each at least, [n]."""
    classes = np.unique(divided.labels)
    if not isinstance(divided.benchmark, CropTypeTask):
        classes = classes[::-1]  # positives first, as in all draws of two classes
    rows = [np.flatnonzero(among & (divided.labels == label)) for label in classes]
    counts = _shared([len(members) for members in rows], size)
    chosen = np.zeros(len(among), bool)
    for number, (members, count) in enumerate(zip(rows, counts, strict=True)):
        order = random.permutation(
            len(members),
            seed=seed,
            task=number,
            epoch=fold,
            step=draw,
            purpose=Purpose.CURVE_SUBSET,
        )
        chosen[members[order[:count]]] = True
    return chosen


def _shared(sizes: Sequence[int], total: int) -> list[int]:
    """Divide a total among classes by their sizes: the largest remainders round up.

    Each has 2 at least, or all that it has, so that the total may be exceeded by little.
    """
    each = np.array(sizes, np.float64)
    exact = total * each / each.sum()
    floor = np.minimum(each, _LEAST)
    counts = np.maximum(np.floor(exact), floor)
    for number in np.argsort(np.floor(exact) - exact, kind="stable"):
        if counts.sum() < total and counts[number] < exact[number]:
            counts[number] += 1
    while counts.sum() > total and (counts > floor).any():
        counts[np.argmax(np.where(counts > floor, counts - exact, -np.inf))] -= 1
    return [int(count) for count in counts]


def _curve(
    numbers: list[float],
    logits: list[NDArray[np.float64]],
    divided: BlockFolds,
    level: float,
    seed: int,
) -> LearningCurve:
    """Score the logits of each point of the curve, and under the same draws of blocks."""
    several = isinstance(divided.benchmark, CropTypeTask)

    def scored(logits: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the score of one draw's logits under each row of weights, [rows]."""
        if several:
            return weighted_measures(logits, divided.labels, weights)["macro_f1"]
        return weighted_auc(logits, divided.labels == 1, weights)

    def scores(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the score under each row of weights at each point, [rows, points]."""
        return np.stack(
            [np.mean([scored(one, weights) for one in of], axis=0) for of in logits], axis=1
        )

    values = scores(np.ones((1, len(divided.labels))))[0]
    resampled = np.concatenate([scores(w) for w in block_weights(divided.blocks, seed)])
    usable = resampled[np.isfinite(resampled).all(axis=1)]  # draws in which every class occurs
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = (
        np.quantile(usable, tails, axis=0) if len(usable) else np.full((2, len(values)), np.nan)
    )
    intervals = [Interval(*map(float, row)) for row in zip(values, low, high, strict=True)]
    score = "macro_f1" if several else "auc_roc"
    return LearningCurve(tuple(numbers), tuple(intervals), resampled, level, score)
