"""The rows of Table 1: what each trains before it is scored."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timl.baselines import Baseline, logistic_regression, random_forest
from timl.data import BenchmarkTask, TaskSet
from timl.meta import finetune, meta_train
from timl.nn import TIML, Classifier, seeded

Adapt = Callable[[BenchmarkTask, int], Classifier | NDArray[np.float64]]
"""From a benchmark and a run's seed to an adapted classifier, or its predictions."""


@dataclass(frozen=True)
class Settings:
    """What the rows of one table share."""

    epochs: int
    """Epochs of meta-training."""
    steps: int
    """Steps of fine-tuning."""
    seed: int
    """Seed of the meta-training."""


@dataclass(frozen=True)
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
        """Whether the row needs tasks to meta-train on."""
        return False

    @abstractmethod
    def configuration(self, settings: Settings, tasks: TaskSet | None) -> dict[str, Any]:
        """Return all that its predictions depend on but data, benchmark and run, as JSON takes."""

    @abstractmethod
    def prepare(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> tuple[Adapt, float]:
        """Do what all runs share, keeping its files in the folder.

        Returns
        -------
        adapt : callable
            Adapts to one benchmark in one run.
        seconds : float
            What the meta-training took, earlier sessions included; 0 without any.
        """


@dataclass(frozen=True)
class BaselineRow(Row):
    """A classifier that is trained on all labels of the benchmark's training set."""

    build: Callable[[int], Baseline]
    """From a seed to the classifier."""
    seeded: bool
    """Whether the seed matters."""

    @property
    def deterministic(self) -> bool:
        """Whether all runs would give the same predictions."""
        return not self.seeded

    def configuration(self, settings: Settings, tasks: TaskSet | None) -> dict[str, Any]:
        """Return the name: scikit-learn's version says the rest."""
        return {"row": self.name}

    def prepare(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> tuple[Adapt, float]:
        """Prepare nothing."""

        def adapt(benchmark: BenchmarkTask, seed: int) -> NDArray[np.float64]:
            baseline = self.build(seed).fit(*benchmark.train_arrays())
            return baseline.predict_proba(benchmark.test.x)

        return adapt, 0.0


@dataclass(frozen=True)
class ScratchRow(Row):
    """The network from new weights in every run, fine-tuned as the others; identity FiLM."""

    def configuration(self, settings: Settings, tasks: TaskSet | None) -> dict[str, Any]:
        """Return the name and the steps of fine-tuning."""
        return {"row": self.name, "steps": settings.steps}

    def prepare(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> tuple[Adapt, float]:
        """Prepare nothing."""

        def adapt(benchmark: BenchmarkTask, seed: int) -> Classifier:
            with seeded(seed):
                classifier = Classifier()
            return finetune(classifier, benchmark, steps=settings.steps, seed=seed)

        return adapt, 0.0


@dataclass(frozen=True)
class MetaTrainedRow(Row):
    """A model that is meta-trained once and fine-tuned in every run."""

    encoder: bool
    """Whether the model has a task encoder."""

    @property
    def meta_trained(self) -> bool:
        """Whether the row needs tasks to meta-train on."""
        return True

    def configuration(self, settings: Settings, tasks: TaskSet | None) -> dict[str, Any]:
        """Return the name, the settings and the tasks."""
        assert tasks is not None
        return {
            "row": self.name,
            **dataclasses.asdict(settings),
            "tasks": [dataclasses.asdict(task) for task in tasks],
        }

    def prepare(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> tuple[Adapt, float]:
        """Meta-train, or go on with it, or read what came of it."""
        assert tasks is not None
        with seeded(settings.seed):
            model = TIML(encoder=self.encoder)
        history = meta_train(
            model,
            tasks,
            epochs=settings.epochs,
            seed=settings.seed,
            out=folder / self.name,
            progress=progress,
        )

        def adapt(benchmark: BenchmarkTask, seed: int) -> Classifier:
            return finetune(model, benchmark, steps=settings.steps, seed=seed)

        return adapt, float(np.nansum(history.seconds))


ROWS: tuple[Row, ...] = (
    BaselineRow("random-forest", "Random Forest", random_forest, seeded=True),
    BaselineRow(
        "logistic-regression", "Logistic regression", lambda _: logistic_regression(), seeded=False
    ),
    ScratchRow("no-pre-training", "No pre-training"),
    MetaTrainedRow("maml", "MAML", encoder=False),
    MetaTrainedRow("timl", "TIML", encoder=True),
)
"""All rows, in the table's order."""


def find_rows(names: list[str] | None) -> list[Row]:
    """Return the rows of these names, in the table's order; all of them for None.

    Raises
    ------
    ValueError
        There is no row of a name, or no name is given.
    """
    known = [row.name for row in ROWS]
    if names is None:
        return list(ROWS)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(f"no row {', '.join(unknown) or 'is given'}: choose of {', '.join(known)}")
    return [row for row in ROWS if row.name in names]
