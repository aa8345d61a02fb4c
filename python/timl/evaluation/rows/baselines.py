"""Rows of classifiers that learn from the labels of the benchmark alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from timl.baselines import (
    TemporalCNN,
    cross_validated_logistic_regression,
    extra_trees,
    gradient_boosting,
    logistic_regression,
    nearest_class_mean,
    random_forest,
)
from timl.data import BenchmarkTask, TaskSet
from timl.evaluation.rows.features import (
    DESCRIPTION,
    SERIES,
    class_weights,
    features_by_data,
    require_features,
)
from timl.evaluation.rows.row import Prepared, Row, Settings


class _Baseline(NamedTuple):
    make: Callable[[int], Any]
    """Makes a new classifier from a run's seed."""
    deterministic: bool = False
    """Whether it does not depend on the seed."""
    tabular: bool = True
    """Whether it takes rows of any numbers, with sample weights; else series alone."""


BASELINES = {
    "random-forest": _Baseline(random_forest),
    "extra-trees": _Baseline(extra_trees),
    "logistic-regression": _Baseline(lambda _: logistic_regression(), deterministic=True),
    "logistic-regression-cv": _Baseline(
        lambda _: cross_validated_logistic_regression(), deterministic=True
    ),
    "gradient-boosting": _Baseline(gradient_boosting),
    "nearest-class-mean": _Baseline(lambda _: nearest_class_mean(), deterministic=True),
    "temporal-cnn": _Baseline(TemporalCNN, tabular=False),
}
"""Classifiers by the name that a row's file gives."""


@dataclass(frozen=True, kw_only=True)
class BaselineRow(Row):
    """A classifier that is trained on all labels of the benchmark's training set."""

    classifier: str
    """One of `BASELINES`."""
    features: str = SERIES
    """"series" or "description": see `timl.evaluation.rows.features.Features`."""
    balanced: bool = False
    """Whether both classes weigh the same, whatever their numbers of labels."""

    def __post_init__(self) -> None:
        if self.classifier not in BASELINES:
            raise ValueError(
                f"row {self.name!r}: classifier is {self.classifier!r}: choose of "
                f"{', '.join(BASELINES)}"
            )
        require_features(self.name, self.features)
        special = self.balanced or self.features == DESCRIPTION
        if special and not BASELINES[self.classifier].tabular:
            raise ValueError(
                f"row {self.name!r}: classifier is {self.classifier!r}, a network over time: give "
                f"features {SERIES!r} and balanced false"
            )

    @property
    def deterministic(self) -> bool:
        """Whether all runs would give the same predictions."""
        return BASELINES[self.classifier].deterministic

    def prepare(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> Prepared:
        """Prepare nothing."""
        features_of = features_by_data(self.features)

        def adapt(benchmark: BenchmarkTask, seed: int) -> NDArray[np.float64]:
            features = features_of(benchmark.data)
            x, y = benchmark.train_arrays()
            classifier = BASELINES[self.classifier].make(seed)
            if self.balanced:
                classifier.fit(features(x), y, sample_weight=class_weights(y))
            else:
                classifier.fit(features(x), y)
            probability: NDArray[np.float64] = classifier.predict_proba(features(benchmark.test.x))
            return probability

        return Prepared(adapt)
