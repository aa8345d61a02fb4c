"""From logits to probabilities at the share that a class has in a place.

A classifier that weighs both classes alike, as the strong protocol does, gives the odds of a pixel
where half of the pixels are positive. Elsewhere the logit moves by the difference of the log odds
of the shares, if each class looks the same in both places (Bayes' rule):

    logit at prevalence p = logit + log(p / (1 - p)) - log(g / (1 - g)),

with g the prevalence that the logit was given at. Of K classes that weigh alike each logit moves by
the logarithm of its class's share. `logit_line` does either for a classifier. The logits of several
classes that the strong protocol gives hold about the logarithms of the labels' shares as well:
`fit_calibration` takes them out first.
docs/explanation/area.md says when that holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from timl.nn import Classifier, StrongClassifier


def given_prevalence(classifier: Classifier | StrongClassifier) -> float:
    """Return the share of positives that the logits of a classifier of two classes are meant for.

    It is 0.5 in the paper's protocol, which draws as many positives as negatives. The strong
    protocol adds 0.2 times the log odds of the labels' counts, so that its share lies between 0.5
    and that of the labels.

    Raises
    ------
    ValueError
        If the classifier has a logit for each of several classes.
    """
    count = logit_count(classifier)
    if count > 1:
        raise ValueError(
            f"classifier has {count} logits, of classes that weigh alike: give one of two classes"
        )
    if isinstance(classifier, StrongClassifier):
        return float(_share(np.float64(classifier.shift.double().item())))
    return 0.5


def logit_count(classifier: Classifier | StrongClassifier) -> int:
    """Return the number of a classifier's logits: 1 for two classes, else one for each class."""
    if isinstance(classifier, StrongClassifier):
        return 1 if classifier.classes is None else len(classifier.classes)
    return classifier.outputs


def at_prevalence(logits: ArrayLike, prevalence: float, given: float = 0.5) -> NDArray[np.float64]:
    """Shift logits to a share of positives.

    Parameters
    ----------
    logits : array of any shape
        Logits of a classifier, or calibrated ones.
    prevalence
        Share of positives in the place, in (0, 1): stated from statistics, or estimated by
        `estimate_prevalence`.
    given
        Share that the logits are meant for: see `given_prevalence`; 0.5 after `Calibration`.

    Returns
    -------
    float64 array of the same shape
        Logits; their probabilities are 1 / (1 + exp(-logit)).

    Raises
    ------
    ValueError
        If a share is out of (0, 1) or a logit is not finite.
    """
    values = _finite(logits)
    return np.asarray(values + _log_odds("prevalence", prevalence) - _log_odds("given", given))


def classes_at_prevalence(
    logits: ArrayLike, classes: Sequence[Any], shares: Mapping[Any, float]
) -> NDArray[np.float64]:
    """Shift logits of classes that weigh alike to the shares that the classes have in a place.

    Parameters
    ----------
    logits : array of shape [..., K]
        Logits of a classifier of K classes.
    classes
        Names of the classes, K.
    shares
        Share of each class, by name, in (0, 1); they add up to 1.

    Returns
    -------
    float64 array of the same shape
        Logits; their probabilities are the softmax.

    Raises
    ------
    ValueError
        If a class has no share, a share is no class's, out of (0, 1) or all do not add up to 1
        within 0.01, or a logit is not finite.
    """
    values = _finite(logits)
    if set(shares) != set(classes):
        raise ValueError(
            f"prevalence is of {', '.join(map(str, shares))}: give the shares of "
            f"{', '.join(map(str, classes))}"
        )
    each = np.array([shares[name] for name in classes], np.float64)
    if not ((each > 0) & (each < 1)).all() or abs(each.sum() - 1) > 0.01:
        raise ValueError(
            f"prevalence is {dict(shares)}, {each.sum():g} in all: give shares between 0 and 1 "
            f"that add up to 1"
        )
    return np.asarray(values + np.log(each / each.sum()))


