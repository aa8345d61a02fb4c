"""Experiments whose parts are folds of held-out regions: what the two benchmarks have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from timl.evaluation.few_shot.folds import FewShotFold
from timl.evaluation.rows import Row, RowExperiment, Settings
from timl.evaluation.rows.experiment import Shared
from timl.evaluation.runner import Training, software_versions
from timl.meta.configuration import checksum

Cell = TypeVar("Cell")


class FoldJob(NamedTuple):
    """A row on one task: all its divisions and budgets."""

    row: str
    fold: int
    """Place of the fold among those computed."""
    task: int
    """Number of the task in the fold."""


@dataclass(kw_only=True)
class FoldExperiment(RowExperiment[FoldJob, Cell]):
    """An experiment in parts that are the folds.

    Parameters
    ----------
    folds
        The folds.
    settings
        Settings of the trainings.
    budgets
        Labels per class; None: all.
    draws
        Divisions of each task.
    random_splits
        Whether tasks are divided at random, too.
    """

    folds: Sequence[FewShotFold]
    settings: Settings
    budgets: tuple[int | None, ...]
    draws: int
    random_splits: bool = False

    def row_and_part(self, job: FoldJob) -> Training:
        """Return the job's row and the place of its fold."""
        return Training(job.row, job.fold)

    def shared(self, row: str, part: int) -> Shared:
        """Return the settings, the tasks to train on when a fold is held out, and a folder."""
        fold = self.folds[part]
        return Shared(self.settings, fold.training, self.folder / f"{row}-{fold.number}")

    def described(self, row: Row, fold: FewShotFold) -> dict[str, Any]:
        """Return all that a row's scores on the tasks of a fold depend on, but for the task."""
        return {
            "row": row.name,
            "configuration": row.configuration(self.settings, fold.training),
            "training": checksum(fold.training) if row.meta_trained else None,
            "data": fold.training.data.checksum,
            "split": [
                fold.number,
                fold.held_out,
                fold.seed,
                fold.block_km,
                fold.distance_km,
                fold.least_test,
                fold.most_test,
            ],
            "budgets": self.budgets,
            "draws": [self.draws, self.random_splits],
            "versions": software_versions(),
        }
