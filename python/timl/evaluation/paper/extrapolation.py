"""How long the record's whole experiment would take, from what a table measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from timl.evaluation.paper.cells import Cell
from timl.files import read_json

TASKS, EPOCHS, RUNS, BENCHMARKS, SERIES = 525, 1000, 10, 3, 65_690
"""Sizes of the paper's experiment on its record; SERIES are the record's training series."""

_SERIES_KEY, _VISITS_KEY = "series_visits", "task_visits"
_ADVICE = "remove the row's folder, and give the same call again"


def measure_training(folder: Path) -> dict[str, float] | None:
    """Read what a row's training took, and how often it visited a task or a series.

    Parameters
    ----------
    folder
        The row's own.

    Returns
    -------
    dict, optional
        "seconds", and "task_visits" of a meta-training (validation tasks included; a forgotten
        task is not visited), or "series_visits" of a pre-training. None: it trained otherwise.
    """
    history, pretraining = folder / "history.json", folder / "pretraining.json"
    found = history if history.is_file() else pretraining
    if not found.is_file():
        return None
    stored = read_json(found, _ADVICE)
    try:
        if not isinstance(stored, dict):
            raise TypeError(f"a {type(stored).__name__}")
        if found == history:
            tasks = [*stored["tasks"], *stored["validation_tasks"]]
            visits = sum(loss is not None for task in tasks for loss in task["loss"])
            return {"seconds": sum(stored["seconds"]), _VISITS_KEY: visits}
        if "series" in stored:
            visits = stored["series"] * len(stored["validation_loss"])
            return {"seconds": stored["seconds"], _SERIES_KEY: visits}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{found} is no record of a training ({error!r}): {_ADVICE}") from error
    return None


def extrapolate(
    cells: Iterable[Cell], trainings: Mapping[str, Mapping[str, Any]]
) -> dict[str, float]:
    """Extrapolate to the record's experiment: 525 tasks, 1000 epochs, ten runs of three tasks.

    A meta-training takes its seconds for a visit of a task times 525 times 1000, as if no task
    were ever forgotten; a pre-training its seconds for a visit of a series times 65,690, for as
    many epochs as it is allowed. A cell takes what the row's cells took on all labels: training
    sets are drawn from in batches, but test sets of another size take otherwise.

    Parameters
    ----------
    cells
        Of the table.
    trainings
        What `measure_training` gave, by row.

    Returns
    -------
    dict of str to float
        Seconds of each row, one row after another. Those of a table that was computed by several
        processes are seconds of one of them.
    """
    taken: dict[str, list[float]] = {}
    for cell in cells:
        if cell.size is None:
            taken.setdefault(cell.row, []).append(cell.seconds)
    found = {row: sum(seconds) / len(seconds) * RUNS * BENCHMARKS for row, seconds in taken.items()}
    for row, measured in trainings.items():
        for key, size in ((_VISITS_KEY, TASKS), (_SERIES_KEY, SERIES)):
            if measured.get(key):
                found[row] += measured["seconds"] / measured[key] * size * EPOCHS
    return found
