"""Display of a training run: a progress bar, and TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from timl.meta.history import TrainingHistory

Show = Callable[[TrainingHistory], None]
"""Function that is called after every epoch."""


@contextmanager
def progress_bar(history: TrainingHistory) -> Iterator[Show]:
    """Show a bar with epochs, losses and AUC ROC, tasks left and remaining time."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        BarColumn(bar_width=10),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as bar:
        task = bar.add_task("", total=history.length, completed=history.epochs)

        def show(history: TrainingHistory) -> None:
            bar.update(task, completed=history.epochs, description=_line(_latest(history)))

        yield show


@contextmanager
def steps_bar(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar of so many steps, and yield what is called after each."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), refresh_per_second=4) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def tensorboard_log(history: TrainingHistory, folder: Path) -> Iterator[Show]:
    """Log the same numbers for TensorBoard.

    Raises
    ------
    ImportError
        If TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            "tensorboard is True, TensorBoard not installed: pip install 'timl[tensorboard]'"
        ) from error
    writer = SummaryWriter(folder, purge_step=history.epochs)

    def show(history: TrainingHistory) -> None:
        for name, value in _latest(history).items():
            writer.add_scalar(name, value, history.epochs - 1)

    try:
        yield show
    finally:
        writer.close()


def _line(latest: dict[str, float]) -> str:
    """Return the numbers in a line that fits a narrow terminal."""
    text = f"loss {latest['loss']:.3f} auc {latest['auc']:.2f}"
    if "validation loss" in latest:
        text += f", valid {latest['validation loss']:.3f} {latest['validation auc']:.2f}"
    return f"{text}, {latest['tasks left']:.0f} tasks"


def _latest(history: TrainingHistory) -> dict[str, float]:
    """Return the means of the last finished epoch."""
    epoch = history.epochs - 1
    numbers = {
        "loss": float(np.nanmean(history.task_loss[epoch])),
        "auc": float(np.nanmean(history.task_auc[epoch])),
    }
    if history.validation_ids:
        numbers["validation loss"] = float(history.validation_loss[epoch].mean())
        numbers["validation auc"] = float(history.validation_auc[epoch].mean())
    return {**numbers, "tasks left": float(history.remaining.sum())}
