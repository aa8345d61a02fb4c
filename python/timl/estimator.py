"""Estimator for scikit-learn: timl's classifier, from new weights or a pre-trained model."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import assert_all_finite, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from timl import defaults
from timl.arrays import real_numbers, require_size
from timl.bands import BANDS
from timl.crop_classes import CLASSES, CROP
from timl.data import BBox, task_information
from timl.data.tasks.information import INFO_SIZE
from timl.evaluation import probabilities
from timl.meta import fit_strong, fit_strong_classes, unlearned_kernel
from timl.meta.finetuning import Protocol, chosen_kernel, descend
from timl.nn import (
    TIML,
    Classifier,
    DeepKernel,
    Device,
    StrongClassifier,
    checked_device,
    load_pretrained,
    seeded,
)
from timl.normalization import Normalization

_LEAST_KELVIN = 150.0
"""No month's mean temperature on Earth is below."""


class CropClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Few-shot crop classifier with scikit-learn's interface.

    `fit` is timl's fine-tuning. A meta-trained model, which takes the crop that is asked for, is
    adapted by the strong protocol; without a model, series of the record's bands are classified by
    the same kernel regression and forest with nothing learned elsewhere. Where `protocol` is the
    paper's, and for other models and bands, it is plain gradient descent on balanced draws. Series
    are given as measured: they are normalised by the model's own statistics or, where it has none,
    by those of the training series.

    Parameters
    ----------
    pretrained
        A model, its folder, or its name, such as "default", where `timl.make_model` made it (see
        `timl.nn.load_pretrained`). None: nothing is learned elsewhere; new weights where the
        protocol is the paper's.
    lat, lon
        Degrees of the place, or of the centre of the region. In the paper's protocol a TIML model
        that takes task information needs them; otherwise they are ignored.
    crop : str, dict or None
        FAO class of the positives, one of `timl.data.CLASSES`; None: crop versus non-crop. Where y
        has more than two classes, a dict from classes of y to FAO classes; of those that it does
        not hold nothing is assumed, but for what their name tells.
    label
        Name of the positives where `crop` is given, such as "maize": the strong protocol takes it,
        if some region of the meta-training had it.
    pos_label
        Class of y that holds the positives, which `crop` and `label` describe. None: the greater of
        two numbers, the class that is called as `label`, or, without a model, the last in ascending
        order; otherwise it must be given.
    time_steps
        Number of steps T of a series, into which X of shape [n, T * F] is cut. A pre-trained model
        must have as many.
    protocol, steps, k, learning_rate
        Those of `timl.finetune`: steps, k and learning_rate belong to the paper's protocol. Where a
        class has fewer than k samples, as many as it has are drawn.
    prevalence
        Share of `pos_label`, or of more than two classes a dict from each to its share, that
        probabilities and decisions are stated for; None: as the classifier gives them, which weighs
        the classes nearly alike. See `timl.evaluation.prevalence.logit_line`.
    random_state : int, RandomState or None
        Seed of new weights, draws, dropout and trees; the same int gives the same bits.
    device
        Device of the classifier, on which it predicts and the paper's protocol trains it, such as
        "cuda"; the strong protocol fits on the CPU.

    Attributes
    ----------
    classes_ : array of shape [K]
        Labels in ascending order.
    pos_label_
        Label of the positives; None where y has more than two classes.
    classifier_ : Classifier or StrongClassifier
        Fitted classifier.
    n_features_in_ : int
        How many numbers a series has: steps times bands.

    Notes
    -----
    X has shape [n, T, F] or, row-major, [n, T * F]: the record's [n, 12, 18] or [n, 216]. Where the
    columns of a table name bands of the record, such as B2_3 or "3 NDVI", they must be in its
    order: all bands of a time step, then those of the next. NaN stands for missing values where a
    model with a deep kernel is adapted by the strong protocol, which completes them. The classes
    count nearly alike, as `timl.finetune` has it; weights of samples count within a class.
    """

    def __init__(
        self,
        pretrained: str | Path | TIML | Classifier | None = None,
        lat: float | None = None,
        lon: float | None = None,
        crop: str | Mapping[Any, str] | None = None,
        *,
        label: str | None = None,
        pos_label: Any = None,
        time_steps: int = 12,
        protocol: Protocol | None = None,
        steps: int | None = None,
        k: int | None = None,
        learning_rate: float | None = None,
        prevalence: float | Mapping[Any, float] | None = None,
        random_state: Any = None,
        device: Device = "cpu",
    ) -> None:
        self.pretrained = pretrained
        self.lat = lat
        self.lon = lon
        self.crop = crop
        self.label = label
        self.pos_label = pos_label
        self.time_steps = time_steps
        self.protocol = protocol
        self.steps = steps
        self.k = k
        self.learning_rate = learning_rate
        self.prevalence = prevalence
        self.random_state = random_state
        self.device = device

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> CropClassifier:
        """Fine-tune on labelled series.

        Parameters
        ----------
        X : array of shape [n, T, F] or [n, T * F]
            Series as measured.
        y : array of shape [n]
            Labels of two classes or more.
        sample_weight : array of shape [n]
            How many samples each series stands for; series of weight 0 are left out. Only the
            strong protocol takes it. Whole numbers give the regression that so many copies would,
            with a pre-trained model and at most 500 labels of a class, and trees that differ only
            where splits tie; without a model, statistics are those of the series as they are.

        Raises
        ------
        TypeError, ValueError
            If an argument is of another kind, shape or range, or there is no such device.

        Warns
        -----
        UserWarning
            If series of the record's bands seem to be standardised already.
        """
        place = checked_device(self.device)
        series, labels = self._validated(X, y, reset=True)
        counts = None
        if sample_weight is not None:
            counts = _check_sample_weight(
                sample_weight, series, dtype=np.float64, ensure_non_negative=True
            )
            series, labels, counts = (part[counts > 0] for part in (series, labels, counts))
        check_classification_targets(labels)
        self.classes_ = np.unique(labels)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y is of {len(labels)} labels of one class, {self.classes_[0]!r}: give labels of "
                f"two classes or more"
            )
        if self._several:
            self.pos_label_ = None
            codes = np.searchsorted(self.classes_, labels)
        else:
            self.pos_label_ = self._positive_label()
            codes = (labels == self.pos_label_).astype(np.int64)
        _warn_of_standardised(series)
        given = self.random_state
        drawn = check_random_state(given).randint(2**31 - 1)
        seed = int(given) if isinstance(given, int | np.integer) else int(drawn)
        model = self._model(series)
        kernel = chosen_kernel(
            model,
            self.protocol,
            {"steps": self.steps, "k": self.k, "learning_rate": self.learning_rate},
        )
        self.classifier_: Classifier | StrongClassifier
        if kernel is not None:
            fitted = self._fit_strong(model, kernel, series, codes, seed, counts)
            self.classifier_ = fitted.float().to(place)
            return self
        if counts is not None:
            raise ValueError(
                "sample_weight is given, which the paper's protocol does not take: leave it out, "
                "or use the strong protocol, which needs the record's 18 bands"
            )
        assert_all_finite(series, estimator_name=type(self).__name__, input_name="X")
        classifier = self._start(model, series, seed).float().to(place)
        if self._several:
            classifier = classifier.with_outputs(len(self.classes_))
        if classifier.normalization is None:
            classifier.normalization = _statistics(series)
        self.classifier_ = classifier
        x = _normalized(series, classifier.normalization)
        k = defaults.FINE_TUNING_K if self.k is None else self.k
        descend(
            classifier,
            x,
            codes,
            steps=self.steps,
            k=min(k, int(np.bincount(codes).min())),
            learning_rate=self.learning_rate,
            seed=seed,
        )
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probability of each class, float64 [n, K], for series as measured."""
        check_is_fitted(self)
        normalization = self.classifier_.normalization
        assert normalization is not None
        series = _normalized(self._validated(X, reset=False)[0], normalization)
        if isinstance(self.classifier_, Classifier):
            assert_all_finite(series, estimator_name=type(self).__name__, input_name="X")
        positive = probabilities(
            self.classifier_, series, prevalence=self.prevalence, classes=self.classes_.tolist()
        )
        if self._several:
            return positive
        columns = [1 - positive, positive]
        if self.classes_[0] == self.pos_label_:
            columns.reverse()
        return np.stack(columns, axis=1)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the class of each series: of two the positive one if its probability is above 0.5.

        Of several the most probable.
        """
        probability = self.predict_proba(X)
        if self._several:
            most: NDArray[Any] = self.classes_[probability.argmax(axis=1)]
            return most
        place = int(self.classes_[1] == self.pos_label_)
        positive = probability[:, place] > 0.5
        found: NDArray[Any] = self.classes_[np.where(positive, place, 1 - place)]
        return found

    @property
    def _several(self) -> bool:
        """Whether y had more than two classes."""
        return len(self.classes_) > 2

    def _kinds(self) -> list[str | None]:
        """Return the FAO class of each of several classes, None where it is not known."""
        given = {} if self.crop is None else self.crop
        if not isinstance(given, Mapping) or self.label is not None or self.pos_label is not None:
            raise ValueError(
                f"crop is {self.crop!r}, label {self.label!r} and pos_label {self.pos_label!r} for "
                f"y of {len(self.classes_)} classes: give crop as a dict from classes of y to FAO "
                f"classes, or None, and leave out label and pos_label"
            )
        known = self.classes_.tolist()
        for label, kind in given.items():
            if label not in known or kind not in (CROP, *CLASSES):
                raise ValueError(
                    f"crop has {label!r}: {kind!r}: give classes of y, {known}, with FAO classes "
                    f"of {', '.join((CROP, *CLASSES))}"
                )
        return [given.get(label) for label in known]

    def _positive_label(self) -> Any:
        """Return the label of the positives, one of the classes."""
        known = self.classes_.tolist()
        if self.pos_label is not None:
            if self.pos_label not in known:
                raise ValueError(
                    f"pos_label is {self.pos_label!r}, and y is of {known[0]!r} and {known[1]!r}: "
                    f"give one of the two"
                )
            return self.classes_[known.index(self.pos_label)]
        if self.label in known:
            return self.classes_[known.index(self.label)]
        numbers = all(isinstance(label, int | float) for label in known)
        if self.pretrained is not None and not numbers:
            raise ValueError(
                f"pos_label is None, and y is of {known[0]!r} and {known[1]!r}: give the one that "
                f"the model shall find as pos_label"
            )
        return self.classes_[1]

    def _fit_strong(
        self,
        model: TIML | DeepKernel,
        kernel: DeepKernel,
        series: NDArray[np.float64],
        codes: NDArray[np.int64],
        seed: int,
        counts: NDArray[np.float64] | None,
    ) -> StrongClassifier:
        """Return the strong protocol's classifier, fitted to series [n, T, 18] and labels [n]."""
        normalization = model.normalization
        if normalization is None:
            normalization = _statistics(series)
        x = _normalized(series, normalization)
        if self._several:
            return fit_strong_classes(
                kernel,
                x,
                codes,
                [str(label) for label in self.classes_],
                normalization=normalization,
                classification_labels=self._kinds(),
                counts=counts,
                seed=seed,
            )
        crop = CROP if self.crop is None else self.crop
        if crop not in (CROP, *CLASSES):
            raise ValueError(f"crop is {crop!r}: give one of {', '.join(CLASSES)}, or None")
        if self.label is not None and self.crop is None:
            raise ValueError(
                f"label is {self.label!r}, crop is None: give the label's FAO class as crop too"
            )
        return fit_strong(
            kernel,
            x,
            codes,
            normalization=normalization,
            classification_label=crop,
            target_label=CROP if self.crop is None else self.label,
            seed=seed,
            counts=counts,
        )

    def _model(self, series: NDArray[np.float64]) -> Any:
        """Return the pre-trained model, read where a folder is given."""
        model = self.pretrained
        if isinstance(model, str | Path):
            return load_pretrained(model)
        described = series.shape[1] >= 4 and series.shape[2] == len(BANDS)
        if model is None and self.protocol == "strong" and not described:
            raise ValueError(
                f"protocol is 'strong' for series of shape {list(series.shape[1:])}: give [T, 18], "
                f"the record's bands at 4 time steps or more, or protocol='paper'"
            )
        if model is None and described and self.protocol != "paper":
            assert_all_finite(series, estimator_name=type(self).__name__, input_name="X")
            normalization = _statistics(series)
            return unlearned_kernel(_normalized(series, normalization), normalization)
        return model

    def _start(self, model: Any, series: NDArray[np.float64], seed: int) -> Classifier:
        """Return a new classifier to fine-tune that fits the series."""
        steps, bands = series.shape[1:]
        if model is None:
            with seeded(seed):
                return Classifier(bands=bands, steps=steps)
        if isinstance(model, TIML):
            informed = model.encoder is not None or model.classifier.appended
            classifier = model.for_task(self._information() if informed else None)
        elif isinstance(model, Classifier):
            classifier = copy.deepcopy(model)
        else:
            raise TypeError(
                f"pretrained is a {type(model).__name__}: give a folder, a TIML, a Classifier or a "
                f"DeepKernel"
            )
        if (classifier.steps, classifier.bands) != (steps, bands):
            raise ValueError(
                f"X is of series of shape {[steps, bands]}: give "
                f"{[classifier.steps, classifier.bands]}, as the pre-trained model takes"
            )
        return classifier

    def _information(self) -> NDArray[np.float32]:
        """Return the task information, [13]."""
        if self.lat is None or self.lon is None:
            raise ValueError(
                f"lat is {self.lat}, lon is {self.lon}: give both in degrees, as the pre-trained "
                f"model takes the task's {INFO_SIZE} numbers"
            )
        here = BBox(self.lat, self.lat, self.lon, self.lon)
        if self._several:
            return task_information(here, self._kinds())
        return task_information(here, CROP if self.crop is None else str(self.crop))

    def _validated(
        self, X: ArrayLike, y: Any = "no_validation", *, reset: bool
    ) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """Return checked series, float64 [n, T, F], and labels [n], which are empty without y."""
        flat: Any = X
        steps = self.time_steps
        if not isinstance(steps, int | np.integer) or isinstance(steps, bool) or steps < 1:
            raise ValueError(f"time_steps is {steps!r}: give an integer of at least 1")
        numbers = None if hasattr(flat, "toarray") else real_numbers(flat, "X")
        if numbers is not None and (isinstance(flat, list | tuple) or numbers.ndim == 3):
            flat = numbers
        if getattr(flat, "ndim", None) == 3:
            if flat.shape[1] != self.time_steps:
                raise ValueError(
                    f"X is of shape {list(flat.shape)}: give [n, {self.time_steps}, bands], or set "
                    f"time_steps"
                )
            flat = flat.reshape(len(flat), -1)
        columns = getattr(flat, "columns", None)
        # NaN is refused later, where nothing completes it
        checked = validate_data(
            self, flat, y, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan"
        )
        flat, labels = (checked, np.empty(0)) if isinstance(y, str) else checked
        if flat.shape[1] % self.time_steps:
            raise ValueError(
                f"X is of {flat.shape[1]} numbers a series, which time_steps = {self.time_steps} "
                f"does not divide: give [n, T, F] or [n, T * F]"
            )
        if columns is not None and flat.shape[1] == self.time_steps * len(BANDS):
            _require_order(list(map(str, columns)))
        series = flat.reshape(len(flat), self.time_steps, -1)
        require_size(series, "X", "give numbers in other units")
        return series, labels

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.pretrained is not None and self.protocol != "paper"
        return tags


