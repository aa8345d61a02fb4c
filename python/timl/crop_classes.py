"""The ten crop classes of the FAO's indicative classification: data and models both know them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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


def class_numbers(classification_label: str) -> NDArray[np.float64]:
    """Return the ten numbers of a task's class (TIML, section 3.1).

    Returns
    -------
    float64 array of shape [10]
        One-hot, or for crop versus non-crop 0 for "non_crop" and 1/9 for each other class.

    Raises
    ------
    ValueError
        If the label is neither one of `CLASSES` nor "crop".
    """
    numbers = np.zeros(len(CLASSES))
    if classification_label == CROP:
        numbers[1:] = 1 / (len(CLASSES) - 1)
    elif classification_label in CLASSES:
        numbers[CLASSES.index(classification_label)] = 1
    else:
        raise ValueError(
            f"classification_label is {classification_label!r}: give {CROP!r} or one of "
            f"{', '.join(CLASSES)}"
        )
    return numbers
