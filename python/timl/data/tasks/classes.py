"""The ten crop classes of the FAO's indicative classification, and a task's 13 numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from timl.data.regions.boxes import BBox

CROP = "crop"
"""Target label and classification label of a crop versus non-crop task."""

NON_CROP = "non_crop"
"""Classification label of everything that is not a crop."""

CLASSES = (
    NON_CROP,
    "cereals",
    "vegetables_melons",
    "fruits_nuts",
    "oilseeds",
    "root_tuber",
    "beverage_spice",
    "leguminous",
    "sugar",
    "other",
)
"""Classes in the order of their ten numbers in a task's information."""

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
    classes = np.zeros(len(CLASSES))
    if classification_label == CROP:
        classes[1:] = 1 / (len(CLASSES) - 1)
    elif classification_label in CLASSES:
        classes[CLASSES.index(classification_label)] = 1
    else:
        raise ValueError(
            f"classification_label is {classification_label!r}: give {CROP!r} or one of "
            f"{', '.join(CLASSES)}"
        )
    return np.concatenate([bounding_box.three_dimensional_points, classes]).astype(np.float32)
