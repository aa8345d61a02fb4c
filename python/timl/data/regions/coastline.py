"""The coastline of the world, for maps: made from Natural Earth's countries."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

_LINES = "coastline.json"


@cache
def coastline() -> tuple[NDArray[np.float64], ...]:
    """Return the lines of the coast, exact to a tenth of a degree: enough for a picture.

    Islands below a hundredth of a square degree are not among them (Natural Earth, 1:50m, public
    domain; ``tools/coastline.py`` makes the lines).

    Returns
    -------
    float64 arrays of shape [n, 2]
        Longitude and latitude in degrees; the longest line is the first.
    """
    text = (resources.files("timl.data.regions") / _LINES).read_text(encoding="utf-8")
    stored = json.loads(text)
    lines = tuple(
        np.reshape(line, (-1, 2)) / stored["steps_per_degree"] for line in stored["lines"]
    )
    for line in lines:
        line.setflags(write=False)  # the caller gets the one that is kept
    return lines
