"""Random Forest and logistic regression on the numbers of a series in a row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Baseline:
    """A scikit-learn classifier that takes series, [n, T, F], and tells the positives apart.

    Parameters
    ----------
    estimator
        A scikit-learn classifier with `predict_proba`, not yet fitted.
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(self, x: ArrayLike, y: ArrayLike) -> Baseline:
        """Train on labelled series.

        Parameters
        ----------
        x : array, shape [n, T, F]
            Normalised series.
        y : array, shape [n]
            Labels, 0 and 1; both occur.

        Raises
        ------
        ValueError
            If shapes or labels are wrong.
        """
        rows, labels = _rows(x), np.asarray(y)
        if labels.shape != (len(rows),) or set(np.unique(labels).tolist()) != {0, 1}:
            raise ValueError(
                f"y must have shape [{len(rows)}] and hold both labels, 0 and 1, but has "
                f"{list(labels.shape)} with labels {np.unique(labels).tolist()[:5]}"
            )
        self.estimator.fit(rows, labels)
        return self

    def predict_proba(self, x: ArrayLike) -> NDArray[np.float64]:
        """Give the probability of the positive class, float64 [n], for series [n, T, F]."""
        probability: NDArray[np.float64] = self.estimator.predict_proba(_rows(x))[:, 1]
        return probability


def random_forest(seed: int = 0) -> Baseline:
    """Make a Random Forest with scikit-learn's defaults, the paper's baseline (section 5).

    Parameters
    ----------
    seed : int
        Fixes the trees.
    """
    from sklearn.ensemble import RandomForestClassifier

    return Baseline(RandomForestClassifier(random_state=seed))


def logistic_regression() -> Baseline:
    """Make a logistic regression with scikit-learn's penalty; its result has no randomness.

    The series are taken as they come, normalised by the data set's statistics: standardising them
    again within a task loses accuracy on the real tasks.
    """
    from sklearn.linear_model import LogisticRegression

    return Baseline(LogisticRegression(max_iter=10_000))


def _rows(x: ArrayLike) -> NDArray[Any]:
    series = np.asarray(x)
    if series.ndim != 3 or 0 in series.shape:
        raise ValueError(f"x must have shape [n, T, F], none of them 0, but has {[*series.shape]}")
    return series.reshape(len(series), -1)
