"""What all figures share: colours and markers of methods, smoothing, asking for matplotlib."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import NamedTuple

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

MARKERS = "osD^vPXp<>hd"
"""Matplotlib's markers that are told apart at the size of a letter."""


class MethodStyle(NamedTuple):
    """How a method is drawn in every figure."""

    colour: str
    marker: str
    dashes: str
    """Matplotlib's style of a line: "-", "--", "-." or ":"."""


_KNOWN = {
    "strong": MethodStyle(COLOURS[0], "o", "-"),
    "strong-without-learning": MethodStyle(COLOURS[5], "s", "-"),
    "timl": MethodStyle(COLOURS[4], "^", "-"),
    "random-forest": MethodStyle(COLOURS[2], "D", "-"),
    "logistic-regression-cv": MethodStyle(COLOURS[1], "v", "-"),
    "maml": MethodStyle(COLOURS[3], "P", "--"),
    "crop-pre-training": MethodStyle(COLOURS[6], "X", "--"),
    "no-pre-training": MethodStyle(COLOURS[7], "p", "--"),
    "logistic-regression": MethodStyle(COLOURS[1], "<", ":"),
    "gradient-boosting": MethodStyle(COLOURS[2], ">", ":"),
    "timl-without-encoder": MethodStyle(COLOURS[4], "s", ":"),
    "timl-without-forgetting": MethodStyle(COLOURS[3], "D", ":"),
    "timl-without-task-information": MethodStyle(COLOURS[0], "h", ":"),
}


def method_styles(rows: Iterable[str]) -> dict[str, MethodStyle]:
    """Return how to draw methods: those of the paper and the default ones alike in every figure.

    Parameters
    ----------
    rows
        Names of rows, as of `timl.evaluation.find_rows`. Others than the known ones get what no row
        has, in their order.
    """
    names = list(rows)
    taken = {(style.colour, style.marker) for style in _KNOWN.values()}
    free = (
        MethodStyle(colour, marker, dashes)
        for dashes, marker, colour in product(("-.", ":", "--", "-"), MARKERS, COLOURS)
        if (colour, marker) not in taken
    )
    return {name: _KNOWN[name] if name in _KNOWN else next(free) for name in names}


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
