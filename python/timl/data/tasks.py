"""Tasks: a region and a target label, and which samples are its positives and negatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timl.data.classes import CROP, task_information
from timl.data.regions import BBox

GLOBE = BBox(-90.0, 90.0, -180.0, 180.0, "global")
"""The box of a task that is given none."""


@dataclass(frozen=True)
class Task:
    """One binary classification problem, with the fields of the cropharvest package's ``Task``.

    Parameters
    ----------
    bounding_box : BBox
        The region; by default the whole globe.
    target_label : str
        The label of the positives; by default "crop": crop versus non-crop. None means the same.
    balance_negative_crops : bool
        For a crop's task: keep no more non-crops among the negatives than other crops.
    test_identifier : str or None
        Name of the task's test file, without its extension.
    normalize : bool
        Whether the task's series are given as (x - mean) / std.
    classification_label : str or None
        The FAO class of the target label, one of `timl.data.CLASSES`; may be left out for crop
        versus non-crop.
    """

    bounding_box: BBox = GLOBE
    target_label: str = CROP
    balance_negative_crops: bool = False
    test_identifier: str | None = None
    normalize: bool = True
    classification_label: str | None = None

    def __post_init__(self) -> None:
        # cropharvest's users write Task(None, None): both mean their default.
        if self.bounding_box is None:
            object.__setattr__(self, "bounding_box", GLOBE)
        if self.target_label is None:
            object.__setattr__(self, "target_label", CROP)
        if self.target_label == CROP and self.classification_label is None:
            object.__setattr__(self, "classification_label", CROP)

    @property
    def id(self) -> str:
        """Region's name and target label, "Kenya_maize"."""
        return f"{self.bounding_box.name}_{self.target_label}"

    @property
    def info(self) -> NDArray[np.float32]:
        """The 13 numbers that describe the task, float32 [13]: see `task_information`.

        Raises
        ------
        ValueError
            If the task has no classification label, or an unknown one.
        """
        if self.classification_label is None:
            raise ValueError(
                f"task {self.id!r} has no classification_label; its 13 numbers need one: "
                "Task(..., classification_label='cereals')"
            )
        return task_information(self.bounding_box, self.classification_label)
