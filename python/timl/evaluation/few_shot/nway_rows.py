"""Rows of the N-way benchmark: what learns classes from few labels, and from other regions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from timl.baselines.classical import boosted_trees
from timl.data import TaskSet, nway_tasks_of
from timl.defaults import FINE_TUNING_K, FINE_TUNING_STEPS
from timl.evaluation.few_shot.nway_tasks import NWayFewShotTask
from timl.evaluation.prediction import logits
from timl.evaluation.rows import (
    EstimatorRow,
    Prepared,
    Row,
    Settings,
    StrongRow,
    named,
    row_of,
)
from timl.evaluation.rows.features import DESCRIPTION, SERIES, features_by_data, require_features
from timl.evaluation.rows.row import Adapt, TaskLearningRow
from timl.meta import fit_strong_classes, meta_train
from timl.meta.finetuning import descend
from timl.nn import TIML, Classifier, StrongClassifier, on_device, seeded
from timl.normalization import normalization_of

AdaptClasses: TypeAlias = Callable[[NWayFewShotTask, int], NDArray[np.int64]]
"""From a task and a seed to the predicted classes of its test samples, int64 [n]."""

_LEARNING_RATE = 0.1
"""Size of the steps of the inner loop and of fine-tuning, which start from a layer of zeros."""
_K, _QUERY = 5, 5
"""Samples of each class in a support and a query set of meta-training."""


def prepared(adapt: AdaptClasses, seconds: float = 0.0) -> Prepared:
    """Return a row that is ready to be adapted to tasks of several classes."""
    return Prepared(cast(Adapt, adapt), seconds)


@dataclass(frozen=True, kw_only=True)
class ClassesBaselineRow(Row):
    """A classifier of scikit-learn that learns from the task's labels alone."""

    several_classes: ClassVar[bool] = True
    classifier: str
    """One of `CLASSIFIERS`."""
    features: str = SERIES
    """"series" or "description": see `timl.evaluation.rows.features.Features`."""
    balanced: bool = False
    """Whether all classes weigh the same, whatever their numbers of labels."""

    def __post_init__(self) -> None:
        if self.classifier not in CLASSIFIERS:
            raise ValueError(
                f"row {self.name!r}: classifier is {self.classifier!r}: choose of "
                f"{', '.join(CLASSIFIERS)}"
            )
        require_features(self.name, self.features)

    def prepare(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> Prepared:
        """Prepare nothing."""

        def fitted(train: NDArray[np.floating], y: NDArray[np.int64], seed: int) -> Any:
            return CLASSIFIERS[self.classifier](seed, len(y), self.balanced).fit(train, y)

        return _predicting(self.name, self.features, fitted)


@dataclass(frozen=True, kw_only=True)
class ClassesEstimatorRow(EstimatorRow):
    """An estimator that others bring, asked for the class of each test sample."""

    several_classes: ClassVar[bool] = True

    def prepare(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> Prepared:
        """Prepare nothing."""
        return _predicting(self.name, self.features, self.fitted)


@dataclass(frozen=True, kw_only=True)
class StrongClassesRow(StrongRow):
    """The strong protocol, fitted to all classes at once."""

    several_classes: ClassVar[bool] = True

    def prepare(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> Prepared:
        """Learn the deep kernel, or read it."""
        kernel, seconds = self.kernel(settings, tasks, folder, progress)

        def adapt(task: NWayFewShotTask, seed: int) -> NDArray[np.int64]:
            classifier = fit_strong_classes(
                kernel,
                *task.train_arrays,
                task.task.classes,
                normalization=normalization_of(task.data),
                classification_labels=task.task.classification_labels,
                seed=seed,
            )
            return _decisions(on_device(classifier, settings.device), task)

        return prepared(adapt, seconds)


@dataclass(frozen=True, kw_only=True)
class NWayMetaTrainedRow(TaskLearningRow):
    """A model that is meta-trained on N-way episodes and fine-tuned from a layer of zeros."""

    several_classes: ClassVar[bool] = True
    encoder: bool = True
    """Whether the model has a task encoder."""
    ways: int = 5
    """Number N of classes of an episode."""
    learning_rate: float = _LEARNING_RATE
    """Size of the steps of the inner loop and of fine-tuning."""
    steps: int = FINE_TUNING_STEPS
    """Steps of fine-tuning."""

    @property
    def zero_shot(self) -> bool:
        """Whether the row can be scored without labels."""
        return False

    def training_steps(self, settings: Settings) -> int:
        """Return the number of epochs."""
        return settings.epochs

    def with_training_steps(self, settings: Settings, steps: int) -> tuple[Row, Settings]:
        """Return the row and the settings with so many epochs."""
        return self, dataclasses.replace(settings, epochs=steps)

    def configuration(self, settings: Settings, tasks: TaskSet | None) -> dict[str, Any]:
        """Return the row, the settings and the tasks."""
        described = settings.described()
        return {**super().configuration(settings, tasks), **described, "k": [_K, _QUERY]}

    def prepare(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> Prepared:
        """Meta-train, or go on with it, or read what came of it."""
        assert tasks is not None
        with seeded(settings.seed):
            model = TIML(encoder=self.encoder, outputs=self.ways)
        history = meta_train(
            model,
            nway_tasks_of(tasks, self.ways, k=_K, query=_QUERY),
            epochs=settings.epochs,
            k=_K,
            query=_QUERY,
            inner_lr=self.learning_rate,
            forgetting_threshold=None,
            kernel_steps=0,
            seed=settings.seed,
            device=settings.device,
            out=folder,
            progress=progress,
        )

        def adapt(task: NWayFewShotTask, seed: int) -> NDArray[np.int64]:
            x, y = task.train_arrays
            classifier = model.for_task(task.task.info).with_outputs(len(task.train))
            classifier.normalization = normalization_of(task.data)
            descend(
                classifier,
                x,
                y,
                steps=self.steps,
                k=min(FINE_TUNING_K, *map(len, task.train)),
                learning_rate=self.learning_rate,
                seed=seed,
            )
            return _decisions(classifier, task)

        return prepared(adapt, float(np.nansum(history.seconds)))


def _predicting(
    name: str,
    kind: str,
    fitted: Callable[[NDArray[np.floating], NDArray[np.int64], int], Any],
) -> Prepared:
    """Return a row that asks a fitted classifier for the class of each test sample.

    Parameters
    ----------
    name
        Name of the row.
    kind
        Kind of features, which it gets as rows of numbers [n, T * F].
    fitted
        From rows of numbers, their classes [n] and a seed to a fitted classifier.
    """
    features_of = features_by_data(kind)

    def adapt(task: NWayFewShotTask, seed: int) -> NDArray[np.int64]:
        features = features_of(task.data)
        x, y = task.train_arrays
        test = features.rows(task.test_arrays[0])
        predicted = np.asarray(fitted(features.rows(x), y, seed).predict(test))
        if predicted.shape != (len(test),):
            raise ValueError(
                f"row {name!r}: predict returned shape {list(predicted.shape)} for "
                f"{len(test)} series: return [{len(test)}]"
            )
        return predicted.astype(np.int64)

    return prepared(adapt)


def _decisions(
    classifier: Classifier | StrongClassifier, task: NWayFewShotTask
) -> NDArray[np.int64]:
    """Return the class of the largest logit of each test sample, [n]."""
    return np.asarray(logits(classifier, task.test_arrays[0]).argmax(axis=1), np.int64)


def _random_forest(seed: int, labels: int, balanced: bool) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(random_state=seed, class_weight=_weight(balanced))


def _extra_trees(seed: int, labels: int, balanced: bool) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(random_state=seed, class_weight=_weight(balanced))


def _logistic_regression(seed: int, labels: int, balanced: bool) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=0.1, max_iter=1000, class_weight=_weight(balanced))


def _gradient_boosting(seed: int, labels: int, balanced: bool) -> Any:
    return boosted_trees(labels, seed).set_params(class_weight=_weight(balanced))


def _nearest_class_mean(seed: int, labels: int, balanced: bool) -> Any:
    from sklearn.neighbors import NearestCentroid

    return NearestCentroid()


def _weight(balanced: bool) -> str | None:
    return "balanced" if balanced else None


CLASSIFIERS: dict[str, Callable[[int, int, bool], Any]] = {
    "random-forest": _random_forest,
    "extra-trees": _extra_trees,
    "logistic-regression": _logistic_regression,
    "gradient-boosting": _gradient_boosting,
    "nearest-class-mean": _nearest_class_mean,
}
"""Makers of classifiers from a seed, the number of labels and whether all classes weigh alike."""

NWAY_ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        ClassesBaselineRow(name="random-forest", title="Random Forest", classifier="random-forest"),
        ClassesBaselineRow(
            name="logistic-regression-described",
            title="Logistic regression on the description",
            classifier="logistic-regression",
            features=DESCRIPTION,
            balanced=True,
        ),
        ClassesBaselineRow(
            name="gradient-boosting",
            title="Gradient boosting",
            classifier="gradient-boosting",
        ),
        ClassesBaselineRow(
            name="nearest-class-mean", title="Nearest class mean", classifier="nearest-class-mean"
        ),
        ClassesBaselineRow(
            name="extra-trees-described",
            title="Extra trees on the description",
            classifier="extra-trees",
            features=DESCRIPTION,
            balanced=True,
        ),
        NWayMetaTrainedRow(name="maml", title="MAML", encoder=False),
        NWayMetaTrainedRow(name="timl", title="TIML"),
        StrongClassesRow(
            name="strong-without-learning",
            title="Strong protocol, nothing learned elsewhere",
            learned="nothing",
        ),
        StrongClassesRow(name="strong", title="Strong protocol"),
    )
}
"""The rows of the N-way benchmark by name, in its order."""


def find_nway_rows(rows: Sequence[Any] | None, ways: int | None) -> list[Row]:
    """Return rows as given, those that are meta-trained with so many ways.

    Parameters
    ----------
    rows
        Names of `NWAY_ROWS`; estimators in scikit-learn's manner, their classes or
        "module:name", as of `timl.table1`; rows with `several_classes`. None: all of `NWAY_ROWS`.
    ways
        Classes of an episode; None: as the rows have it.

    Raises
    ------
    ValueError
        If there is no row of a name, none is given, two have one name, or one tells two classes
        apart only.
    """
    chosen: list[Row] = []
    for row in NWAY_ROWS if rows is None else rows:
        if isinstance(row, str) and row not in NWAY_ROWS and ":" not in row:
            raise ValueError(
                f"rows holds {row!r}: choose of {', '.join(NWAY_ROWS)}, or give module:name of an "
                f"estimator"
            )
        chosen.append(NWAY_ROWS[row] if isinstance(row, str) and row in NWAY_ROWS else row_of(row))
    return [_of_several_classes(row, ways) for row in named(chosen)]


def _of_several_classes(row: Row, ways: int | None) -> Row:
    """Return a row of the N-way benchmark that is, or does the same as, one that is given."""
    if type(row) is EstimatorRow:
        options = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
        return ClassesEstimatorRow(**options)
    if not row.several_classes:
        raise ValueError(
            f"row {row.name!r} is a {type(row).__name__}, which tells two classes apart: give "
            f"estimators, or of {', '.join(NWAY_ROWS)}"
        )
    if ways is not None and isinstance(row, NWayMetaTrainedRow):
        return dataclasses.replace(row, ways=ways)
    return row
