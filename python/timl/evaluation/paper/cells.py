"""Cells of Table 1: the scores of one run of one row on one benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timl.evaluation.runner import CellStore
from timl.evaluation.scores import Reliability, Scores


@dataclass(frozen=True)
class Cell:
    """The scores of one run of one row on one benchmark."""

    row: str
    benchmark: str
    run: int
    seed: int
    """Seed of the run's draws."""
    scores: Scores
    reliability: Reliability
    """Counts for the calibration curve."""
    seconds: float
    """Time of adapting and scoring."""
    training_seconds: float
    """Time of the meta-training that the row's cells share."""
    meta_seed: int = 0
    """Number of the repetition of the meta-training, from 0."""
    size: int | None = None
    """Labels that the row was adapted to, half of them positive; None: all, 0: zero-shot."""


def open_store(folder: Path) -> CellStore[Cell]:
    """Open the finished cells of a table's folder.

    Raises
    ------
    ValueError
        If cells.jsonl holds something else.
    """
    return CellStore(folder / "cells.jsonl", _read)


def _read(stored: dict[str, Any]) -> Cell:
    reliability = tuple((n, k, total) for n, k, total in stored["reliability"])
    return Cell(**{**stored, "scores": Scores(**stored["scores"]), "reliability": reliability})
