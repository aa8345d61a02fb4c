"""Cells of Table 1, one for each row, benchmark and run, kept in a file as they are finished."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timl.evaluation.scores import Reliability, Scores
from timl.files import atomic_write

_BEGINNING = '{"row": '
_EARLIER_SCORES = {"auc_roc", "f1", "iou", "samples"}


@dataclass(frozen=True)
class Cell:
    """The scores of one run of one row on one benchmark."""

    row: str
    benchmark: str
    run: int
    seed: int
    """Of the run's draws."""
    configuration: str
    """Digest of all else that the scores depend on."""
    scores: Scores
    seconds: float
    """For adapting and scoring."""
    training_seconds: float
    """For the meta-training that the row's cells share."""
    meta_seed: int = 0
    """Which repetition of the meta-training, from 0."""
    size: int | None = None
    """Labels that the row was adapted to, half of them positive; None: all, 0: zero-shot."""
    reliability: Reliability | None = None
    """For the calibration curve; None: of an earlier version, which did not count."""


class CellStore:
    """The finished cells in a file of JSON lines, to which every cell adds its own.

    Cells of other configurations stay in it. Cells of an earlier version, which had fewer scores,
    are not read: they are computed again. So is the last cell if only a part of its line is there,
    as after a power failure.

    Parameters
    ----------
    path : Path
        The file; its folder must exist.

    Raises
    ------
    ValueError
        The file holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cells: dict[tuple[str, int], Cell] = {}
        text = path.read_text("utf-8") if path.exists() else ""
        whole, newline, torn = text.rpartition("\n")
        if not torn.startswith(_BEGINNING[: len(torn)]):
            whole += newline + torn
        lines = whole.splitlines()
        for number, line in enumerate(lines, start=1):
            try:
                stored = json.loads(line)
                if set(stored["scores"]) == _EARLIER_SCORES:
                    continue
                cell = _read(stored)
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(
                    f"{path}, line {number} is no finished cell ({error!r}): remove the line or "
                    f"the file"
                ) from error
            self._cells[cell.configuration, cell.seed] = cell
        self._appendable = not torn and len(lines) == len(self._cells)

    def __iter__(self) -> Iterator[Cell]:
        return iter(self._cells.values())

    def get(self, configuration: str, seed: int) -> Cell | None:
        """Return the cell, or None if it is not finished."""
        return self._cells.get((configuration, seed))

    def add(self, cell: Cell) -> None:
        """Keep a finished cell, on the disk too."""
        self._cells[cell.configuration, cell.seed] = cell
        if self._appendable:
            with self.path.open("ab") as file:
                file.write(_line(cell).encode())
                file.flush()
                os.fsync(file.fileno())
            return
        with atomic_write(self.path, "w") as file:
            file.writelines(_line(kept) for kept in self._cells.values())
        self._appendable = True


def _line(cell: Cell) -> str:
    return json.dumps(dataclasses.asdict(cell)) + "\n"


def _read(stored: dict[str, Any]) -> Cell:
    bins = stored.get("reliability")
    return Cell(
        **{
            **stored,
            "scores": Scores(**stored["scores"]),
            "reliability": None if bins is None else tuple((n, k, p) for n, k, p in bins),
        }
    )
