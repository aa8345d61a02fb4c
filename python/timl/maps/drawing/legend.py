"""The colours of maps and what they mean, the same in every file that shows one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timl.evaluation.plotting import require_matplotlib

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Layer:
    """How a band of a map is coloured.

    Parameters
    ----------
    title
        Name to show; ``{target}`` stands for the positive class.
    meaning
        What a value means, a sentence; ``{target}`` and ``{threshold}`` likewise.
    top
        Value of the last colour, and of what is above it; the first colour is that of 0.
    step
        Difference between two colours' values; what lies between is rounded.
    colours
        Name of a colour map of matplotlib, or the colours themselves, as #rrggbb.
    open_ended
        Whether values above ``top`` occur.
    classes
        Names of the values 0 and 1 of a band of classes; empty for a measure.
    """

    title: str
    meaning: str
    top: float
    step: float
    colours: str | tuple[str, ...]
    open_ended: bool = False
    classes: tuple[str, ...] = ()

    def palette(self) -> Bytes:
        """Return the colours, uint8 [n, 3], that of 0 first.

        Raises
        ------
        ImportError
            If matplotlib is not installed: the extra ``timl[plot]``.
        """
        require_matplotlib("a map's colours need")
        from matplotlib import colormaps
        from matplotlib.colors import to_rgb

        if isinstance(self.colours, str):
            shades = colormaps[self.colours](np.linspace(0, 1, round(self.top / self.step) + 1))
            return np.round(255 * shades[:, :3]).astype(np.uint8)
        return np.round(255 * np.array([to_rgb(c) for c in self.colours])).astype(np.uint8)

    def colour_numbers(self, values: NDArray[np.float32]) -> Bytes:
        """Return each value's place in the palette, counted from 1; 0 is no data.

        Parameters
        ----------
        values : float32 array
            A band, NaN where there is no data.

        Returns
        -------
        uint8 array of the same shape
        """
        missing = np.isnan(values)
        clipped = np.clip(np.where(missing, 0, values), 0, self.top)
        numbers = np.floor(clipped / self.step + 0.5).astype(np.uint8) + 1
        return np.where(missing, 0, numbers).astype(np.uint8)


LAYERS = {
    "probability": Layer(
        "Probability of {target}",
        "Probability that the pixel is {target}.",
        1.0,
        0.01,
        "YlGnBu",
    ),
    "class": Layer(
        "Class",
        "A pixel is {target} where its probability is at least {threshold}.",
        1.0,
        1.0,
        ("#F2EBD9", "#009E73"),
        classes=("not {target}", "{target}"),
    ),
    "uncertainty": Layer(
        "Uncertainty of the probability",
        "Standard deviation of the probability over models that learned from resampled labels.",
        0.3,
        0.005,
        "YlOrBr",
        open_ended=True,
    ),
    "unlike": Layer(
        "Distance from the training data",
        "Above 1 the pixel is unlike anything that the model was trained on.",
        2.0,
        0.02,
        "RdPu",
        open_ended=True,
    ),
}
"""Layers by the name of their band, in the order in which they are shown."""

UNLIKE = 1.0
"""Distance from the training data above which a pixel is unlike all of it."""

UNLIKE_NAME = "unlike the training data"
UNLIKE_COLOURS = ("#000000", "#FFFFFF")
"""Colours of the pairs of stripes over such pixels: one of the two shows on any other colour."""

NO_DATA_NAME = "no data"
NO_DATA_COLOUR = "#595959"
"""A grey that no layer comes near, for colour-blind readers either."""

POINT_COLOURS = {True: "#D55E00", False: "#FFFFFF"}
"""Colours of points, positive and negative: Okabe and Ito's vermilion, and white."""

POINT_EDGE = "#000000"
"""Colour of the line around points."""
