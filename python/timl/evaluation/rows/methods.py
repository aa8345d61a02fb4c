"""What the rows of Table 1 do: how each gets from training data to predictions."""

from __future__ import annotations

import dataclasses
import json
import time
from abc import ABC, abstractmethod
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
from timl.files import atomic_write
from timl.meta import finetune, meta_train
from timl.meta.configuration import checksum
from timl.meta.pretraining import pooled_crops, pretrain
from timl.nn import TIML, Classifier, StrongClassifier, seeded
from timl.normalization import normalization_of

Adapt = Callable[[BenchmarkTask, int], Classifier | StrongClassifier | NDArray[np.float64]]
"""From a benchmark and a run's seed to an adapted classifier, or its predictions."""

_FORGETTING = 0.95
_PRE_TRAINING = "pretraining.json"


@dataclass(frozen=True)
class Settings:
    """What the rows of one table share."""

    epochs: int
    """Epochs of meta-training."""
    steps: int
    """Steps of fine-tuning."""
    seed: int
    """Seed of the meta-training."""
    as_published_code: bool = False
    """Whether meta-training follows the authors' published code where it differs."""


class Prepared(NamedTuple):
    """A row that is ready to be adapted."""

    adapt: Adapt
    """Adapts to one benchmark in one run."""
    seconds: float = 0.0
    """What the training that its cells share took, earlier sessions included."""
    zero_shot: Callable[[BenchmarkTask], Classifier | NDArray[np.float64]] | None = None
    """Gives a benchmark's classifier or predictions without any of its labels, if the row can."""


