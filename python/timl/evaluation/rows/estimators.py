"""Rows of estimators in scikit-learn's manner that others bring."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timl.data import BenchmarkTask, TaskSet
from timl.evaluation.rows.features import SERIES, class_weights, features_by_data, require_features
from timl.evaluation.rows.given import imported
from timl.evaluation.rows.row import GivenRow, Prepared, Settings

_STATE = "random_state"


@dataclass(frozen=True, kw_only=True)
class EstimatorRow(GivenRow):
    """An estimator of scikit-learn, or like one, that is trained on the labels of the benchmark.

    A clone is fitted to rows of numbers and asked for `predict_proba`. Every `random_state` that is
    None is set to the run's seed; an estimator without such a one gives the same result in all
    runs.
    """

    estimator: Any
    """An estimator or its class, or "module:name" of one or of a function that makes one."""
    features: str = SERIES
    """"series", the normalised series as [n, 216], or "description", 459 numbers: see
    `timl.evaluation.rows.features.Features`."""
    balanced: bool = False
    """Whether all classes weigh the same, by `sample_weight`."""

    def __post_init__(self) -> None:
        made = self.estimator
        if isinstance(made, str):
            made = imported(self.name, "estimator", made)
        if isinstance(made, type) or not hasattr(made, "fit"):
            try:
                made = made()
            except TypeError as error:
                raise ValueError(
                    f"row {self.name!r}: estimator is {made!r}, which cannot be made ({error}): "
                    f"give an object with its arguments, or a function that makes one"
                ) from error
        missing = [name for name in ("fit", "predict_proba") if not hasattr(made, name)]
        if missing:
            raise ValueError(
                f"row {self.name!r}: estimator is a {type(made).__name__} without "
                f"{' and '.join(missing)}: give a classifier with probabilities, such as one in "
                f"sklearn.calibration.CalibratedClassifierCV"
            )
        object.__setattr__(self, "estimator", made)
        require_features(self.name, self.features)
        if self.balanced and _weight_name(made) is None:
            raise ValueError(
                f"row {self.name!r}: balanced is True, but the fit of {type(made).__name__} takes "
                f"no sample_weight: leave balanced out"
            )

    @property
    def given(self) -> Any:
        """The estimator."""
        return self.estimator

    @property
    def deterministic(self) -> bool:
        """Whether all runs would give the same predictions."""
        return not _open_states(self.estimator)

    def prepare(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> Prepared:
        """Prepare nothing."""
        features_of = features_by_data(self.features)

        def adapt(benchmark: BenchmarkTask, seed: int) -> NDArray[np.float64]:
            features = features_of(benchmark.data)
            x, y = benchmark.train_arrays()
            estimator = self.fitted(features.rows(x), y, seed)
            return _positive(estimator, features.rows(benchmark.test.x), self.name)

        return Prepared(adapt)

    def fitted(self, rows: NDArray[np.floating], y: NDArray[Any], seed: int) -> Any:
        """Return a clone, fitted to rows of numbers [n, features] and their classes [n]."""
        estimator = _new(self.estimator, seed)
        weights = {}
        if self.balanced:
            weights[str(_weight_name(estimator))] = class_weights(y)
        estimator.fit(rows, y, **weights)
        return estimator


def _new(estimator: Any, seed: int) -> Any:
    """Return an unfitted copy whose random numbers come from a seed."""
    from sklearn.base import clone

    made = clone(estimator, safe=False)
    names = _open_states(made)
    if names:  # scikit-learn takes seeds of 32 bits
        made.set_params(**dict.fromkeys(names, seed % 2**32))
    return made


def _open_states(estimator: Any) -> list[str]:
    """Return the names of the parameters that are a `random_state` of None."""
    if not hasattr(estimator, "get_params"):
        return []
    return [
        name
        for name, value in estimator.get_params(deep=True).items()
        if name.split("__")[-1] == _STATE and value is None
    ]


def _weight_name(estimator: Any) -> str | None:
    """Return the argument of `fit` that takes weights of samples; None where there is none."""
    from sklearn.utils.validation import has_fit_parameter

    steps = getattr(estimator, "steps", None)
    if isinstance(steps, list):  # a pipeline hands it to the step that it names
        last, final = steps[-1]
        inner = _weight_name(final)
        return None if inner is None else f"{last}__{inner}"
    return "sample_weight" if has_fit_parameter(estimator, "sample_weight") else None


def _positive(estimator: Any, rows: NDArray[np.floating], name: str) -> NDArray[np.float64]:
    """Return the probability of the positive class, float64 [n]."""
    found = np.asarray(estimator.predict_proba(rows), np.float64)
    if found.shape == (len(rows), 2):
        classes = getattr(estimator, "classes_", None)
        found = found[:, 1 if classes is None else list(classes).index(1)]
    if found.shape != (len(rows),):
        raise ValueError(
            f"row {name!r}: predict_proba returned shape {list(found.shape)} for {len(rows)} "
            f"series: return [{len(rows)}, 2]"
        )
    return found
