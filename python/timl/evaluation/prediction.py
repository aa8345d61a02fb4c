"""A classifier's probabilities and logits for many series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from timl.arrays import real_numbers
from timl.evaluation.prevalence import logit_line
from timl.nn import Classifier, StrongClassifier


def probabilities(
    classifier: Classifier | StrongClassifier,
    x: ArrayLike,
    *,
    prevalence: float | Mapping[Any, float] | None = None,
    classes: Sequence[Any] | None = None,
) -> NDArray[np.float64]:
    """Return the probability of the positive class, or of each class, in evaluation mode.

    The classifier's mode is as before afterwards.

    Parameters
    ----------
    classifier : Classifier or StrongClassifier
        An adapted classifier, for instance of `timl.finetune`.
    x : array, shape [n, T, F]
        Normalised series; converted to the classifier's type and moved to its device.
    prevalence, classes
        Share of the positive class, or of each class by its name, that the probabilities are stated
        for: see `timl.evaluation.prevalence.logit_line`. By default they are as the classifier
        gives them.

    Returns
    -------
    ndarray of float64, shape [n], or [n, K] of a classifier of K classes

    Raises
    ------
    ValueError
        If `x` has another shape, is empty, or holds infinite values, or NaN where the classifier
        does not complete it; or if the prevalence is not of its classes.
    """
    found = _logits(classifier, x)
    if prevalence is not None:
        line = logit_line(classifier, prevalence, classes=classes)
        found = torch.from_numpy(line.apply(found.numpy()))
    if found.dim() == 2:
        return torch.softmax(found, dim=1).numpy()
    return torch.sigmoid(found).numpy()


def logits(classifier: Classifier | StrongClassifier, x: ArrayLike) -> NDArray[np.float64]:
    """Return the logit of the positive class, or of each class; otherwise as `probabilities`."""
    return _logits(classifier, x).numpy()


def _logits(classifier: Classifier | StrongClassifier, x: ArrayLike) -> Tensor:
    """Return the logits, float64 [n] or [n, K], on the CPU."""
    like = next(classifier.parameters())
    series = torch.as_tensor(real_numbers(x, "x"), dtype=like.dtype)
    if series.ndim != 3 or len(series) == 0:
        raise ValueError(
            f"x has shape {list(series.shape)}: give [n, {classifier.steps}, {classifier.bands}] "
            f"with n at least 1"
        )
    training = classifier.training
    classifier.eval()
    try:
        with torch.no_grad():
            found = classifier(series.to(like.device))
    finally:
        classifier.train(training)
    return torch.as_tensor(found).double().cpu()
