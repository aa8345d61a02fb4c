"""Regions: latitude-longitude boxes with a name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from timl.data.regions.sphere import on_unit_sphere


@dataclass(frozen=True)
class BBox:
    """A latitude-longitude box; its edges belong to it.

    Parameters
    ----------
    min_lat, max_lat
        Southern and northern edge, degrees in [-90, 90].
    min_lon, max_lon
        Western and eastern edge, degrees in [-180, 180]. A box may not cross the antimeridian.
    name
        Name of the region.

    Raises
    ------
    ValueError
        If an edge is not finite, out of range, or the edges are in the wrong order.
    """

    min_lat: float
    max_lat: float
    min_lon: float
    max_lon: float
    name: str | None = None

    def __post_init__(self) -> None:
        for axis, limit in (("lat", 90.0), ("lon", 180.0)):
            low, high = getattr(self, f"min_{axis}"), getattr(self, f"max_{axis}")
            for edge, value in ((f"min_{axis}", low), (f"max_{axis}", high)):
                if not (math.isfinite(value) and -limit <= value <= limit):
                    raise ValueError(
                        f"BBox {self.name!r}: {edge} is {value}: give degrees in "
                        f"[-{limit:g}, {limit:g}]"
                    )
            if low > high:
                advice = "; split one across the antimeridian in two" if axis == "lon" else ""
                raise ValueError(
                    f"BBox {self.name!r}: min_{axis} {low} is above max_{axis} {high}: give the "
                    f"smaller edge first{advice}"
                )

    @overload
    def contains(self, lat: float, lon: float) -> bool: ...
    @overload
    def contains(self, lat: NDArray[Any], lon: NDArray[Any]) -> NDArray[np.bool_]: ...
    def contains(self, lat: Any, lon: Any) -> Any:
        """Tell which points lie in the box, edges included.

        Parameters
        ----------
        lat, lon : number, or array of shape [n]
            Places of the points, degrees. A point that is NaN lies in no box.
        """
        return (
            (lat >= self.min_lat)
            & (lat <= self.max_lat)
            & (lon >= self.min_lon)
            & (lon <= self.max_lon)
        )

    def contains_bbox(self, other: BBox) -> bool:
        """Tell whether another box lies wholly inside this one, edges included."""
        return self.contains(other.min_lat, other.min_lon) and self.contains(
            other.max_lat, other.max_lon
        )

    @property
    def centre(self) -> tuple[float, float]:
        """Latitude and longitude of the middle of the box, degrees."""
        return (self.min_lat + self.max_lat) / 2, (self.min_lon + self.max_lon) / 2

    @property
    def three_dimensional_points(self) -> tuple[float, float, float]:
        """Centre of the box on the unit sphere: see `on_unit_sphere`."""
        x, y, z = on_unit_sphere(*self.centre).tolist()
        return x, y, z
