"""Rows of simple classifiers that see the other regions' labels and the tasks' 13 numbers too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timl import random
from timl.baselines import GradientBoosting, NearestClassMean
from timl.data import BenchmarkTask, TaskSet
from timl.evaluation.rows.features import SERIES, Features, class_weights, require_features
from timl.evaluation.rows.row import Prepared, Settings, TaskLearningRow
from timl.random import Purpose


def _forest(seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(random_state=seed)


def _extra_trees(seed: int) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(random_state=seed)


def _regression(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=0.1, solver="newton-cholesky", max_iter=100)


_CLASSIFIERS: dict[str, Callable[[int], Any]] = {
    "random-forest": _forest,
    "extra-trees": _extra_trees,
    "logistic-regression": _regression,
    "gradient-boosting": GradientBoosting,
    "nearest-class-mean": lambda _: NearestClassMean(),
}


@dataclass(frozen=True, kw_only=True)
class PooledBaselineRow(TaskLearningRow):
    """A simple classifier on the labels of the target and of the meta-training tasks together.

    The features are those of the series and the task's 13 numbers. Every meta-training task gives
    as many positives as negatives; samples in the target's box are left out, under any label.
    """

    classifier: str
    """"random-forest", "extra-trees", "logistic-regression", "gradient-boosting" or
    "nearest-class-mean"."""
    features: str = SERIES
    """"series" or "description": see `timl.evaluation.rows.features.Features`."""
    balanced: bool = False
    """Whether both classes of the target's labels weigh the same, whatever their numbers."""
    share: float = 0.8
    """Share of the target's labels in the total weight."""
    pool: int = 1500
    """Largest number of samples of the other tasks."""

    def __post_init__(self) -> None:
        if self.classifier not in _CLASSIFIERS:
            raise ValueError(
                f"row {self.name!r}: classifier is {self.classifier!r}: choose of "
                f"{', '.join(_CLASSIFIERS)}"
            )
        require_features(self.name, self.features)
        if not 0 < self.share < 1 or self.pool < 2:
            raise ValueError(
                f"row {self.name!r}: share is {self.share}, pool is {self.pool}: give a share in "
                f"(0, 1) and a pool of at least 2"
            )

    @property
    def deterministic(self) -> bool:
        """Whether all runs would give the same predictions."""
        return self.classifier in ("logistic-regression", "nearest-class-mean")

    def prepare(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> Prepared:
        """Draw the pool."""
        assert tasks is not None
        positions, y, info = _pool(tasks, self.pool, settings.seed)
        labels = tasks.data.labels.set_index("position").loc[positions]
        lat, lon = (labels[name].to_numpy(np.float64) for name in ("lat", "lon"))
        features = Features(tasks.data, self.features)
        x = _with_task(features(tasks.data.series(positions)), info)

        def fitted(
            benchmark: BenchmarkTask, own: NDArray[Any], own_y: NDArray[Any], seed: int
        ) -> NDArray[np.float64]:
            kept = ~benchmark.task.bounding_box.contains(lat, lon)
            weight = np.ones(len(own_y) + int(kept.sum()))
            if len(own_y):
                # the weights sum to the number of the target's rows over its share
                weight[: len(own_y)] = class_weights(own_y) if self.balanced else 1.0
                weight[len(own_y) :] = len(own_y) * (1 / self.share - 1) / max(kept.sum(), 1)
            model = _CLASSIFIERS[self.classifier](seed)
            model.fit(np.concatenate([own, x[kept]]), np.concatenate([own_y, y[kept]]), weight)
            tested = _with_task(features(benchmark.test.x), benchmark.info)
            probability: NDArray[np.float64] = model.predict_proba(tested)[:, 1]
            return probability

        def adapt(benchmark: BenchmarkTask, seed: int) -> NDArray[np.float64]:
            series, labels = benchmark.train_arrays()
            return fitted(benchmark, _with_task(features(series), benchmark.info), labels, seed)

        def zero_shot(benchmark: BenchmarkTask) -> NDArray[np.float64]:
            return fitted(benchmark, x[:0], y[:0], settings.seed)

        return Prepared(adapt, 0.0, zero_shot)


def _pool(
    tasks: TaskSet, size: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int8], NDArray[np.float32]]:
    """Draw positions [n], labels [n] and task numbers [n, 13], as many of each task and class."""
    each = max(1, size // (2 * len(tasks)))
    positions, labels, info = [], [], []
    for i, task in enumerate(tasks):
        for label, members in ((1, tasks.positives[i]), (0, np.unique(tasks.negatives[i]))):
            order = random.permutation(
                len(members),
                seed=seed,
                task=int(tasks.numbers[i]),
                step=label,
                purpose=Purpose.POOL,
            )
            drawn = members[order[:each]]
            positions.append(drawn)
            labels.append(np.full(len(drawn), label, np.int8))
            info.append(np.tile(task.info, (len(drawn), 1)))
    return np.concatenate(positions), np.concatenate(labels), np.concatenate(info)


def _with_task(x: NDArray[Any], info: NDArray[np.float32]) -> NDArray[Any]:
    """Return the numbers of each series and of its task, [n, F]; one task's are for all."""
    numbers = np.broadcast_to(info, (len(x), info.shape[-1]))
    return np.concatenate([x.reshape(len(x), -1), numbers], axis=1)
