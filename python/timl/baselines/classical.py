"""Classical classifiers on series flattened to rows of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Baseline:
    """Binary classifier of series by a classifier in scikit-learn's manner.

    Parameters
    ----------
    estimator
        Classifier with `fit` and `predict_proba` that take rows [n, T * F].
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(self, x: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Baseline:
        """Train on labelled series.

        Parameters
        ----------
        x : array of shape [n, T, F]
            Normalised series.
        y : array of shape [n]
            Labels, 0 and 1; both occur.
        sample_weight : array of shape [n], optional
            Weights of the series; by default all weigh the same.

        Raises
        ------
        ValueError
            If shapes or labels are wrong.
        """
        rows, labels = _rows(x), np.asarray(y)
        if labels.shape != (len(rows),) or set(np.unique(labels).tolist()) != {0, 1}:
            raise ValueError(
                f"y is of shape {list(labels.shape)} with labels "
                f"{np.unique(labels).tolist()[:5]}: give shape [{len(rows)}] with both 0 and 1"
            )
        self.estimator.fit(rows, labels, sample_weight)
        return self

    def predict_proba(self, x: ArrayLike) -> NDArray[np.float64]:
        """Return the probability of the positive class, float64 [n], for series [n, T, F]."""
        probability: NDArray[np.float64] = self.estimator.predict_proba(_rows(x))[:, 1]
        return probability


def random_forest(seed: int = 0) -> Baseline:
    """Return a random forest with scikit-learn's defaults, the paper's baseline (section 5).

    Parameters
    ----------
    seed
        Seed of the trees.
    """
    from sklearn.ensemble import RandomForestClassifier

    return Baseline(RandomForestClassifier(random_state=seed))


def extra_trees(seed: int = 0) -> Baseline:
    """Return extremely randomised trees with scikit-learn's defaults.

    Parameters
    ----------
    seed
        Seed of the trees.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    return Baseline(ExtraTreesClassifier(random_state=seed))


def logistic_regression() -> Baseline:
    """Return a logistic regression with scikit-learn's penalty; its result has no randomness.

    It takes the series as they are, normalised by the data set's statistics: standardising them
    again within a task loses accuracy on the real tasks.
    """
    from sklearn.linear_model import LogisticRegression

    return Baseline(LogisticRegression(max_iter=10_000))


def cross_validated_logistic_regression() -> Baseline:
    """Return a logistic regression whose penalty is chosen by cross-validation on the labels.

    There are three to five folds; where a class has fewer than 3 labels the penalty is
    scikit-learn's. Its result has no randomness.
    """
    return Baseline(CrossValidatedLogisticRegression())


def gradient_boosting(seed: int = 0) -> Baseline:
    """Return a gradient boosting of small trees that still splits where there are ten labels.

    Parameters
    ----------
    seed
        Seed of the features that each split may choose from.
    """
    return Baseline(GradientBoosting(seed))


def nearest_class_mean() -> Baseline:
    """Return a classifier by the nearer of the two classes' means; it has no randomness."""
    return Baseline(NearestClassMean())


_BINS = 63
"""Bins of a feature for gradient boosting, at most."""


class CrossValidatedLogisticRegression:
    """Logistic regression whose C, from 1e-4 to 10, cross-validation chooses by its loss."""

    def fit(
        self, x: NDArray[Any], y: NDArray[Any], sample_weight: NDArray[Any] | None = None
    ) -> CrossValidatedLogisticRegression:
        """Choose C, then fit to all rows [n, F] and labels 0 and 1 [n]; weights count in fits."""
        rows, labels = np.asarray(x, np.float64), np.asarray(y)
        weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight)
        # the weights of a penalised fit lie in the span of the rows: where there are fewer rows
        # than features, it is made in that span
        self._span = None
        if len(rows) < rows.shape[1]:
            self._span = np.linalg.svd(rows, full_matrices=False)[2].T
            rows = rows @ self._span
        strength = self._choice(rows, labels, weight) if np.bincount(labels).min() >= 3 else 1.0
        self._fitted = _penalised(strength).fit(rows, labels, weight)
        return self

    def predict_proba(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Return the probability of each class, [n, 2]."""
        rows = np.asarray(x, np.float64)
        rows = rows if self._span is None else rows @ self._span
        probability: NDArray[np.float64] = self._fitted.predict_proba(rows)
        return probability

    def _choice(self, x: NDArray[Any], y: NDArray[Any], weight: NDArray[Any]) -> float:
        """Return the C with the least cross-validated loss."""
        from sklearn.metrics import log_loss
        from sklearn.model_selection import StratifiedKFold

        folds = StratifiedKFold(min(5, int(np.bincount(y).min())) if len(y) <= 200 else 3)
        losses = []
        for strength in (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0):
            loss = 0.0
            for train, test in folds.split(x, y):
                fitted = _penalised(strength).fit(x[train], y[train], weight[train])
                predicted = fitted.predict_proba(x[test])[:, 1]
                loss += log_loss(
                    y[test], predicted, normalize=False, sample_weight=weight[test], labels=[0, 1]
                )
            losses.append((loss, strength))
        return min(losses)[1]


def boosted_trees(rows: int, seed: int) -> Any:
    """Return scikit-learn's histogram gradient boosting for so many rows, not fitted."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=60,
        max_leaf_nodes=8,
        min_samples_leaf=int(np.clip(rows // 10, 1, 20)),
        max_bins=_BINS,
        max_features=0.3,
        l2_regularization=0.1,
        early_stopping=False,
        random_state=seed,
    )


class GradientBoosting:
    """Histogram gradient boosting whose leaves have at least a tenth of the rows, or 20 rows.

    Parameters
    ----------
    seed
        Seed of the features that each split may choose from.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(
        self, x: NDArray[Any], y: NDArray[Any], sample_weight: NDArray[Any] | None = None
    ) -> GradientBoosting:
        """Fit to rows [n, F] and labels 0 and 1 [n]."""
        # scikit-learn's bins of weighted rows take thirty times as long as all its trees: bins of
        # the rows without weights, made here, leave it nothing to divide
        self._edges = None if sample_weight is None else _quantiles(x)
        self._fitted = boosted_trees(len(y), self.seed).fit(self._binned(x), y, sample_weight)
        return self

    def predict_proba(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Return the probability of each class, [n, 2]."""
        probability: NDArray[np.float64] = self._fitted.predict_proba(self._binned(x))
        return probability

    def _binned(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return the number of each value's bin, where there are bins of ours."""
        if self._edges is None:
            return x
        columns = zip(x.T, self._edges, strict=True)
        return np.stack([np.searchsorted(edges, column) for column, edges in columns], axis=1)


class NearestClassMean:
    """Classifier by the nearer class mean.

    Its probability is that of two normal distributions of equal variance along the axis between the
    means.
    """

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
        """Return the probability of each class, [n, 2]."""
        logit = np.clip((np.asarray(x, np.float64) - self._middle) @ self._slope, -30, 30)
        positive = 1 / (1 + np.exp(-logit))
        return np.stack([1 - positive, positive], axis=1)


def _quantiles(x: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the edges of each feature's bins: quantiles of its values, each once."""
    levels = np.linspace(0, 1, _BINS + 1)[1:-1]
    return [np.unique(column) for column in np.quantile(x, levels, axis=0).T]


def _penalised(strength: float) -> Any:
    """Return a logistic regression of this C."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, solver="newton-cholesky", max_iter=100)


def _rows(x: ArrayLike) -> NDArray[Any]:
    """Return series [n, T, F] as rows [n, T * F]."""
    series = np.asarray(x)
    if series.ndim != 3 or 0 in series.shape:
        raise ValueError(f"x is of shape {[*series.shape]}: give [n, T, F], none of them 0")
    return series.reshape(len(series), -1)
