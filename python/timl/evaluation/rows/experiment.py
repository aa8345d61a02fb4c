"""Experiments whose jobs adapt rows: each row is prepared once in a process."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from timl.data import TaskSet
from timl.evaluation.rows.row import Prepared, Row, Settings
from timl.evaluation.runner import Experiment, Training
from timl.evaluation.runner.worker import PATIENCE
from timl.files import wait_for_folder

Job = TypeVar("Job")
Cell = TypeVar("Cell")


class Shared(NamedTuple):
    """What all jobs of one row in one part of an experiment share."""

    settings: Settings
    tasks: TaskSet | None
    """The tasks to meta-train on."""
    folder: Path
    """Where the row keeps its files."""


@dataclass(kw_only=True)
class RowExperiment(Experiment[Job, Cell], Generic[Job, Cell]):
    """An experiment on rows, in parts that each prepare every row anew.

    Parameters
    ----------
    rows
        The rows by name.
    folder
        The experiment's folder.
    """

    rows: Mapping[str, Row]
    folder: Path
    _prepared: dict[Training, Prepared] = field(default_factory=dict, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        # another process prepares the rows again, from the files of those that are trained
        return {**self.__dict__, "folder": self.folder.resolve(), "_prepared": {}}

    @abstractmethod
    def row_and_part(self, job: Job) -> Training:
        """Return the name of the row that a job adapts, and the part of the experiment."""

    @abstractmethod
    def shared(self, row: str, part: int) -> Shared:
        """Return what a row is prepared from in a part of the experiment."""

    def training(self, job: Job) -> Training | None:
        """Return the training of the job's row, where the row is trained."""
        wanted = self.row_and_part(job)
        return wanted if self.rows[wanted.row].meta_trained else None

    def train(self, training: Training, progress: bool) -> None:
        """Prepare a row, which leaves the files of its training."""
        # workers of a call that was killed may be at it for some seconds
        wait_for_folder(self.shared(*training).folder, 2 * PATIENCE)
        self._prepare(training, progress)

    def prepared(self, job: Job) -> Prepared:
        """Return the row that a job adapts, prepared once in this process."""
        return self._prepare(self.row_and_part(job), progress=False)

    def _prepare(self, wanted: Training, progress: bool) -> Prepared:
        if wanted not in self._prepared:
            settings, tasks, folder = self.shared(*wanted)
            self._prepared[wanted] = self.rows[wanted.row].prepare(
                settings, tasks, folder, progress
            )
        return self._prepared[wanted]
