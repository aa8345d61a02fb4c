"""Simple classifiers on the numbers of a series in a row."""

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


def cross_validated_logistic_regression() -> Baseline:
    """Make a logistic regression whose penalty is chosen on the labels at hand, by their loss.

    Three to five folds; scikit-learn's penalty where a class has fewer than 3 labels. Its result
    has no randomness.
    """
    return Baseline(CrossValidatedLogisticRegression())


def gradient_boosting(seed: int = 0) -> Baseline:
    """Make a gradient boosting of small trees that splits also where there are ten labels.

    Parameters
    ----------
    seed : int
        Fixes which of the numbers each split may choose from.
    """
    return Baseline(GradientBoosting(seed))


def nearest_class_mean() -> Baseline:
    """Make a classifier by the nearer of the two classes' means; its result has no randomness."""
    return Baseline(NearestClassMean())


class CrossValidatedLogisticRegression:
    """Logistic regression with C of 1e-4 to 10; rows [n, F], labels 0 and 1 [n]."""

    def fit(
        self, x: NDArray[Any], y: NDArray[Any], sample_weight: NDArray[Any] | None = None
    ) -> CrossValidatedLogisticRegression:
        """Choose C, then fit to all rows; weights count in the fits."""
        weight = np.ones(len(y)) if sample_weight is None else sample_weight
        strength = self._choice(x, y, weight) if np.bincount(y).min() >= 3 else 1.0
        self._fitted = _penalised(strength).fit(x, y, weight)
        return self

    def predict_proba(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Give the probability of each class, [n, 2]."""
        probability: NDArray[np.float64] = self._fitted.predict_proba(x)
        return probability

    def _choice(self, x: NDArray[Any], y: NDArray[Any], weight: NDArray[Any]) -> float:
        from sklearn.metrics import log_loss
        from sklearn.model_selection import StratifiedKFold

        folds = StratifiedKFold(min(5, int(np.bincount(y).min())) if len(y) <= 200 else 3)
        losses = []
        for strength in (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0):
            loss = 0.0
            for train, test in folds.split(x, y):
                fitted = _penalised(strength).fit(x[train], y[train], weight[train])
                loss += len(test) * log_loss(y[test], fitted.predict_proba(x[test])[:, 1])
            losses.append((loss, strength))
        return min(losses)[1]


class GradientBoosting:
    """Histogram gradient boosting, its leaves at least a tenth of the rows, 20 at most."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(
        self, x: NDArray[Any], y: NDArray[Any], sample_weight: NDArray[Any] | None = None
    ) -> GradientBoosting:
        """Fit to rows [n, F] and labels 0 and 1 [n]."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        self._fitted = HistGradientBoostingClassifier(
            max_iter=60,
            max_leaf_nodes=8,
            min_samples_leaf=int(np.clip(len(y) // 10, 1, 20)),
            max_bins=63,
            max_features=0.3,
            l2_regularization=0.1,
            early_stopping=False,
            random_state=self.seed,
        ).fit(x, y, sample_weight)
        return self

    def predict_proba(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Give the probability of each class, [n, 2]."""
        probability: NDArray[np.float64] = self._fitted.predict_proba(x)
        return probability


class NearestClassMean:
    """The nearer mean, with the probability of two equal normal clouds along their axis."""

    def fit(
        self, x: NDArray[Any], y: NDArray[Any], sample_weight: NDArray[Any] | None = None
    ) -> NearestClassMean:
        """Fit to rows [n, F] and labels 0 and 1 [n]."""
        weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight)
        rows = np.asarray(x, np.float64)
        means = [np.average(rows[y == c], axis=0, weights=weight[y == c]) for c in (0, 1)]
        axis = means[1] - means[0]
        centred = rows - np.stack(means)[y]
        length = max(float(axis @ axis), 1e-12)
        along = np.average((centred @ axis) ** 2, weights=weight) / length
        any_axis = np.average((centred**2).mean(axis=1), weights=weight)
        self._slope = axis / max(along, any_axis, 1e-12)
        self._middle = (means[0] + means[1]) / 2
        return self

    def predict_proba(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Give the probability of each class, [n, 2]."""
        logit = np.clip((np.asarray(x, np.float64) - self._middle) @ self._slope, -30, 30)
        positive = 1 / (1 + np.exp(-logit))
        return np.stack([1 - positive, positive], axis=1)


def _penalised(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, solver="newton-cholesky", max_iter=100)


def _rows(x: ArrayLike) -> NDArray[Any]:
    series = np.asarray(x)
    if series.ndim != 3 or 0 in series.shape:
        raise ValueError(f"x must have shape [n, T, F], none of them 0, but has {[*series.shape]}")
    return series.reshape(len(series), -1)
