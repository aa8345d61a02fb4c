"""Experiments: jobs that may need a training first, and completing those that are missing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from timl.evaluation.runner.jobs import Workers, remove_sent_functions
from timl.evaluation.runner.progress import progress_bar, show_estimate
from timl.evaluation.runner.store import CellStore
from timl.evaluation.runner.worker import on_one_thread

Job = TypeVar("Job")
Cell = TypeVar("Cell")

_FEW = 100
"""So few jobs are computed without an estimate of their time, which takes some itself."""


class Training(NamedTuple):
    """A training that several jobs share."""

    row: str
    """Name of the row that is trained."""
    part: int
    """Number of the part of the experiment: a repetition of the training, or a fold."""


class Experiment(ABC, Generic[Job, Cell]):
    """What the jobs of one experiment share; every worker process has its own copy.

    A copy is made by pickling, once in a process. What can be made again from files (prepared
    rows, trained models) does not belong into it.
    """

    @abstractmethod
    def training(self, job: Job) -> Training | None:
        """Return the training whose files a job reads, or None."""

    @abstractmethod
    def train(self, training: Training, progress: bool) -> None:
        """Do a training, or go on with it, and leave its files for other processes."""

    def seconds_of(self, jobs: Sequence[Job]) -> float | None:
        """Return about how many seconds of one process jobs and trainings take; None: unknown."""
        return None

    @abstractmethod
    def compute(self, job: Job) -> list[Cell]:
        """Compute the cells of a job. They depend on nothing but the job and the experiment."""


class _TrainingJob(NamedTuple):
    training: Training
    in_caller: bool
    """Whether it runs in the calling process, on the threads that PyTorch is set to."""
    progress: bool


def complete(
    experiment: Experiment[Job, Cell],
    jobs: Mapping[str, Job],
    store: CellStore[Cell],
    folder: Path,
    workers: int,
    progress: bool,
) -> None:
    """Compute the jobs that the store does not hold: the trainings that they need, then they.

    With several workers, jobs that need no training fill the time until the last training ends.

    Parameters
    ----------
    experiment
        What the jobs share.
    jobs
        All jobs of the experiment by the key that the store keeps their cells under.
    store
        Gets the cells of every job as it is finished.
    folder
        The experiment's folder, which all workers must be able to read and no other call uses.
    workers
        Number of processes, as of `worker_count`.
    progress
        Whether to show bars.

    Raises
    ------
    ValueError
        If the experiment cannot be sent to other processes.
    RuntimeError
        If a worker process dies.
    """
    remove_sent_functions(folder)
    missing = {key: job for key, job in jobs.items() if key not in store}
    needed = {key: experiment.training(job) for key, job in missing.items()}
    trainings = list(dict.fromkeys(training for training in needed.values() if training))
    untrained = [key for key, training in needed.items() if training is None]
    early = untrained if workers > 1 else []
    late = [key for key in missing if key not in set(early)]
    if progress and len(missing) > _FEW:
        seconds = experiment.seconds_of(list(missing.values()))
        if seconds is not None:
            show_estimate(seconds, len(trainings), len(missing), workers)
    here = min(workers, len(trainings) + len(early)) == 1
    first = [(None, _TrainingJob(training, here, progress and here)) for training in trainings]
    phases: list[tuple[str, list[tuple[str | None, Any]]]] = [
        ("training", [*first, *((key, missing[key]) for key in early)]),
        ("cells", [(key, missing[key]) for key in late]),
    ]
    with Workers(partial(_do, experiment), folder, workers) as processes:
        for title, keyed in phases:
            # a training in this process shows a bar of its own
            shown = progress and not (title == "training" and here)
            with (
                progress_bar(title, len(keyed), shown) as advance,
                closing(processes.run([job for _, job in keyed])) as results,
            ):
                for number, cells in results:
                    key = keyed[number][0]
                    if key is not None:
                        store.add(key, cells)
                    advance()


def _do(experiment: Experiment[Any, Cell], job: Any) -> list[Cell]:
    """Do a training, which has no cells, or compute the cells of a job."""
    if not isinstance(job, _TrainingJob):
        with on_one_thread():
            return experiment.compute(job)
    # the bits of a training do not depend on the number of threads, its speed does
    with nullcontext() if job.in_caller else on_one_thread():
        experiment.train(job.training, job.progress)
    return []
