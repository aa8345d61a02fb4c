"""How the series that a model is trained on were prepared, as it is kept with the model."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray


class Normalization(TypedDict):
    """How the series a model was trained on were prepared."""

    mean: NDArray[np.float64]
    """Subtracted from each band, [bands]."""
    std: NDArray[np.float64]
    """Then each band is divided by it, [bands]."""
    ndvi: str
    """Which index the NDVI column holds."""
