"""Points on the sphere, and distances between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

EARTH_RADIUS_KM = 6371.0


def on_unit_sphere(lat: ArrayLike, lon: ArrayLike) -> NDArray[np.float64]:
    """Return points on the unit sphere: (cos lat cos lon, cos lat sin lon, sin lat).

    Parameters
    ----------
    lat, lon : numbers, or arrays of one shape
        Degrees.

    Returns
    -------
    float64 array of shape [*lat.shape, 3]
    """
    y, x = np.radians(lat), np.radians(lon)
    return np.stack([np.cos(y) * np.cos(x), np.cos(y) * np.sin(x), np.sin(y)], axis=-1)


def chord_to_km(chord: ArrayLike) -> NDArray[np.float64]:
    """Return the distance on the ground of points a straight ``chord`` apart on the unit sphere."""
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(np.asarray(chord) / 2, 1)))
