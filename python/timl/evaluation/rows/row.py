"""What a row is: a way to get from training data to predictions."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from timl.data import BenchmarkTask, TaskSet
from timl.evaluation.rows.given import described, source_digest
from timl.meta.configuration import checksum
from timl.nn import Classifier, StrongClassifier

Adapt = Callable[[BenchmarkTask, int], Classifier | StrongClassifier | NDArray[np.float64]]
"""From a benchmark and a run's seed to an adapted classifier, or its predictions, float64 [n]."""


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
    device: str = "cpu"
    """Device of timl's own models, see `timl.nn.checked_device`."""

    @property
    def on_device(self) -> dict[str, Any]:
        """What results depend on by the device, as JSON takes it: nothing on the CPU."""
        kind = self.device.partition(":")[0]
        return {} if kind == "cpu" else {"device": kind}

    def described(self) -> dict[str, Any]:
        """Return all settings that results depend on, as JSON takes them."""
        found = dataclasses.asdict(self)
        del found["device"]
        return {**found, **self.on_device}


class Prepared(NamedTuple):
    """A row that is ready to be adapted."""

    adapt: Adapt
    """Adapts to one benchmark in one run."""
    seconds: float = 0.0
    """Time of the training that its cells share, earlier sessions included."""
    zero_shot: Callable[[BenchmarkTask], Classifier | NDArray[np.float64]] | None = None
    """Returns a benchmark's classifier or predictions without any of its labels, if the row can."""


@dataclass(frozen=True, kw_only=True)
class Row(ABC):
    """One row: a way to get from training data to predictions."""

    several_classes: ClassVar[bool] = False
    """Whether the row is one of the N-way benchmark: adapts to tasks of several classes."""
    name: str
    """Name in files and on the command line."""
    title: str
    """Name in the printed table."""

    @property
    def deterministic(self) -> bool:
        """Whether all runs would give the same predictions."""
        return False

    @property
    def meta_trained(self) -> bool:
        """Whether the row is trained on the meta-training tasks."""
        return False

    @property
    def zero_shot(self) -> bool:
        """Whether the row can be scored without labels."""
        return self.meta_trained

    def training_steps(self, settings: Settings) -> int:
        """Return the number of epochs or steps that its training has; 0 where it has none."""
        return 0

    def with_training_steps(self, settings: Settings, steps: int) -> tuple[Row, Settings]:
        """Return the row and the settings of a training with so many epochs or steps."""
        return self, settings

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

        It is called once in every process: what another process has finished is read from the
        files.

        Parameters
        ----------
        settings
            Settings of the table.
        tasks
            The tasks to meta-train on, where `meta_trained`.
        folder
            The row's own folder; it may not exist yet.
        progress
            Whether to show bars.
        """


@dataclass(frozen=True, kw_only=True)
class GivenRow(Row):
    """A row of an object that others bring: an estimator, or what makes a network."""

    @property
    @abstractmethod
    def given(self) -> Any:
        """The object."""

    def described(self) -> dict[str, Any]:
        """Return module, class and parameters of the object and the row's options, for provenance.

        A folder of results takes no other under the row's name.
        """
        options = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("name", "title") and getattr(self, field.name) is not self.given
        }
        return {**described(self.given), **options}

    def configuration(self, settings: Settings, tasks: TaskSet | None) -> dict[str, Any]:
        """Return what describes the object, and a digest of its source text."""
        return {
            "method": type(self).__name__,
            "name": self.name,
            **self.described(),
            "source": source_digest(self.given),
        }


def describe_given(rows: Iterable[Row]) -> dict[str, dict[str, Any]]:
    """Return what describes the objects that others bring as rows, by the rows' names."""
    return {row.name: row.described() for row in rows if isinstance(row, GivenRow)}


@dataclass(frozen=True, kw_only=True)
class TaskLearningRow(Row):
    """A row that learns from the meta-training tasks' samples, with no option but the seed."""

    @property
    def meta_trained(self) -> bool:
        """Whether the row uses the meta-training tasks."""
        return True

    def configuration(self, settings: Settings, tasks: TaskSet | None) -> dict[str, Any]:
        """Return the row, the seed and the tasks."""
        assert tasks is not None
        return {
            **super().configuration(settings, tasks),
            "seed": settings.seed,
            "tasks": [dataclasses.asdict(task) for task in tasks],
            "samples": checksum(tasks),
        }
