"""Make timl's coastline from Natural Earth's 1:50m countries (public domain).

python tools/coastline.py ne_50m_admin_0_countries.shp python/timl/data/regions/coastline.json

The countries are united, and the outlines of what remains, seas within the land too, are simplified
(Douglas and Peucker) by a tenth of a degree. Islands below a hundredth of a square degree are left
out, and so are the edges of the world: the antimeridian and the south pole.
"""

from __future__ import annotations

import argparse
import json
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.1
SMALLEST = 0.01
STEPS = 100
"""Coordinates are whole hundredths of a degree."""


def rings(shapes: Path) -> list[NDArray[np.float64]]:
    """Return the closed outlines of the land, longitude and latitude in degrees."""
    import geopandas
    import shapely

    countries = geopandas.read_file(shapes).geometry
    # neighbours' borders differ in their last digits: snapped, nothing remains between them
    land = shapely.union_all(countries.values, grid_size=1e-4)
    found = []
    for part in shapely.get_parts(land):
        for ring in (part.exterior, *part.interiors):
            if shapely.Polygon(ring).area >= SMALLEST:
                found.append(np.asarray(ring.simplify(TOLERANCE).coords, np.float64))
    return found


def lines(ring: NDArray[np.float64]) -> list[list[int]]:
    """Return the pieces of an outline that are coast: longitude and latitude in turns."""
    points = np.round(ring * STEPS).astype(int)
    edge = (np.abs(points[:, 0]) >= 180 * STEPS - 1) | (points[:, 1] <= -90 * STEPS + 1)
    apart = edge[:-1] & edge[1:]  # pieces from point to point
    pieces = []
    for skipped, group in groupby(range(len(apart)), key=lambda i: bool(apart[i])):
        if not skipped:
            members = list(group)
            pieces.append(points[members[0] : members[-1] + 2].ravel().tolist())
    return pieces


def main() -> None:
    """Read the shapes and write the lines, the longest first, one a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("shapes", type=Path, help="ne_50m_admin_0_countries.shp")
    parser.add_argument("coastline", type=Path, help="the JSON file to write")
    arguments = parser.parse_args()
    found = [line for ring in rings(arguments.shapes) for line in lines(ring)]
    found.sort(key=lambda line: (-len(line), line))
    texts = [json.dumps(line, separators=(",", ":")) for line in found]
    arguments.coastline.write_text(
        f'{{"steps_per_degree": {STEPS}, "lines": [\n' + ",\n".join(texts) + "\n]}\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
