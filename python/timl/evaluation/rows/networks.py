"""Rows of networks: from random weights, pre-trained on all crops, and meta-trained."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from timl.data import BenchmarkTask, TaskSet
from timl.defaults import FINE_TUNING_K
from timl.evaluation.rows.row import Prepared, Row, Settings
from timl.files import atomic_write, read_json
from timl.meta import finetune, meta_train
from timl.meta.configuration import checksum
from timl.meta.pretraining import pooled_crops, pretrain
from timl.nn import TIML, Classifier, checked_device, seeded
from timl.normalization import normalization_of

_LEARNING_RATE = 1e-3
"""Size of the steps of meta-training's inner loop and of fine-tuning."""
_PRE_TRAINING = "pretraining.json"


@dataclass(frozen=True, kw_only=True)
class ScratchRow(Row):
    """The network from new weights in every run, fine-tuned as the others; identity FiLM."""

    def configuration(self, settings: Settings, tasks: TaskSet | None) -> dict[str, Any]:
        """Return the row and the steps of fine-tuning."""
        return {
            **super().configuration(settings, tasks),
            "steps": settings.steps,
            **settings.on_device,
        }

    def prepare(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> Prepared:
        """Prepare nothing."""

        def adapt(benchmark: BenchmarkTask, seed: int) -> Classifier:
            with seeded(seed):
                classifier = Classifier()
            return _fine_tuned(classifier, benchmark, settings, seed)

        return Prepared(adapt)


@dataclass(frozen=True, kw_only=True)
class _TrainedRow(Row):
    """A row that is trained once on the meta-training tasks."""

    @property
    def meta_trained(self) -> bool:
        """Whether the row is trained on the meta-training tasks."""
        return True

    def training_steps(self, settings: Settings) -> int:
        """Return the number of epochs, which the training may end before."""
        return settings.epochs

    def with_training_steps(self, settings: Settings, steps: int) -> tuple[Row, Settings]:
        """Return the row and the settings with so many epochs."""
        return self, dataclasses.replace(settings, epochs=steps)

    def configuration(self, settings: Settings, tasks: TaskSet | None) -> dict[str, Any]:
        """Return the row, the settings and the tasks."""
        assert tasks is not None
        return {
            **super().configuration(settings, tasks),
            **settings.described(),
            "tasks": [dataclasses.asdict(task) for task in tasks],
        }


@dataclass(frozen=True, kw_only=True)
class CropPreTrainingRow(_TrainedRow):
    """The network trained on all tasks' samples as crop versus non-crop, then fine-tuned."""

    learning_rate: float = 1e-3
    """Learning rate of Adam in pre-training."""
    batch: int = 64
    """Number of series in a batch of pre-training."""
    patience: int = 10
    """Number of epochs without a better validation loss before pre-training ends."""

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
            **settings.on_device,
        }
        record = folder / _PRE_TRAINING
        stored = read_json(record, "remove it to train anew") if record.is_file() else None
        if isinstance(stored, dict) and stored.get("run") == wanted:
            classifier = Classifier.from_pretrained(folder)
        else:
            start = time.perf_counter()
            with seeded(settings.seed):
                classifier = Classifier()
            classifier.to(checked_device(settings.device))
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
            return _fine_tuned(classifier, benchmark, settings, seed)

        return Prepared(adapt, stored["seconds"], partial(_without_labels, classifier))


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
            raise ValueError(
                f"row {self.name!r}: encoder and append_information are both true: give one"
            )
        if self.head_only and self.learned_step_sizes:
            raise ValueError(
                f"row {self.name!r}: head_only and learned_step_sizes are both true: give one"
            )

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
        rates: float | list[float] = _LEARNING_RATE
        if self.head_only:  # the last two tensors are the last layer's weight and bias
            tensors = len(list(model.classifier.parameters()))
            rates = [0.0] * (tensors - 2) + [_LEARNING_RATE] * 2
        options = {} if self.forgetting else {"forgetting_threshold": None}
        seconds = _meta_train(
            model,
            tasks,
            settings,
            folder,
            progress,
            inner_lr=rates,
            first_order=self.first_order,
            **options,
        )
        if model.log_step_sizes is not None:
            rates = model.log_step_sizes[-1].exp().tolist()

        def adapt(benchmark: BenchmarkTask, seed: int) -> Classifier:
            rarer = min(len(benchmark.positives), len(benchmark.negatives))
            return _fine_tuned(
                model,
                benchmark,
                settings,
                seed,
                k=min(FINE_TUNING_K, rarer),  # what `finetune` would do, with a warning
                learning_rate=rates,
            )

        return Prepared(adapt, seconds, partial(_without_labels, model))


def _meta_train(
    model: TIML,
    tasks: TaskSet,
    settings: Settings,
    folder: Path,
    progress: bool,
    **options: Any,
) -> float:
    """Meta-train a model as a table's settings say, and return the seconds of all sessions."""
    history = meta_train(
        model,
        tasks,
        epochs=settings.epochs,
        kernel_steps=0,
        seed=settings.seed,
        device=settings.device,
        first_batch_of_one=settings.as_published_code,
        validation_moves_statistics=settings.as_published_code,
        out=folder,
        progress=progress,
        **options,
    )
    return float(np.nansum(history.seconds))


def _fine_tuned(
    model: Classifier | TIML,
    benchmark: BenchmarkTask,
    settings: Settings,
    seed: int,
    **options: Any,
) -> Classifier:
    """Fine-tune a model on a benchmark as a table's settings say."""
    classifier: Classifier = finetune(
        model,
        benchmark,
        protocol="paper",
        steps=settings.steps,
        seed=seed,
        device=settings.device,
        **options,
    )
    return classifier


def _without_labels(model: Classifier | TIML, benchmark: BenchmarkTask) -> Classifier:
    """Return the classifier that a benchmark starts from."""
    return finetune(model, benchmark, protocol="paper", steps=0)


def _withheld(tasks: TaskSet) -> list[dict[str, Any]]:
    """Return the benchmarks' tasks, whose samples `pooled_crops` leaves out, as JSON takes."""
    return [dataclasses.asdict(benchmark.task) for benchmark in tasks.data.benchmarks]