def _require_order(columns: list[str]) -> None:
    """Raise ValueError where columns name the record's bands and are in another order."""
    found = [_band_of(column) for column in columns]
    if None in found:
        return
    for number, (column, band) in enumerate(zip(columns, found, strict=True)):
        wanted = BANDS[number % len(BANDS)]
        if band != wanted:
            raise ValueError(
                f"X has the column {column!r} at place {number}, where {wanted} of time step "
                f"{number // len(BANDS)} belongs: order the columns by time step, and in each as "
                f"{', '.join(BANDS)}"
            )


def _band_of(column: str) -> str | None:
    """Return the band that a column's name holds as a word of its own, None where there is none."""
    for band in BANDS:
        if re.search(rf"(?<![A-Za-z0-9]){re.escape(band)}(?![A-Za-z0-9])", column, re.IGNORECASE):
            return band
    return None


def _warn_of_standardised(series: NDArray[np.float64]) -> None:
    """Warn where series [n, T, 18] of the record's bands have no temperatures in kelvin."""
    if series.shape[2] != len(BANDS):
        return
    temperatures = series[:, :, BANDS.index("temperature_2m")]
    if np.isnan(temperatures).all():
        return
    median = float(np.nanmedian(temperatures))
    if abs(median) < _LEAST_KELVIN:
        warnings.warn(
            f"X has a median of {median:.3g} in temperature_2m, which the record has in kelvin: "
            f"give series as measured, not standardised, since the classifier does that itself",
            stacklevel=3,
        )


def _statistics(series: NDArray[np.float64]) -> Normalization:
    """Return the mean and standard deviation of each band, 1 for a constant one."""
    mean, std = series.mean(axis=(0, 1)), series.std(axis=(0, 1))
    return Normalization(mean=mean, std=np.where(std > 0, std, 1.0), ndvi="as given")


def _normalized(series: NDArray[np.float64], normalization: Normalization) -> NDArray[np.float32]:
    """Return normalised series, [n, T, F]."""
    scaled = (series - normalization["mean"]) / normalization["std"]
    require_size(scaled, "X in the model's standard deviations", "give series in the model's units")
    result: NDArray[np.float32] = scaled.astype(np.float32)
    return result
