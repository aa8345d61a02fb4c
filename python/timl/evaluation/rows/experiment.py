"""Experiments whose jobs adapt rows: each row is prepared once in a process."""

from __future__ import annotations

import tempfile
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from timl.data import TaskSet
from timl.evaluation.rows.row import Prepared, Row, Settings
from timl.evaluation.runner import Experiment, Training
from timl.evaluation.runner.worker import PATIENCE, on_one_thread
from timl.files import wait_for_folder

Job = TypeVar("Job")
Cell = TypeVar("Cell")

_TRIAL_STEPS = 4
"""Steps of the longer of two short trainings, which tell how long all steps take."""
_LONG = 1.0
"""Seconds from which on a trial is not done twice."""


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

    def seconds_of(self, jobs: Sequence[Job]) -> float | None:
        """Return about how many seconds of one process jobs and their trainings take.

        Every row is trained for one and for a few steps and adapted for one of its jobs, and the
        rest is taken to be alike. Trainings that have a folder count as finished.
        """
        by_row: dict[str, list[Job]] = {}
        for job in jobs:
            by_row.setdefault(self.row_and_part(job).row, []).append(job)
        with tempfile.TemporaryDirectory() as folder, on_one_thread():
            return sum(self._trial(own, Path(folder)) for own in by_row.values())

    def _trial(self, jobs: Sequence[Job], folder: Path) -> float:
        """Return about how many seconds the jobs of one row and its trainings take."""
        chosen = jobs[len(jobs) // 2]
        wanted = self.row_and_part(chosen)
        row, shared = self.rows[wanted.row], self.shared(*wanted)

        def prepare(steps: int) -> tuple[float, Prepared]:
            start = time.perf_counter()
            short, settings = row.with_training_steps(shared.settings, steps)
            made = short.prepare(settings, shared.tasks, folder / f"{row.name}-{steps}", False)
            return time.perf_counter() - start, made

        steps = row.training_steps(shared.settings)
        training, prepared = prepare(min(steps, 1))
        if steps > _TRIAL_STEPS:
            longer, _ = prepare(_TRIAL_STEPS)
            training += max(longer - training, 0) / (_TRIAL_STEPS - 1) * (steps - 1)
        parts = {self.row_and_part(job) for job in jobs}
        untrained = sum(not self.shared(*part).folder.exists() for part in parts)
        earlier = self._prepared.get(wanted)
        self._prepared[wanted] = prepared
        try:
            for _ in range(2):  # the first time imports what is needed, maybe
                start = time.perf_counter()
                self.compute(chosen)
                adapting = time.perf_counter() - start
                if adapting > _LONG:
                    break
        finally:
            del self._prepared[wanted]
            if earlier is not None:
                self._prepared[wanted] = earlier
        return untrained * training + len(jobs) * adapting

    def _prepare(self, wanted: Training, progress: bool) -> Prepared:
        if wanted not in self._prepared:
            settings, tasks, folder = self.shared(*wanted)
            self._prepared[wanted] = self.rows[wanted.row].prepare(
                settings, tasks, folder, progress
            )
        return self._prepared[wanted]
