"""A task's information: the 13 numbers that the task encoder reads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from timl.crop_classes import CLASSES, class_numbers
from timl.data.regions.boxes import BBox

INFO_SIZE = 3 + len(CLASSES)
"""Size of a task's information: 13 numbers."""


def task_information(bounding_box: BBox, classification_label: str) -> NDArray[np.float32]:
    """Describe a task by the 13 numbers that the task encoder reads (TIML, section 3.1).

    Parameters
    ----------
    bounding_box
        Region of the task.
    classification_label
        FAO class, one of `CLASSES`, or "crop" for crop versus non-crop.

    Returns
    -------
    float32 array of shape [13]
        Centre of the box on the unit sphere (3), then one number per class: one-hot, or for
        crop versus non-crop 0 for "non_crop" and 1/9 for each other class.

    Raises
    ------
    ValueError
        If the classification label is none of these.
    """
    numbers = class_numbers(classification_label)
    return np.concatenate([bounding_box.three_dimensional_points, numbers]).astype(np.float32)
