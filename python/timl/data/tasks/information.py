"""A task's information: the 13 numbers that the task encoder reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from timl.crop_classes import CLASSES, CROP, class_numbers
from timl.data.regions.boxes import BBox

INFO_SIZE = 3 + len(CLASSES)
"""Size of a task's information: 13 numbers."""


def task_information(
    bounding_box: BBox, classification_label: str | Sequence[str | None]
) -> NDArray[np.float32]:
    """Describe a task by the 13 numbers that the task encoder reads (TIML, section 3.1).

    Parameters
    ----------
    bounding_box
        Region of the task.
    classification_label
        FAO class, one of `CLASSES`, or "crop" for crop versus non-crop. Of a task of several
        classes the FAO class of each, None where it is not known: their numbers are averaged over
        those that are known; where none is, they are those of "crop".

    Returns
    -------
    float32 array of shape [13]
        Centre of the box on the unit sphere (3), then one number per class: one-hot, or for
        crop versus non-crop 0 for "non_crop" and 1/9 for each other class. The last ten add up to
        1.

    Raises
    ------
    ValueError
        If a classification label is none of these.
    """
    if not isinstance(classification_label, str):
        known = [kind for kind in classification_label if kind is not None] or [CROP]
        several = [task_information(bounding_box, kind) for kind in known]
        mean: NDArray[np.float32] = np.mean(several, axis=0)
        return mean
    numbers = class_numbers(classification_label)
    return np.concatenate([bounding_box.three_dimensional_points, numbers]).astype(np.float32)
