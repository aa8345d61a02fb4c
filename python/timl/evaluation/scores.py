"""Scores of predictions on a test set, from the order, the values and the decisions."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from timl.data import BenchmarkTask, CropTypeTask, TestInstance
from timl.evaluation.class_scores import ClassScores, class_scores
from timl.nn import Classifier, Device, StrongClassifier, on_device
from timl.normalization import normalization_of

TestSet: TypeAlias = BenchmarkTask | TestInstance
Reliability: TypeAlias = tuple[tuple[int, int, float], ...]
"""For each of ten equal bins of probability: samples, positives, sum of the probabilities."""

_BINS = 10
_THRESHOLD = 0.5
_UNLABELLED = -1


@dataclass(frozen=True)
class Scores:
    """Scores of one test set; where decisions count, a probability above 0.5 is positive.

    Parameters
    ----------
    auc_roc
        Area under the receiver operating characteristic: the share of pairs of a positive and a
        negative that are in the right order, ties counting half.
    f1 : float
        Harmonic mean of precision and recall of the positives.
    iou
        Intersection over union of predicted and true positives, as in CropHarvest's benchmark.
    samples
        Labelled samples that were scored.
    average_precision
        Precision at each positive in the order of the predictions, averaged: the area under the
        curve of precision and recall as a step function.
    accuracy
        Share of right decisions.
    brier
        Brier score, the mean squared difference of probability and label; less is better.
    true_positives, false_positives, true_negatives, false_negatives
        The confusion matrix.
    """

    auc_roc: float
    f1: float
    iou: float
    samples: int
    average_precision: float
    accuracy: float
    brier: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    def _repr_html_(self) -> str:
        import pandas as pd

        return str(pd.DataFrame([vars(self)]).to_html(index=False, float_format="{:.3f}".format))


@overload
def evaluate(
    predictor: Classifier | StrongClassifier | ArrayLike,
    test: CropTypeTask,
    *,
    device: Device | None = None,
) -> ClassScores: ...
@overload
def evaluate(
    predictor: Classifier | StrongClassifier | ArrayLike,
    test: TestSet,
    *,
    device: Device | None = None,
) -> Scores: ...
def evaluate(
    predictor: Classifier | StrongClassifier | ArrayLike,
    test: TestSet | CropTypeTask,
    *,
    device: Device | None = None,
) -> Scores | ClassScores:
    """Score a classifier, or its predictions, on a test set; samples without a label are ignored.

    Parameters
    ----------
    predictor : Classifier, StrongClassifier or array, shape [n]
        An adapted classifier, used in evaluation mode; or the probability of the positive class
        of each sample of the test set, those without a label included. [n, K] of a crop-type task:
        the probability of each class, of which the greatest is taken.
    test : BenchmarkTask, TestInstance or CropTypeTask
        A task stands for its test set.
    device
        Device that the classifier computes on, such as "cuda"; it stays where it is. None: there.

    Returns
    -------
    Scores or ClassScores
        The latter of a crop-type task.

    Raises
    ------
    TypeError
        If an argument is of another kind.
    ValueError
        If predictions are NaN, outside [0, 1] or not one a sample, if the labelled samples are not
        of both classes, if the classifier is of other classes than a crop-type task, or if there
        is no such device or nothing to compute on it.

    Warns
    -----
    UserWarning
        If the classifier was trained on series that were prepared otherwise than the benchmark's.
    """
    if isinstance(predictor, Classifier | StrongClassifier):
        predictor = on_device(predictor, device)
    elif device is not None:
        raise ValueError(
            f"device is {device!r} for a {type(predictor).__name__} of predictions: leave it out"
        )
    if isinstance(test, CropTypeTask):
        return _evaluate_classes(predictor, test)
    return evaluate_with_reliability(predictor, test)[0]


def evaluate_with_reliability(
    predictor: Classifier | StrongClassifier | ArrayLike, test: TestSet
) -> tuple[Scores, Reliability]:
    """Score as `evaluate` does, and count for the calibration curve."""
    instance = test
    if isinstance(test, BenchmarkTask):
        instance = test.test
        if isinstance(predictor, Classifier | StrongClassifier):
            _warn_of_other_inputs(predictor, test)
    if not isinstance(instance, TestInstance):
        raise TypeError(f"test is a {type(test).__name__}: give a BenchmarkTask or a TestInstance")
    if len(instance) and instance.y.max() > 1:
        raise ValueError(
            f"test has labels from 0 to {instance.y.max()}: give the CropTypeTask itself, which "
            f"tells its classes"
        )
    labelled = instance.y != _UNLABELLED
    y = instance.y[labelled]
    positives = int((y == 1).sum())
    if not 0 < positives < len(y):
        raise ValueError(
            f"test has {positives} positives and {len(y) - positives} negatives among its "
            f"{len(instance)} samples: give both classes, which AUC ROC needs"
        )
    probability = _predictions(predictor, instance)[labelled]
    return _scores(y, probability), _reliability(y, probability)


def _evaluate_classes(
    predictor: Classifier | StrongClassifier | ArrayLike, task: CropTypeTask
) -> ClassScores:
    """Score on the test set of a task of several classes."""
    test, classes = task.test, task.classes
    if isinstance(predictor, Classifier | StrongClassifier):
        _warn_of_other_inputs(predictor, task)
        known = predictor.classes if isinstance(predictor, StrongClassifier) else classes
        if known != classes:
            told = "two classes" if known is None else ", ".join(known)
            raise ValueError(
                f"predictor is of {told}, task {task.name!r} of {', '.join(classes)}: give a "
                f"classifier that was fine-tuned on this task"
            )
    probability = _predictions(predictor, test, len(classes))
    return class_scores(
        test.y,
        probability.argmax(axis=1),
        classes,
        classification_labels=task.classification_labels,
    )


def _warn_of_other_inputs(
    classifier: Classifier | StrongClassifier, benchmark: BenchmarkTask | CropTypeTask
) -> None:
    trained = classifier.normalization
    if trained is None:
        return
    given = normalization_of(benchmark.data, benchmark.normalize)
    if trained["ndvi"] != given["ndvi"] or not all(
        np.array_equal(*pair)
        for pair in ((trained["mean"], given["mean"]), (trained["std"], given["std"]))
    ):
        warnings.warn(
            f"the classifier was trained on series with other normalising statistics or another "
            f"NDVI ({trained['ndvi']}) than those of benchmark {benchmark.name!r} "
            f"({given['ndvi']}): fine-tune it on them first",
            stacklevel=4,
        )


def _predictions(
    predictor: Classifier | StrongClassifier | ArrayLike,
    test: TestInstance,
    classes: int | None = None,
) -> NDArray[np.float64]:
    """Return checked probabilities, float64 [n], or [n, classes]."""
    from timl.evaluation.prediction import probabilities

    if isinstance(predictor, Classifier | StrongClassifier):
        predictions = probabilities(predictor, test.x)
    elif callable(predictor):
        raise TypeError(
            f"predictor is a {type(predictor).__name__}: give a Classifier or an array; of a TIML "
            f"model model.for_task(benchmark.info)"
        )
    else:
        predictions = np.asarray(predictor, np.float64)
    wanted = [len(test)] if classes is None else [len(test), classes]
    if list(predictions.shape) != wanted:
        raise ValueError(
            f"predictions have shape {list(predictions.shape)}: give shape {wanted}, one for "
            f"each sample of the test set{'' if classes is None else ' and class'}"
        )
    wrong = ~((predictions >= 0) & (predictions <= 1))
    if wrong.any():
        raise ValueError(
            f"of {len(predictions)} predictions {int(np.isnan(predictions).sum())} are NaN and "
            f"{int((wrong & ~np.isnan(predictions)).sum())} out of range: give probabilities in "
            f"[0, 1]"
        )
    return predictions


def _scores(y: NDArray[np.int8], probability: NDArray[np.float64]) -> Scores:
    from sklearn.metrics import (
        average_precision_score,
        brier_score_loss,
        confusion_matrix,
        f1_score,
        jaccard_score,
        roc_auc_score,
    )

    predicted = (probability > _THRESHOLD).astype(np.int8)
    (true_negatives, false_positives), (false_negatives, true_positives) = confusion_matrix(
        y, predicted
    ).tolist()
    return Scores(
        auc_roc=float(roc_auc_score(y, probability)),
        f1=float(f1_score(y, predicted)),
        iou=float(jaccard_score(y, predicted)),
        samples=len(y),
        average_precision=float(average_precision_score(y, probability)),
        accuracy=(true_positives + true_negatives) / len(y),
        brier=float(brier_score_loss(y, probability)),
        true_positives=true_positives,
        false_positives=false_positives,
        true_negatives=true_negatives,
        false_negatives=false_negatives,
    )


def _reliability(y: NDArray[np.int8], probability: NDArray[np.float64]) -> Reliability:
    """Count in bins [i / 10, (i + 1) / 10), the last one closed."""
    bins = np.minimum((probability * _BINS).astype(np.int64), _BINS - 1)
    samples = np.bincount(bins, minlength=_BINS).tolist()
    positives = np.bincount(bins[y == 1], minlength=_BINS).tolist()
    sums = np.bincount(bins, weights=probability, minlength=_BINS).round(6).tolist()
    return tuple(zip(samples, positives, sums, strict=True))
