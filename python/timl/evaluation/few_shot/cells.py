"""Cells of the few-shot benchmark, kept in a file as they are finished."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from timl.evaluation.runner import CellStore


class Cell(Protocol):
    """What cells of all kinds of tasks have: a dataclass with these fields and scores."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def task(self) -> str:
        """Name of the task."""
        ...

    @property
    def region(self) -> str:
        """Name of the region that the task is in."""
        ...

    @property
    def fold(self) -> int:
        """Number of the fold that held it out."""
        ...

    @property
    def labels(self) -> int | None:
        """Labels per class; None: all."""
        ...


@dataclass(frozen=True)
class FewShotCell:
    """The scores of one row on one division of one task, with one number of labels."""

    row: str
    task: str
    region: str
    """Name of the region that the task is in."""
    survey: str
    """Main survey of the region: regions of one survey are not independent."""
    fold: int
    draw: int
    spatial: bool
    labels: int | None
    """Labels per class; None: all."""
    auc_roc: float
    average_precision: float
    f1: float
    brier: float
    training_samples: int
    test_samples: int
    distance_km: float
    seconds: float
    """Time of adapting and scoring."""
    training_seconds: float
    """Time of the training that the row's cells of one fold share."""


def open_store(folder: Path) -> CellStore[FewShotCell]:
    """Open the finished cells of a benchmark's folder.

    Raises
    ------
    ValueError
        If cells.jsonl holds something else.
    """
    return CellStore(folder / "cells.jsonl", lambda stored: FewShotCell(**stored))
