"""What a report is written from: the table, its tasks, and its meta-trainings' histories."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timl.data import BBox, LabelledData, Task, TaskSet
from timl.evaluation.paper.result import Table1Result
from timl.evaluation.plotting import SMOOTHING_WINDOW, MethodStyle, method_styles
from timl.files import read_json

_NO_BREAK = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class TaskRecord:
    """One task in one meta-training."""

    id: str
    validates: bool
    forgotten: int | None
    """The epoch after which it was forgotten, from 0."""
    loss: NDArray[np.float64]
    """Query loss of each epoch, float64 [epochs]; NaN once forgotten."""
    auc: NDArray[np.float64]
    """AUC ROC of each epoch, float64 [epochs]; NaN once forgotten."""

    @property
    def final_auc(self) -> float:
        """AUC ROC, averaged over the last epochs that the task had; NaN if it had none."""
        known = self.auc[np.isfinite(self.auc)][-SMOOTHING_WINDOW:]
        return float(known.mean()) if len(known) else float("nan")


@dataclass(frozen=True)
class TrainingRecord:
    """One row's first meta-training."""

    title: str
    epochs: int
    best_epoch: int
    tasks: tuple[TaskRecord, ...]
    """The tasks trained on, then those that validate."""

    @property
    def trained(self) -> list[TaskRecord]:
        """The tasks that were trained on."""
        return [task for task in self.tasks if not task.validates]

    @property
    def forgotten(self) -> list[TaskRecord]:
        """The forgotten tasks, in the order of forgetting."""
        found = [task for task in self.tasks if task.forgotten is not None]
        return sorted(found, key=lambda task: (task.forgotten, task.id))


@dataclass(frozen=True)
class ReportInputs:
    """What the sections of a report read."""

    result: Table1Result
    data: LabelledData
    tasks: TaskSet | None
    """None where no row is trained on tasks."""
    folder: Path

    @cached_property
    def trainings(self) -> dict[str, TrainingRecord]:
        """The meta-trainings by row, read from history.json in each row's folder."""
        return {
            row: _read(file, title)
            for row, title in self.result.titles.items()
            if (file := self.folder / row / "history.json").is_file()
        }

    @cached_property
    def styles(self) -> dict[str, MethodStyle]:
        """How each method is drawn, by title."""
        styles = method_styles(self.result.titles)
        return {title: styles[row] for row, title in self.result.titles.items()}

    @cached_property
    def tasks_by_id(self) -> dict[str, Task]:
        """The tasks that were trained on or validated."""
        return {task.id: task for task in self.tasks or ()}

    @cached_property
    def places(self) -> NDArray[np.float64]:
        """Longitude and latitude of all labelled samples, float64 [n, 2]."""
        places: NDArray[np.float64] = self.data.labels[["lon", "lat"]].to_numpy(np.float64)
        return places

    def kind(self, name: str) -> str:
        """Return a task's class of crops."""
        task = self.tasks_by_id.get(name)
        return "unknown" if task is None else str(task.classification_label)

    def box(self, name: str) -> BBox | None:
        """Return a task's region."""
        task = self.tasks_by_id.get(name)
        return None if task is None else task.bounding_box


def place(box: BBox | None) -> str:
    """Return the centre of a box for people: "12.3° N, 4.5° W"."""
    if box is None:
        return "unknown"
    lat, lon = box.centre
    north, east = f"{abs(lat):.1f}° {'NS'[lat < 0]}", f"{abs(lon):.1f}° {'EW'[lon < 0]}"
    return ", ".join(part.replace(" ", _NO_BREAK) for part in (north, east))


def _read(file: Path, title: str) -> TrainingRecord:
    stored: dict[str, Any] = read_json(file, "train again")
    try:
        tasks = tuple(
            TaskRecord(
                id=task["id"],
                validates=kind == "validation_tasks",
                forgotten=task.get("forgotten"),
                loss=np.array(task["loss"], np.float64),
                auc=np.array(task["auc"], np.float64),
            )
            for kind in ("tasks", "validation_tasks")
            for task in stored[kind]
        )
        return TrainingRecord(title, stored["epochs"], stored["best_epoch"], tasks)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{file} is not the history of a meta-training ({error!r}): train again"
        ) from error
