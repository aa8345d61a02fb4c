"""Cells and the finished N-way benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from timl.evaluation.few_shot.result import FewShotResult

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NWAY_SCORES = ("macro_f1", "accuracy", "balanced_accuracy", "mean_iou")


@dataclass(frozen=True)
class NWayCell:
    """The scores of one row on one division of one N-way task, with one number of labels."""

    row: str
    task: str
    region: str
    survey: str
    """Main survey of the region: regions of one survey are not independent."""
    fold: int
    draw: int
    spatial: bool
    labels: int | None
    """Labels per class; None: all."""
    classes: int
    """Number of classes."""
    macro_f1: float
    """Mean over the classes of F1."""
    accuracy: float
    balanced_accuracy: float
    """Mean over the classes of the share of their samples that are found."""
    mean_iou: float
    """Mean over the classes of intersection over union."""
    training_samples: int
    test_samples: int
    distance_km: float
    seconds: float
    """Time of adapting and scoring."""
    training_seconds: float
    """Time of the training that the row's cells of one fold share."""


@dataclass(frozen=True, repr=False)
class NWayResult(FewShotResult):
    """The finished N-way benchmark; scores are those of decisions, "macro_f1" first."""

    scores: ClassVar[tuple[str, ...]] = NWAY_SCORES
    stem: ClassVar[str] = "n-way"

    def table(self, score: str = "macro_f1") -> pd.DataFrame:
        """Return means over tasks, by row and labels, as `FewShotResult.table`."""
        return super().table(score)

    def compare(self, row: str | None = None, score: str = "macro_f1") -> pd.DataFrame:
        """Test one row against every other, by labels, as `FewShotResult.compare`."""
        return super().compare(row, score)

    def plot(self, score: str = "macro_f1", rows: Sequence[str] | None = None) -> Figure:
        """Draw a score against labels per class, as `FewShotResult.plot`."""
        return super().plot(score, rows)