class LogitLine(NamedTuple):
    """What turns a classifier's logits into those at a stated prevalence; made by `logit_line`."""

    slope: float
    """Factor of the logits."""
    shift: NDArray[np.float64]
    """What is added then, [], or [K] of several classes."""

    def apply(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Return the logits at the prevalence, float64 of the same shape."""
        return np.asarray(self.slope * _finite(logits) + self.shift)


def logit_line(
    classifier: Classifier | StrongClassifier,
    prevalence: float | Mapping[Any, float] | None = None,
    *,
    calibration: Calibration | None = None,
    classes: Sequence[Any] | None = None,
) -> LogitLine:
    """Return what states a classifier's probabilities for a prevalence.

    Logits are calibrated first, where a calibration is given, and then moved to the prevalence by
    Bayes' rule.

    Parameters
    ----------
    classifier
        Adapted classifier of two classes or several.
    prevalence
        Share of the positive class, or of each of several classes by its name; None: as the
        classifier gives them.
    calibration
        Calibration that `fit_calibration` fitted to out-of-fold logits of the same number of
        classes.
    classes
        What the shares of several classes are called by, in the order of the logits; by default the
        names that a `StrongClassifier` has.

    Raises
    ------
    ValueError
        If prevalence or calibration are not of the classifier's number of classes, or a share is
        out of (0, 1).
    """
    count = logit_count(classifier)
    slope = 1.0 if calibration is None else calibration.slope
    intercept = np.zeros(count if count > 1 else ())
    if calibration is not None:
        if np.shape(calibration.intercept) != intercept.shape:
            raise ValueError(
                f"calibration is one of intercept {calibration.intercept}, and the classifier is "
                f"of {max(2, count)} classes: give one that was fitted to logits of these"
            )
        intercept = np.asarray(calibration.intercept, np.float64)
    if count == 1:
        if isinstance(prevalence, Mapping):
            raise ValueError(
                f"prevalence is {dict(prevalence)}, and the classifier is of two classes, with one "
                f"logit: give the share of the positive class alone"
            )
        given = given_prevalence(classifier)
        shift = 0.0
        if calibration is not None:  # it takes and gives logits for even classes
            shift = float(intercept) + slope * float(at_prevalence(0.0, 0.5, given))
            given = 0.5
        if prevalence is not None:
            shift += float(at_prevalence(0.0, prevalence, given))
        return LogitLine(slope, np.array(shift))
    names = classes
    if names is None and isinstance(classifier, StrongClassifier):
        names = classifier.classes
    if prevalence is None:
        return LogitLine(slope, intercept)
    if names is None or len(names) != count:
        given_names = None if names is None else list(names)
        raise ValueError(
            f"classes is {given_names}, and prevalence is given for a classifier of {count} "
            f"classes: give their names, in the order of the logits"
        )
    if not isinstance(prevalence, Mapping):
        raise ValueError(
            f"prevalence is {prevalence}, and the classifier is of the classes "
            f"{', '.join(map(str, names))}: give a share of each, by name"
        )
    return LogitLine(slope, classes_at_prevalence(intercept, names, prevalence))


def estimate_prevalence(logits: ArrayLike, given: float = 0.5) -> float:
    """Estimate the share of positives among unlabelled pixels.

    It is the share of greatest likelihood, under which the mean probability equals it: where the
    expectation maximisation of M. Saerens, P. Latinne and C. Decaestecker (Adjusting the outputs of
    a classifier to new a priori probabilities, Neural Computation 14, 2002, equation 2.10) ends.
    The likelihood is concave, so that it is found as the root of its slope.

    It assumes that each class looks here as it did among the labels, and that the logits are
    calibrated: where they are too sure or too timid the share is wrong, without a sign of it.
    docs/explanation/area.md has measurements. For an area that is to be published take a reference
    sample (`timl.area`), which needs neither assumption.

    Parameters
    ----------
    logits : array of any shape
        Logits of a random or complete selection of the place's pixels.
    given
        Share that the logits are meant for, as of `at_prevalence`.

    Returns
    -------
    float
        Share in [0, 1]. It is 0 or 1 where the likelihood has its greatest value there.

    Raises
    ------
    ValueError
        If there are no logits, one is not finite, or ``given`` is out of (0, 1).
    """
    from scipy.optimize import brentq

    values = _finite(logits).ravel()
    if not len(values):
        raise ValueError("logits has shape [0]: give at least one")
    ratio = values - _log_odds("given", given)  # logarithm of the likelihood ratio
    if not ratio.any():
        return 0.5  # every share is as likely
    size = np.exp(-np.abs(ratio))

    def slope(share: float) -> float:
        """Return the slope of the mean log likelihood, which falls."""
        below = np.where(ratio > 0, share + (1 - share) * size, share * size + 1 - share)
        return float((np.sign(ratio) * (1 - size) / np.maximum(below, 1e-300)).mean())

    if slope(0.0) <= 0:
        return 0.0
    return 1.0 if slope(1.0) >= 0 else float(brentq(slope, 0.0, 1.0, xtol=1e-12))


class Calibration(NamedTuple):
    """Slope and intercept that turn logits into calibrated ones where all classes are alike."""

    slope: float
    intercept: float | NDArray[np.float64]
    """One number for two classes, else [K]."""

    def apply(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Return calibrated logits, meant for classes that are equally frequent."""
        return np.asarray(self.slope * _finite(logits) + self.intercept)


def fit_calibration(logits: ArrayLike, labels: ArrayLike) -> Calibration:
    """Fit a calibration to logits of samples that the classifier was not fitted to.

    Of two classes that is logistic regression on the one logit, each class weighing a half, with
    Platt's targets (N1 + 1) / (N1 + 2) and 1 / (N0 + 2) instead of 1 and 0, which keep it finite
    where the classes are separate (J. Platt, Probabilistic outputs for support vector machines,
    1999, section 2.2).

    Of several classes, logits at the shares n_k / n of the labels are taken for

        slope logit_k + c log(n_k / n),

    and slope and c have the greatest likelihood; calibrated logits, for classes that are equally
    frequent, are these without log(n_k / n). The slope is that of temperature scaling (C. Guo, G.
    Pleiss, Y. Sun and K. Q. Weinberger, On calibration of modern neural networks, 2017, section
    4.2). c takes out what the counts of labels do to logits that were to weigh the classes alike:
    an intercept of each class would rest on that class's few labels. Targets are (n + 1) / (n + 2),
    and the rest of 1 for the other classes together.

    A slope is at least 0, so that the order stays. Take the out-of-fold logits of
    `timl.cross_validate`; some tens of labels fix a calibration only roughly.

    Parameters
    ----------
    logits : array of shape [n], or [n, K] of several classes
        Logits.
    labels : integer array of shape [n]
        Labels, 1 and 0, or 0 to K - 1.

    Raises
    ------
    ValueError
        If shapes differ, a logit is not finite or a class has no samples.
    """
    values = _finite(logits)
    if values.ndim == 2:
        return _fit_classes(*_labelled_classes(values, labels))
    from scipy.special import expit

    x, positive = _labelled(values, labels)
    counts = np.array([(~positive).sum(), positive.sum()], np.float64)
    targets = np.where(positive, (counts[1] + 1) / (counts[1] + 2), 1 / (counts[0] + 2))
    weights = 0.5 / counts[positive.astype(int)]
    scale = float(np.abs(x).max()) or 1.0
    design = np.stack([x / scale, np.ones_like(x)], axis=1)

    def loss(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = design @ theta
        value = float(weights @ (np.logaddexp(0, z) - targets * z))
        return value, design.T @ (weights * (expit(z) - targets))

    slope, intercept = _smallest(loss)
    return Calibration(float(slope) / scale, float(intercept))


def _fit_classes(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> Calibration:
    """Return the calibration of logits [n, K] of samples of classes [n]: see `fit_calibration`."""
    from scipy.special import log_softmax

    n, count = logits.shape
    shares = np.log(np.bincount(labels, minlength=count) / n)
    targets = np.full((n, count), 1 / (n + 2) / (count - 1))
    targets[np.arange(n), labels] = (n + 1) / (n + 2)
    scale = float(np.ptp(logits, axis=1).max()) or 1.0
    design = np.stack([logits / scale, np.broadcast_to(shares, logits.shape)])  # [2, n, K]

    def loss(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        log_p = log_softmax(np.tensordot(theta, design, 1), axis=1)
        slopes = (design * (np.exp(log_p) - targets)).sum(axis=(1, 2))
        return float(-(targets * log_p).sum() / n), slopes / n

    slope, by_count = _smallest(loss)
    intercept = (by_count - 1) * shares
    return Calibration(float(slope) / scale, intercept - intercept.mean())


def _smallest(
    loss: Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]],
) -> NDArray[np.float64]:
    """Return the two numbers, the first at least 0, at which a convex loss is smallest.

    The loss comes with its gradient.
    """
    from scipy.optimize import minimize

    found: NDArray[np.float64] = minimize(
        loss,
        np.zeros(2),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None), (None, None)],
        options={"gtol": 1e-10, "ftol": 1e-15},
    ).x
    return found


