"""Make timl's grid of countries from Natural Earth's 1:50m countries (public domain).

python tools/country_grid.py ne_50m_admin_0_countries.shp python/timl/data/regions/country_grid.json

Every cell of a quarter of a degree holds the country that most of its land belongs to. Countries
have the names of the table that `country_boxes.py` makes; 0 stands for the sea.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NAME_COLUMN = "NAME_EN"
PARTS = 5
"""Each cell is told by PARTS x PARTS points."""
DEGREES = 0.25


def rasters(shapes: Path) -> tuple[list[str], NDArray[np.uint8]]:
    """Return the countries' names, sorted, and the number of each point's, from 1; 0 is the sea."""
    import geopandas
    from rasterio.features import rasterize
    from rasterio.transform import from_origin

    # The file is UTF-8 and does not say so: read as Latin-1, four names come out broken.
    countries = geopandas.read_file(shapes, encoding="utf-8").sort_values(NAME_COLUMN)
    step = DEGREES / PARTS
    shape = (round(180 / step), round(360 / step))
    numbered = [(geometry, i) for i, geometry in enumerate(countries.geometry, start=1)]
    transform = from_origin(-180.0, 90.0, step, step)
    inside, touched = (
        rasterize(numbered, shape, transform=transform, all_touched=all_touched, dtype=np.uint8)
        for all_touched in (False, True)
    )
    # islands smaller than the points' distance are found by touch
    return list(countries[NAME_COLUMN]), np.where(inside > 0, inside, touched)


def cells(points: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the country that most land points of each cell belong to, uint8 [720, 1440]."""
    rows, columns = points.shape[0] // PARTS, points.shape[1] // PARTS
    made = np.zeros((rows, columns), np.uint8)
    for row in range(rows):
        band = points[row * PARTS : (row + 1) * PARTS].reshape(PARTS, columns, PARTS)
        of_cell = band.transpose(1, 0, 2).reshape(columns, -1)
        votes = (of_cell[:, :, None] == of_cell[:, None, :]).sum(axis=2) * (of_cell > 0)
        made[row] = of_cell[np.arange(columns), votes.argmax(axis=1)]
    return made


def to_json(names: list[str], grid: NDArray[np.uint8]) -> str:
    """Write the grid, one row a line, from the north: number and length of each run of cells."""
    lines = []
    for row in grid:
        starts = np.flatnonzero(np.diff(row, prepend=-1))
        lengths = np.diff(starts, append=len(row))
        runs = np.stack([row[starts], lengths], axis=1).astype(int)
        lines.append(json.dumps(runs.ravel().tolist(), separators=(",", ":")))
    head = json.dumps(names, ensure_ascii=False)
    return (
        f'{{"degrees": {DEGREES}, "countries": {head}, "rows": [\n' + ",\n".join(lines) + "\n]}\n"
    )


def main() -> None:
    """Read the shapes and write the grid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("shapes", type=Path, help="ne_50m_admin_0_countries.shp")
    parser.add_argument("grid", type=Path, help="the JSON file to write")
    arguments = parser.parse_args()
    names, points = rasters(arguments.shapes)
    arguments.grid.write_text(to_json(names, cells(points)), encoding="utf-8")


if __name__ == "__main__":
    main()
