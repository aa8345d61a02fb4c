"""How the series that a model is trained on were prepared, as it is kept with the model."""

from __future__ import annotations

import numpy as np

from timl.data import LabelledData
from timl.normalization import Normalization


def normalization_of(data: LabelledData, normalized: bool = True) -> Normalization:
    """Return a data set's statistics and NDVI; mean 0 and std 1 for series as measured."""
    mean, std = data.mean.copy(), data.std.copy()
    if not normalized:
        mean, std = np.zeros_like(mean), np.ones_like(std)
    return Normalization(mean=mean, std=std, ndvi=data.ndvi)