def choose_threshold(logits: ArrayLike, labels: ArrayLike) -> float:
    """Choose the probability above which a pixel counts as positive.

    It is the threshold of the greatest balanced accuracy, the mean of both classes' shares of right
    decisions, if that is above the one of 0.5 by three standard errors of the difference; else 0.5.
    Few labels seldom tell: docs/explanation/area.md says what choosing costs then. F1 instead would
    depend on the share of positives among the labels, which is that of the map only if these were
    drawn at random. Give logits of samples that the classifier was not fitted to.

    Parameters
    ----------
    logits : array of shape [n]
        Logits.
    labels : array of shape [n]
        Labels, 1 and 0.

    Returns
    -------
    float
        Probability in (0, 1), halfway between two of the logits, or 0.5.

    Raises
    ------
    ValueError
        If shapes differ, a logit is not finite or a class has no samples.
    """
    x, positive = _labelled(logits, labels)
    values, places = np.unique(x, return_inverse=True)
    above = [
        1 - np.cumsum(np.bincount(places[side], minlength=len(values))) / side.sum()
        for side in (positive, ~positive)
    ]  # shares of positives and of negatives above each value
    gain = np.round(above[0] - above[1], 12)
    cuts = np.append((values[:-1] + values[1:]) / 2, values[-1] + 1)
    best = np.flatnonzero(gain == gain.max())
    cut = float(cuts[best][np.abs(cuts[best]).argmin()])
    moved = (x > min(cut, 0)) & (x <= max(cut, 0))  # those that the cut decides otherwise than 0.5
    difference, variance = 0.0, 0.0
    for side, sign in ((positive, -np.sign(cut)), (~positive, np.sign(cut))):
        number, count = int(side.sum()), int((moved & side).sum())
        difference += float(sign) * count / number
        share = (count + 1) / (number + 2)  # not 0 or 1, whose variance would be 0
        variance += share * (1 - share) / number
    return float(_share(np.float64(cut))) if difference > 3 * math.sqrt(variance) else 0.5


