"""From the bands of a window to the bands of the map."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from timl.bands import BANDS, STEPS
from timl.data.own.exports import Fill, fill_missing, series_of_bands
from timl.data.sources.source import take_steps
from timl.evaluation.prevalence import Calibration, logit_count, logit_line
from timl.maps.drawing.legend import CLASS_COLOURS, CLASS_PROBABILITY
from timl.nn import Classifier, Device, StrongClassifier, on_device, one_thread
from timl.nn.devices import device_of
from timl.normalization import Normalization

_PREDICTED, _PREPARED = 8192, 1024
"""Pixels that the classifier sees at once, and those that are made into series at once: the first
many, because each call prepares the classifier; the second so few that they stay in the cache."""

Means = Callable[[], NDArray[np.float64]]


@dataclass(frozen=True)
class Predictor:
    """Prediction of one window after the other; it can be sent to other processes.

    Attributes
    ----------
    classifier
        Classifier in evaluation mode.
    ensemble
        Classifiers of the same task whose spread is the uncertainty.
    classes
        Names of the classes; none of two classes, of which the positive one is mapped.
    class_probabilities
        Whether the probability of each of several classes is a band.
    threshold
        Least probability of class 1 of two classes.
    slope, shift : float, float64 tensor of shape [] or [K]
        A logit is multiplied by the first, then the second is added.
    fill
        Filling of missing values, see `fill_missing`.
    first
        First time step.
    """

    classifier: Classifier | StrongClassifier
    ensemble: tuple[Classifier | StrongClassifier, ...]
    classes: tuple[str, ...]
    class_probabilities: bool
    threshold: float
    slope: float
    shift: torch.Tensor
    fill: Fill
    first: int

    @property
    def normalization(self) -> Normalization:
        """Preparation of the classifier's series."""
        assert self.classifier.normalization is not None  # checked where it was made
        return self.classifier.normalization

    @property
    def bands(self) -> list[str]:
        """Names of the map's bands."""
        names = ["probability", "class"]
        names += ["uncertainty"] if self.ensemble else []
        names += ["unlike"] if isinstance(self.classifier, StrongClassifier) else []
        each = self.classes if self.class_probabilities else ()
        return names + [f"{CLASS_PROBABILITY}{name}" for name in each]

    def predict(self, raw: NDArray[np.float64], means: Means) -> NDArray[np.float32]:
        """Predict a window.

        Parameters
        ----------
        raw : float64 array of shape [17 steps + 2, height, width]
            Bands of the window in the order of the export format; NaN is missing.
        means
            Function that returns the means to fill missing values by, float64 [18]; called only
            where a value is missing.

        Returns
        -------
        float32 array of shape [bands, height, width]
            NaN where a band has no value at all.
        """
        _, height, width = raw.shape
        pixels = take_steps(raw.reshape(len(raw), -1), self.first)
        out = np.full((len(self.bands), height * width), np.nan, np.float32)
        with torch.no_grad(), one_thread():
            for start in range(0, height * width, _PREDICTED):
                series, complete = self.series(pixels[:, start : start + _PREDICTED], means)
                if complete.all():
                    out[:, start : start + len(series)] = self._of_series(series)
                elif complete.any():
                    places = start + np.flatnonzero(complete)
                    out[:, places] = self._of_series(series[complete])
        return out.reshape(-1, height, width)

    def series(
        self, raw: NDArray[np.float64], means: Means
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return normalised series float32 [n, 12, 18] of bands [206, n], and which are complete.

        They are those of `own_points`: filled, rounded to float32 as measured, then normalised.
        """
        pixels = raw.shape[1]
        made = np.empty((pixels, STEPS, len(BANDS)), np.float32)
        complete = np.empty(pixels, bool)
        for start in range(0, pixels, _PREPARED):
            part = slice(start, start + _PREPARED)
            made[part], complete[part] = self._prepared(raw[:, part], means)
        return made, complete

    def _prepared(
        self, raw: NDArray[np.float64], means: Means
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return what `series` does, of so few pixels that they stay in the cache."""
        series = series_of_bands(raw, self.normalization["ndvi"])
        missing = np.asarray(np.isnan(series).any(axis=(1, 2)))
        if missing.any():
            series[missing] = fill_missing(series[missing], means(), self.fill)
            missing = np.asarray(np.isnan(series).any(axis=(1, 2)))
        measured = series.transpose(1, 2, 0).astype(np.float32).astype(np.float64)  # [12, 18, n]
        measured -= self.normalization["mean"][:, None]
        measured /= self.normalization["std"][:, None]
        complete: NDArray[np.bool_] = np.logical_not(missing)
        return measured.astype(np.float32).transpose(2, 0, 1), complete

    def _of_series(self, series: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the map's bands of series [n, 12, 18], [bands, n]."""
        x = torch.from_numpy(series).to(device_of(self.classifier))
        if isinstance(self.classifier, StrongClassifier):
            logits, distances = self.classifier.logits_and_distances(x)
        else:
            logits, distances = self.classifier(x), None
        given = self._probability(logits)
        if self.classes:
            mapped = given.argmax(dim=1, keepdim=True)
            rows = [given.gather(1, mapped)[:, 0], mapped[:, 0].float()]
        else:
            rows = [given, (given >= self.threshold).float()]
        if self.ensemble:
            members = torch.stack([self._probability(member(x)) for member in self.ensemble])
            if self.classes:  # of the class that is mapped, [members, n]
                members = members[:, torch.arange(len(x)), mapped[:, 0]]
            rows.append(members.double().std(dim=0, correction=0).float())
        if distances is not None:
            rows.append(distances)
        if self.class_probabilities:
            rows += given.unbind(dim=1)
        return torch.stack(rows).cpu().numpy()

    def _probability(self, logits: torch.Tensor) -> torch.Tensor:
        """Return probabilities of logits, float32 [n], or [n, K] of several classes."""
        moved = self.slope * logits.double() + self.shift.to(logits.device)
        return (torch.softmax(moved, dim=1) if self.classes else torch.sigmoid(moved)).float()

    def digest(self) -> str:
        """Return a checksum of everything that a map depends on but its source."""
        settings = (self.threshold, self.slope, self.shift.tolist(), self.fill, self.first)
        found = hashlib.sha256(repr(settings).encode())
        kind = device_of(self.classifier).type
        if kind != "cpu":
            found.update(kind.encode())
        if self.classes:
            found.update(repr(self.bands).encode())
        for member in (self.classifier, *self.ensemble):
            found.update(repr(sorted(member.normalization or {})).encode())
            for name, tensor in member.state_dict().items():
                found.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        for name in ("mean", "std"):
            found.update(self.normalization[name].tobytes())  # type: ignore[literal-required]
        found.update(self.normalization["ndvi"].encode())
        return found.hexdigest()


def make_predictor(
    classifier: Classifier | StrongClassifier,
    ensemble: Sequence[Classifier | StrongClassifier],
    *,
    threshold: float,
    calibration: Calibration | None,
    prevalence: float | Mapping[str, float] | None,
    fill: Fill,
    first: int,
    classes: Sequence[str] | None = None,
    class_probabilities: bool = True,
    device: Device | None = None,
) -> Predictor:
    """Check a classifier and what belongs to it, and return its `Predictor`.

    Raises
    ------
    TypeError
        If it is no adapted classifier.
    ValueError
        If it takes other series than exports give, does not know their normalisation, or a number
        is out of range.
    """
    for member in (classifier, *ensemble):
        require_classifier(member)
    if not 0 < threshold < 1:
        raise ValueError(f"threshold is {threshold}: give a probability above 0 and below 1")
    if fill not in ("pixel", "file"):
        raise ValueError(f"fill is {fill!r}: give 'pixel' or 'file'")
    names = class_names(classifier, classes)
    for member in ensemble:
        if class_names(member, classes) != names:
            raise ValueError(
                f"ensemble has a classifier of {_kind(class_names(member, classes))}, and the "
                f"classifier is of {_kind(names)}: give classifiers of the same classes, in the "
                f"same order"
            )
    if names and threshold != 0.5:
        raise ValueError(
            f"threshold is {threshold}, and the classifier is of {_kind(names)}: leave it out; a "
            f"pixel is mapped as its most probable class"
        )
    line = logit_line(classifier, prevalence, calibration=calibration, classes=names or None)
    place = device_of(classifier) if device is None else device
    return Predictor(
        on_device(classifier, place).eval(),
        tuple(on_device(member, place).eval() for member in ensemble),
        names,
        class_probabilities and bool(names),
        threshold,
        line.slope,
        torch.from_numpy(line.shift),
        fill,
        first,
    )


def class_names(
    classifier: Classifier | StrongClassifier, given: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the names of a classifier's classes; none where it has one logit, of two classes.

    Parameters
    ----------
    classifier
        Classifier that maps.
    given
        Names of the classes of a `Classifier` of several outputs, which has none of its own.

    Raises
    ------
    ValueError
        If names are missing or not wanted, alike, empty or unprintable, or more than 32.
    """
    own = classifier.classes if isinstance(classifier, StrongClassifier) else None
    count = logit_count(classifier)
    if count == 1:
        if given is not None:
            raise ValueError(
                f"classes is {list(given)}, and the classifier has one logit, of the positive "
                f"class: leave it out"
            )
        return ()
    names = own if given is None else tuple(given)
    if names is None or len(names) != count or own not in (None, names):
        told = None if given is None else list(given)
        wanted = f"{count} names" if own is None else f"{list(own)} or nothing"
        raise ValueError(f"classes is {told} for a classifier of {count} classes: give {wanted}")
    require_map_classes(names)
    return names


def require_map_classes(names: Sequence[str]) -> None:
    """Raise ValueError unless a map can show classes of such names."""
    unfit = [name for name in names if not name.strip() or not name.isprintable()]
    most = len(CLASS_COLOURS)
    if unfit or len(set(names)) < len(names) or len(names) > most:
        raise ValueError(
            f"classes is {len(names)} names, {list(names)[:most]}: give at most {most}, which "
            f"colours can tell apart, all different, none empty and without control characters"
        )


def _kind(names: tuple[str, ...]) -> str:
    """Return what a classifier decides between, for messages."""
    return f"the classes {', '.join(names)}" if names else "two classes, with one logit"


def require_classifier(classifier: Any) -> None:
    """Raise unless a classifier can map exports."""
    if not isinstance(classifier, Classifier | StrongClassifier):
        raise TypeError(
            f"classifier is a {type(classifier).__name__}: give an adapted classifier, for "
            f"instance timl.finetune(model, points)"
        )
    if (classifier.steps, classifier.bands) != (STEPS, len(BANDS)):
        raise ValueError(
            f"classifier takes series of {classifier.steps} steps and {classifier.bands} bands: "
            f"give one of {STEPS} steps and {len(BANDS)} bands, which exports have"
        )
    if classifier.normalization is None:
        raise ValueError(
            "classifier has no normalization, so that it is not known how its series were "
            "prepared: set classifier.normalization, or adapt it with timl.finetune"
        )
