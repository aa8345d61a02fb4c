"""What all figures share: the palette, the smoothing of curves, and asking for matplotlib."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#D55E00",
    "#56B4E9",
    "#000000",
    "#999999",
)
"""Okabe and Ito's colours, told apart by colour-blind readers too, without their yellow."""

YELLOW = "#F0E442"
"""Okabe and Ito's yellow, which is too pale for lines."""

SMOOTHING_WINDOW = 20
"""Epochs that a learning curve is averaged over."""


def smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return means over `SMOOTHING_WINDOW` values, or over all where there are fewer.

    Parameters
    ----------
    values : float64 array of shape [n]
        A curve, n at least 1.

    Returns
    -------
    float64 array of shape [n - window + 1]
        The mean that ends at each value from the window's last on.
    """
    window = min(SMOOTHING_WINDOW, len(values))
    return np.convolve(values, np.ones(window) / window, mode="valid").astype(np.float64)


def require_matplotlib(needy: str) -> None:
    """Raise an ImportError that names the extra if matplotlib is not installed.

    Parameters
    ----------
    needy
        What needs it, as the beginning of the message: "figures need".
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(f'{needy} matplotlib: pip install "timl[plot]"') from error
