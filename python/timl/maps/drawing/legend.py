"""The colours of maps and what they mean, the same in every file that shows one."""

from __future__ import annotations

from collections.abc import Sequence
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
        Names of the values 0, 1 and so on of a band of classes; empty for a measure.
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

CLASS_COLOURS = (
    *("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#0000FF"),
    *("#CCEE99", "#221199", "#772200", "#7766FF", "#550055", "#55DDAA", "#BBAA55", "#6699FF"),
    *("#CCDDFF", "#223322", "#1155BB", "#CC4444", "#0022CC", "#BBFF77", "#774477", "#550077"),
    *("#994400", "#552244", "#55BB77", "#66DDCC", "#33BBCC", "#6644FF", "#773388", "#228888"),
)
"""Colours of the classes 0, 1 and so on of a map of several: first those of Okabe and Ito (Color
Universal Design, 2008) without black, then each the one of 16 x 16 x 16 that is farthest, in CIE
L*a*b*, from those before it, from no data, black and white, for readers without the pigment for red
or green too. Any two are at least 13 apart, those of the first 16 at least 17."""


def layers_of(classes: Sequence[str]) -> dict[str, Layer]:
    """Return the layers of a map by the name of their band, in the order in which they are shown.

    Parameters
    ----------
    classes
        Names of several classes; none for a positive class and the rest.
    """
    if not classes:
        return LAYERS
    names = tuple(name.replace("{", "{{").replace("}", "}}") for name in classes)
    own = {
        "class": Layer(
            "Class",
            "The most probable class of the pixel.",
            float(len(names) - 1),
            1.0,
            CLASS_COLOURS[: len(names)],
            classes=names,
        ),
        "probability": Layer(
            "Probability of the class",
            "Probability of the most probable class, which is mapped.",
            1.0,
            0.01,
            "YlGnBu",
        ),
        "uncertainty": Layer(
            "Uncertainty of the probability",
            "Standard deviation of the mapped class's probability over models that learned from "
            "resampled labels.",
            0.3,
            0.005,
            "YlOrBr",
            open_ended=True,
        ),
    }
    return {**own, "unlike": LAYERS["unlike"]}


UNLIKE = 1.0
"""Distance from the training data above which a pixel is unlike all of it."""

UNLIKE_NAME = "unlike the training data"
UNLIKE_COLOURS = ("#000000", "#FFFFFF")
"""Colours of the pairs of stripes over such pixels: one of the two shows on any other colour."""

NO_DATA_NAME = "no data"
NO_DATA_COLOUR = "#595959"
"""A grey that no layer comes near, for colour-blind readers either."""

POINT_COLOURS = {True: "#D55E00", False: "#FFFFFF"}
"""Colours of points, positive and negative: Okabe and Ito's vermilion, and white. Those of several
classes have the colours of these."""

CLASS_PROBABILITY = "probability_"
"""Beginning of the name of the band of one class's probability; the class's name follows."""

NO_CLASS = 255
"""Value of no data in the file of the classes alone."""

POINT_EDGE = "#000000"
"""Colour of the line around points."""