@dataclass(frozen=True, kw_only=True)
class Row(ABC):
    """One row: a way to get from training data to predictions."""

    name: str
    """In files, and on the command line."""
    title: str
    """In the printed table."""

    @property
    def deterministic(self) -> bool:
        """Whether all runs would give the same predictions."""
        return False

    @property
    def meta_trained(self) -> bool:
        """Whether the row is trained on the meta-training tasks, and can so be scored zero-shot."""
        return False

    def configuration(self, settings: Settings, tasks: TaskSet | None) -> dict[str, Any]:
        """Return all that its predictions depend on but data, benchmark and run, as JSON takes."""
        described = dataclasses.asdict(self)
        del described["title"]
        return {"method": type(self).__name__, **described}

    @abstractmethod
    def prepare(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> Prepared:
        """Do what all runs share, keeping its files in the folder.

        Parameters
        ----------
        settings
            The table's.
        tasks
            The tasks to meta-train on, where `meta_trained`.
        folder
            The row's own; it may not be there yet.
        progress
            Whether to show bars.
        """


class _Predictor(Protocol):
    def fit(self, x: ArrayLike, y: ArrayLike) -> Any: ...
    def predict_proba(self, x: ArrayLike) -> NDArray[np.float64]: ...


_BASELINES: dict[str, Callable[[int], _Predictor]] = {
    "random-forest": random_forest,
    "logistic-regression": lambda _: logistic_regression(),
    "temporal-cnn": TemporalCNN,
    "logistic-regression-cv": lambda _: cross_validated_logistic_regression(),
    "gradient-boosting": gradient_boosting,
    "nearest-class-mean": lambda _: nearest_class_mean(),
}
_WITHOUT_RANDOMNESS = ("logistic-regression", "logistic-regression-cv", "nearest-class-mean")


@dataclass(frozen=True, kw_only=True)
class BaselineRow(Row):
    """A classifier that is trained on all labels of the benchmark's training set."""

    classifier: str
    """"random-forest", "logistic-regression", "logistic-regression-cv", "gradient-boosting",
    "nearest-class-mean" or "temporal-cnn"."""

    def __post_init__(self) -> None:
        if self.classifier not in _BASELINES:
            raise ValueError(
                f"row {self.name!r}: classifier is {self.classifier!r}, choose of "
                f"{', '.join(_BASELINES)}"
            )

    @property
    def deterministic(self) -> bool:
        """Whether all runs would give the same predictions."""
        return self.classifier in _WITHOUT_RANDOMNESS

    def prepare(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> Prepared:
        """Prepare nothing."""

        def adapt(benchmark: BenchmarkTask, seed: int) -> NDArray[np.float64]:
            baseline = _BASELINES[self.classifier](seed)
            baseline.fit(*benchmark.train_arrays())
            return baseline.predict_proba(benchmark.test.x)

        return Prepared(adapt)


@dataclass(frozen=True, kw_only=True)
class ScratchRow(Row):
    """The network from new weights in every run, fine-tuned as the others; identity FiLM."""

    def configuration(self, settings: Settings, tasks: TaskSet | None) -> dict[str, Any]:
        """Return the row and the steps of fine-tuning."""
        return {**super().configuration(settings, tasks), "steps": settings.steps}

    def prepare(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> Prepared:
        """Prepare nothing."""

        def adapt(benchmark: BenchmarkTask, seed: int) -> Classifier:
            with seeded(seed):
                classifier = Classifier()
            return finetune(
                classifier, benchmark, protocol="paper", steps=settings.steps, seed=seed
            )

        return Prepared(adapt)


@dataclass(frozen=True, kw_only=True)
class _TrainedRow(Row):
    """A row that is trained once on the meta-training tasks."""

    @property
    def meta_trained(self) -> bool:
        """Whether the row is trained on the meta-training tasks."""
        return True

    def configuration(self, settings: Settings, tasks: TaskSet | None) -> dict[str, Any]:
        """Return the row, the settings and the tasks."""
        assert tasks is not None
        return {
            **super().configuration(settings, tasks),
            **dataclasses.asdict(settings),
            "tasks": [dataclasses.asdict(task) for task in tasks],
        }


@dataclass(frozen=True, kw_only=True)
class CropPreTrainingRow(_TrainedRow):
    """The network trained on all tasks' samples as crop versus non-crop, then fine-tuned."""

    learning_rate: float = 1e-3
    """Adam's, in pre-training."""
    batch: int = 64
    """Series in a batch of pre-training."""
    patience: int = 10
    """Epochs without a better validation loss before pre-training ends."""

    def configuration(self, settings: Settings, tasks: TaskSet | None) -> dict[str, Any]:
        """Return the row, the settings, the tasks and what is withheld from the pool."""
        assert tasks is not None
        return {**super().configuration(settings, tasks), "withheld": _withheld(tasks)}

    def prepare(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> Prepared:
        """Pre-train, or read what came of it."""
        assert tasks is not None
        wanted = {
            "learning_rate": self.learning_rate,
            "batch": self.batch,
            "patience": self.patience,
            "epochs": settings.epochs,
            "seed": settings.seed,
            "data": checksum(tasks),
            "withheld": _withheld(tasks),
        }
        record = folder / _PRE_TRAINING
        stored = json.loads(record.read_text("utf-8")) if record.is_file() else None
        if stored is not None and stored["run"] == wanted:
            classifier = Classifier.from_pretrained(folder)
        else:
            start = time.perf_counter()
            with seeded(settings.seed):
                classifier = Classifier()
            x, y = pooled_crops(tasks)
            losses = pretrain(
                classifier,
                x,
                y,
                learning_rate=self.learning_rate,
                batch=self.batch,
                patience=self.patience,
                epochs=settings.epochs,
                seed=settings.seed,
            )
            classifier.normalization = normalization_of(tasks.data)
            classifier.save_pretrained(folder)
            seconds = round(time.perf_counter() - start, 3)
            stored = {
                "run": wanted,
                "series": len(x),
                "validation_loss": losses,
                "seconds": seconds,
            }
            with atomic_write(record, "w") as file:
                file.write(json.dumps(stored, indent=2) + "\n")

        def adapt(benchmark: BenchmarkTask, seed: int) -> Classifier:
            return finetune(
                classifier, benchmark, protocol="paper", steps=settings.steps, seed=seed
            )

        return Prepared(
            adapt, stored["seconds"], lambda b: finetune(classifier, b, protocol="paper", steps=0)
        )


@dataclass(frozen=True, kw_only=True)
class MetaTrainedRow(_TrainedRow):
    """A model that is meta-trained once and fine-tuned in every run."""

    encoder: bool = True
    """Whether the model has a task encoder."""
    append_information: bool = False
    """Whether the task's numbers are appended to the bands of each step instead."""
    forgetting: bool = True
    """Whether learned tasks are dropped from meta-training."""
    first_order: bool = False
    """Whether inner gradients count as constants (FOMAML)."""
    head_only: bool = False
    """Whether only the last dense layer is adapted, in meta-training and fine-tuning (ANIL)."""
    learned_step_sizes: bool = False
    """Whether the sizes of the inner steps are learned, and used in fine-tuning."""

    def __post_init__(self) -> None:
        if self.encoder and self.append_information:
            raise ValueError(f"row {self.name!r}: give encoder or append_information, not both")
        if self.head_only and self.learned_step_sizes:
            raise ValueError(f"row {self.name!r}: give head_only or learned_step_sizes, not both")

    def prepare(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> Prepared:
        """Meta-train, or go on with it, or read what came of it."""
        assert tasks is not None
        with seeded(settings.seed):
            model = TIML(
                encoder=self.encoder,
                append_information=self.append_information,
                learned_steps=1 if self.learned_step_sizes else 0,
            )
        rates: float | list[float] = 1e-3
        if self.head_only:  # the last two tensors are the last layer's weight and bias
            rates = [0.0] * (model.classifier.layers + 2) + [1e-3] * 2
        history = meta_train(
            model,
            tasks,
            epochs=settings.epochs,
            inner_lr=rates,
            first_order=self.first_order,
            forgetting_threshold=_FORGETTING if self.forgetting else None,
            seed=settings.seed,
            first_batch_of_one=settings.as_published_code,
            validation_moves_statistics=settings.as_published_code,
            out=folder,
            progress=progress,
        )
        if model.log_step_sizes is not None:
            rates = model.log_step_sizes[-1].exp().tolist()

        def adapt(benchmark: BenchmarkTask, seed: int) -> Classifier:
            return finetune(
                model,
                benchmark,
                protocol="paper",
                steps=settings.steps,
                learning_rate=rates,
                seed=seed,
            )

        seconds = float(np.nansum(history.seconds))
        return Prepared(adapt, seconds, lambda b: finetune(model, b, protocol="paper", steps=0))


@dataclass(frozen=True, kw_only=True)
class StrongRow(_TrainedRow):
    """TIML, meta-trained as the paper does, and adapted by the strong protocol."""

    def prepare(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> Prepared:
        """Meta-train, or go on with it, or read what came of it."""
        assert tasks is not None
        with seeded(settings.seed):
            model = TIML()
        history = meta_train(
            model,
            tasks,
            epochs=settings.epochs,
            forgetting_threshold=_FORGETTING,
            seed=settings.seed,
            out=folder,
            progress=progress,
        )

        def adapt(benchmark: BenchmarkTask, seed: int) -> StrongClassifier:
            adapted = finetune(model, benchmark, protocol="strong", seed=seed)
            assert isinstance(adapted, StrongClassifier)
            return adapted

        seconds = float(np.nansum(history.seconds))
        return Prepared(adapt, seconds, lambda b: finetune(model, b, protocol="paper", steps=0))


def _withheld(tasks: TaskSet) -> list[dict[str, Any]]:
    """Return the benchmarks' tasks, whose samples `pooled_crops` leaves out, as JSON takes."""
    return [dataclasses.asdict(benchmark.task) for benchmark in tasks.data.benchmarks]


METHODS: dict[str, type[Row]] = {
    "baseline": BaselineRow,
    "no-pre-training": ScratchRow,
    "crop-pre-training": CropPreTrainingRow,
    "meta-training": MetaTrainedRow,
    "strong": StrongRow,
}
"""By the name that a row's file gives."""