def _share(log_odds: np.float64 | NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import expit

    return np.asarray(expit(log_odds))


def _log_odds(name: str, share: float) -> float:
    if not 0 < share < 1:
        raise ValueError(f"{name} is {share}: give a share between 0 and 1")
    return math.log(share) - math.log1p(-share)


def _finite(logits: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(logits, np.float64)
    if not np.isfinite(values).all():
        raise ValueError(
            f"logits of shape {list(values.shape)} has {int((~np.isfinite(values)).sum())} values "
            f"that are not finite: leave these out"
        )
    return values


def _labelled(
    logits: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    x, y = _finite(logits), np.asarray(labels)
    if x.ndim != 1 or x.shape != y.shape or not np.isin(y, (0, 1)).all():
        raise ValueError(
            f"logits has shape {list(x.shape)}, labels has shape {list(y.shape)}: give both of "
            f"shape [n], and labels 1 and 0"
        )
    positive = y == 1
    if not 0 < positive.sum() < len(y):
        raise ValueError(
            f"labels has {int(positive.sum())} positives and {int((~positive).sum())} negatives: "
            f"give some of both"
        )
    return x, positive


def _labelled_classes(
    logits: NDArray[np.float64], labels: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    y, count = np.asarray(labels), logits.shape[1]
    if y.shape != logits.shape[:1] or not np.array_equal(np.unique(y), np.arange(count)):
        raise ValueError(
            f"labels has shape {list(y.shape)} and the numbers {np.unique(y).tolist()} for logits "
            f"of shape {list(logits.shape)}: give [n] and [n, K], with some of each class, 0 to "
            f"K - 1"
        )
    return logits, y.astype(np.int64)
