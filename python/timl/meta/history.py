"""History of a training run: losses and AUC ROC of every epoch and task."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(eq=False)
class TrainingHistory:
    """Losses and AUC ROC of every epoch and task, and when tasks were forgotten.

    Of E epochs `epochs` are done; there are N training and V validation tasks. Epochs are counted
    from 0. Values of epochs that are not done, or that a task had no part in, are NaN. AUC ROC is
    that of a task's query set after adaptation; of several classes it is the mean over them, each
    against the rest.

    Parameters
    ----------
    task_ids, validation_ids
        Region and label of each training and each validation task.
    length
        Number E of epochs that were asked for.
    """

    task_ids: list[str]
    validation_ids: list[str]
    length: int

    epochs: int = field(init=False, default=0)
    """Number of epochs that are done."""
    best_epoch: int = field(init=False, default=-1)
    """Epoch whose weights the model has in the end; -1: none yet."""
    task_loss: Floats = field(init=False)
    """Query losses of the training tasks, [E, N]."""
    task_auc: Floats = field(init=False)
    """AUC ROC of the training tasks, [E, N]."""
    validation_loss: Floats = field(init=False)
    """Query losses of the validation tasks, [E, V]."""
    validation_auc: Floats = field(init=False)
    """AUC ROC of the validation tasks, [E, V]."""
    learning_rate: Floats = field(init=False)
    """Outer learning rate, [E]."""
    seconds: Floats = field(init=False)
    """Duration of each epoch, [E]."""
    forgotten: NDArray[np.int64] = field(init=False)
    """Epoch after which each training task was forgotten, [N]; -1: it was not."""

    def __post_init__(self) -> None:
        tasks, validation = len(self.task_ids), len(self.validation_ids)
        self.task_loss = np.full((self.length, tasks), np.nan)
        self.task_auc = np.full((self.length, tasks), np.nan)
        self.validation_loss = np.full((self.length, validation), np.nan)
        self.validation_auc = np.full((self.length, validation), np.nan)
        self.learning_rate = np.full(self.length, np.nan)
        self.seconds = np.full(self.length, np.nan)
        self.forgotten = np.full(tasks, -1, np.int64)

    @property
    def remaining(self) -> NDArray[np.bool_]:
        """Mask of the training tasks that are not forgotten, [N]."""
        return self.forgotten < 0

    def forget(self, threshold: float, window: int) -> NDArray[np.int64]:
        """Forget the tasks that are learned after the last finished epoch.

        A task is learned when its AUC ROC, averaged over its last `window` epochs, is at least the
        threshold (TIML, section 3.2). No task is before so many epochs are done.

        Returns
        -------
        int64 array
            Indices of the tasks that were forgotten now.
        """
        if self.epochs < window:
            return np.empty(0, np.int64)
        recent = self.task_auc[self.epochs - window : self.epochs]  # NaN once forgotten
        learned = np.flatnonzero(recent.mean(axis=0) >= threshold)
        self.forgotten[learned] = self.epochs - 1
        return learned

    def validation_score(self, epoch: int, window: int) -> float:
        """Return the mean validation loss of the `window` epochs up to and with this one.

        Where there are fewer, it is the mean of all epochs so far.
        """
        return float(self.validation_loss[max(0, epoch + 1 - window) : epoch + 1].mean())

    def table(self) -> pd.DataFrame:
        """Return the finished epochs as a table.

        Returns
        -------
        DataFrame
            One row for each epoch: loss, auc (means over the tasks that were trained on),
            validation_loss, validation_auc, tasks (how many were trained on), learning_rate and
            seconds.
        """
        import pandas as pd

        done = slice(self.epochs)
        return pd.DataFrame(
            {
                "loss": np.nanmean(self.task_loss[done], axis=1),
                "auc": np.nanmean(self.task_auc[done], axis=1),
                "validation_loss": _means(self.validation_loss[done]),
                "validation_auc": _means(self.validation_auc[done]),
                "tasks": np.isfinite(self.task_loss[done]).sum(axis=1),
                "learning_rate": self.learning_rate[done],
                "seconds": self.seconds[done],
            }
        ).rename_axis("epoch")

    def __repr__(self) -> str:
        return (
            f"TrainingHistory({self.epochs} of {self.length} epochs, {len(self.task_ids)} tasks, "
            f"{int((~self.remaining).sum())} forgotten, best epoch {self.best_epoch})"
        )

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>" + str(self.table().to_html(max_rows=20))

    def to_json(self) -> str:
        """Return the finished epochs as JSON, by epoch and task; null where there is no value."""
        done = slice(self.epochs)
        document = {
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "learning_rate": self.learning_rate[done].tolist(),
            "seconds": self.seconds[done].round(4).tolist(),
            "tasks": [
                {
                    "id": name,
                    "forgotten": None if epoch < 0 else int(epoch),
                    "loss": _numbers(self.task_loss[done, i]),
                    "auc": _numbers(self.task_auc[done, i]),
                }
                for i, (name, epoch) in enumerate(zip(self.task_ids, self.forgotten, strict=True))
            ],
            "validation_tasks": [
                {
                    "id": name,
                    "loss": _numbers(self.validation_loss[done, i]),
                    "auc": _numbers(self.validation_auc[done, i]),
                }
                for i, name in enumerate(self.validation_ids)
            ],
        }
        return json.dumps(document, allow_nan=False) + "\n"

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of the finished epochs by name, as `restore` takes them."""
        return {
            f.name: array[: self.epochs] if f.name != "forgotten" else array.copy()
            for f in fields(self)
            if isinstance(array := getattr(self, f.name), np.ndarray)
        }

    def restore(self, epochs: int, best_epoch: int, arrays: dict[str, NDArray[Any]]) -> None:
        """Restore the state after so many epochs from what `arrays` returned."""
        self.epochs, self.best_epoch = epochs, best_epoch
        for name, array in arrays.items():
            getattr(self, name)[: len(array)] = array


def _means(values: Floats) -> Floats:
    """Return the means of the rows; NaN where there are no columns."""
    if values.shape[1] == 0:
        return np.full(len(values), np.nan)
    means: Floats = values.mean(axis=1)
    return means


def _numbers(values: Floats) -> list[float | None]:
    """Return values of six digits, enough to plot, with None for NaN."""
    return [None if value != value else value for value in values.round(6).tolist()]
