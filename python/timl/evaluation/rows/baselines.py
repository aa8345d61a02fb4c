"""Rows of classifiers that learn from the labels of the benchmark alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from timl.baselines import (
    TemporalCNN,
    cross_validated_logistic_regression,
    gradient_boosting,
    logistic_regression,
    nearest_class_mean,
    random_forest,
)
from timl.data import BenchmarkTask, TaskSet
from timl.evaluation.rows.row import Prepared, Row, Settings


class _Classifier(Protocol):
    def fit(self, x: ArrayLike, y: ArrayLike) -> Any: ...
    def predict_proba(self, x: ArrayLike) -> NDArray[np.float64]: ...


class _Baseline(NamedTuple):
    make: Callable[[int], _Classifier]
    """Makes a new classifier from a run's seed."""
    deterministic: bool = False
    """Whether it does not depend on the seed."""


BASELINES = {
    "random-forest": _Baseline(random_forest),
    "logistic-regression": _Baseline(lambda _: logistic_regression(), deterministic=True),
    "logistic-regression-cv": _Baseline(
        lambda _: cross_validated_logistic_regression(), deterministic=True
    ),
    "gradient-boosting": _Baseline(gradient_boosting),
    "nearest-class-mean": _Baseline(lambda _: nearest_class_mean(), deterministic=True),
    "temporal-cnn": _Baseline(TemporalCNN),
}
"""Classifiers by the name that a row's file gives."""


@dataclass(frozen=True, kw_only=True)
class BaselineRow(Row):
    """A classifier that is trained on all labels of the benchmark's training set."""

    classifier: str
    """One of `BASELINES`."""

    def __post_init__(self) -> None:
        if self.classifier not in BASELINES:
            raise ValueError(
                f"row {self.name!r}: classifier is {self.classifier!r}: choose of "
                f"{', '.join(BASELINES)}"
            )

    @property
    def deterministic(self) -> bool:
        """Whether all runs would give the same predictions."""
        return BASELINES[self.classifier].deterministic

    def prepare(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> Prepared:
        """Prepare nothing."""

        def adapt(benchmark: BenchmarkTask, seed: int) -> NDArray[np.float64]:
            classifier = BASELINES[self.classifier].make(seed)
            classifier.fit(*benchmark.train_arrays())
            return classifier.predict_proba(benchmark.test.x)

        return Prepared(adapt)
