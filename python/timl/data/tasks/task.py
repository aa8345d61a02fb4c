"""Tasks: a region and a target label, and which samples are its positives and negatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from timl.crop_classes import CROP, NON_CROP
from timl.data.regions.boxes import BBox
from timl.data.tasks.information import task_information

if TYPE_CHECKING:
    import pandas as pd

Balance = bool | Literal["cut"]
"""Balance of a crop's negatives: see `Task`."""

GLOBE = BBox(-90.0, 90.0, -180.0, 180.0, "global")
"""Default box of a task."""


@dataclass(frozen=True)
class Task:
    """One binary classification problem, with the fields of the cropharvest package's ``Task``.

    Parameters
    ----------
    bounding_box
        Region of the samples; by default the whole globe.
    target_label
        Label of the positives; by default "crop": crop versus non-crop. None means the same.
    balance_negative_crops
        For a crop's task: weigh other crops and non-crops about equally among the negatives. True:
        repeat the other crops, as the cropharvest package does since version 0.6; "cut": leave out
        non-crops, as it did until 0.5 and in the papers (see `positives_and_negatives`).
    test_identifier
        Name of the task's test file, without its extension, or what the names of its test files
        begin with.
    normalize
        Whether the task's series are normalised, (x - mean) / std.
    classification_label
        FAO class of the target label, one of `timl.data.CLASSES`; may be left out for crop versus
        non-crop.
    include_externally_contributed_labels
        Use the labels that people outside the record's team contributed, too.

    Raises
    ------
    ValueError
        If balance_negative_crops is something else.
    """

    bounding_box: BBox = GLOBE
    target_label: str = CROP
    balance_negative_crops: Balance = False
    test_identifier: str | None = None
    normalize: bool = True
    classification_label: str | None = None
    include_externally_contributed_labels: bool = True

    def __post_init__(self) -> None:
        # cropharvest's users write Task(None, None): both mean their default.
        if self.bounding_box is None:
            object.__setattr__(self, "bounding_box", GLOBE)
        if self.target_label is None:
            object.__setattr__(self, "target_label", CROP)
        if self.target_label == CROP and self.classification_label is None:
            object.__setattr__(self, "classification_label", CROP)
        if self.balance_negative_crops not in (True, False, "cut"):
            raise ValueError(
                f"balance_negative_crops is {self.balance_negative_crops!r}: give True, False or "
                "'cut'"
            )

    @property
    def id(self) -> str:
        """Name of the task, region and target label: "Kenya_maize"."""
        return f"{self.bounding_box.name}_{self.target_label}"

    @property
    def info(self) -> NDArray[np.float32]:
        """Information of the task, 13 numbers, float32: see `task_information`.

        Raises
        ------
        ValueError
            If the task has no classification label, or an unknown one.
        """
        if self.classification_label is None:
            raise ValueError(
                f"classification_label of task {self.id!r} is None, and its 13 numbers need one: "
                "give Task(..., classification_label='cereals')"
            )
        return task_information(self.bounding_box, self.classification_label)


def training_rows(
    labels: pd.DataFrame, bounding_box: BBox, externally_contributed: bool = True
) -> pd.DataFrame:
    """Select the rows of a region that are not marked as test, in their order.

    Parameters
    ----------
    labels
        Table with columns lat, lon, is_test and more: see `LabelledData.labels`.
    bounding_box
        Region, its edges included.
    externally_contributed
        Also select rows with ``externally_contributed_dataset``; records without that column have
        none.
    """
    chosen = bounding_box.contains(labels["lat"].to_numpy(), labels["lon"].to_numpy())
    chosen &= (labels["is_test"] == 0).to_numpy()
    if not externally_contributed and "externally_contributed_dataset" in labels:
        chosen &= (labels["externally_contributed_dataset"] != 1).to_numpy()
    return labels[chosen]


def has_label(rows: pd.DataFrame, target_label: str) -> NDArray[np.bool_]:
    """Tell which samples carry a target label, [n]; for crop versus non-crop, which are crops."""
    found = (rows["is_crop"] == 1) if target_label == CROP else (rows["label"] == target_label)
    return np.asarray(found, bool)


def class_of_samples(samples: pd.DataFrame) -> str | None:
    """Return the FAO class of samples of one label: that of most of them.

    Where none has one it is "non_crop" if they are no crops, else None: not known.
    """
    classes = samples["classification_label"].dropna()
    if len(classes):
        return str(classes.mode().iloc[0])
    return None if samples["is_crop"].iloc[0] == 1 else NON_CROP


def positives_and_negatives(
    rows: pd.DataFrame, task: Task
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide a region's samples into a task's positives and negatives, by CropHarvest's rules.

    - crop versus non-crop: crops against all others;
    - target a crop: against crops with another name and all non-crops (crops without a name are
      left out);
    - target not a crop: against everything with another name, and crops without a name
      (non-crops without one are left out).

    For a target that is a crop, ``balance_negative_crops`` changes the negatives. Where there are O
    other crops and N non-crops, True repeats the other crops ceil(N / O) times (the package, which
    drops them all where N is 0; here they stay once), and "cut" keeps O of the non-crops, always
    the same ones.

    Samples without a series count for the balance but are not returned.

    Parameters
    ----------
    rows
        What `training_rows` returns for the task's region, with columns label, is_crop and
        position.
    task
        Task with the target label and the balance.

    Returns
    -------
    positives, negatives : int64 arrays
        Positions of series, in the order of the rows; other crops come before non-crops.
        Positions of balanced other crops occur several times.
    """
    positions = rows["position"].to_numpy(np.int64)
    is_crop = has_label(rows, CROP)
    is_target = has_label(rows, task.target_label)
    is_named = rows["label"].notna().to_numpy(bool)
    if task.target_label == CROP:
        return _with_series(positions[is_crop]), _with_series(positions[~is_crop])
    # As in the cropharvest package, a label's first sample tells whether it is a crop.
    if is_target.any() and is_crop[is_target.argmax()]:
        others, non_crops = positions[is_crop & is_named & ~is_target], positions[~is_crop]
        if task.balance_negative_crops == "cut":
            non_crops = non_crops[_kept_by_the_package(len(non_crops), len(others))]
        elif task.balance_negative_crops and len(others):
            others = np.tile(others, max(1, -(-len(non_crops) // len(others))))
        negatives = np.concatenate([others, non_crops])
    else:
        negatives = positions[(~is_named & is_crop) | (is_named & ~is_target)]
    return _with_series(positions[is_target]), _with_series(negatives)


def _kept_by_the_package(size: int, count: int) -> NDArray[np.int64]:
    """Return the indices below ``size`` that the package's shuffle with its seed 42 puts first.

    It takes an element at a fixed distance from the end and from the beginning of what is left, in
    turn; where the distance is too large for what is left it is reduced modulo its length.
    """
    left = list(range(size))
    kept: list[int] = []
    distance, from_end = 42, True
    while left and len(kept) < count:
        if distance >= len(left):
            distance = (-distance if from_end else distance) % len(left)
        kept.append(left.pop(-distance if from_end else distance))
        from_end = not from_end
    return np.array(kept, np.int64)


def _with_series(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    return positions[positions >= 0]
