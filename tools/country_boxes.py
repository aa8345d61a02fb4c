"""Make timl's table of country boxes from Natural Earth's 1:50m countries (public domain).

python tools/country_boxes.py ne_50m_admin_0_countries.shp python/timl/data/regions/countries.json

The boxes are those of the cropharvest package: the bounding box of each polygon of a country, by
the country's English name; boxes inside another box of the same country are left out. A country of
one polygon has a box of its own name, others are numbered as their polygons are: `Kenya_1`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

Edges = tuple[float, float, float, float]  # min_lat, max_lat, min_lon, max_lon

NAME_COLUMN = "NAME_EN"


def box_of(polygon: Any) -> Edges:
    """Return the edges of a polygon's bounding box."""
    min_lon, min_lat, max_lon, max_lat = polygon.bounds
    return min_lat, max_lat, min_lon, max_lon


def contains(large: Edges, small: Edges) -> bool:
    """Tell whether a box lies wholly inside another, edges included."""
    return (
        large[0] <= small[0]
        and small[1] <= large[1]
        and large[2] <= small[2]
        and small[3] <= large[3]
    )


def outer_boxes(boxes: dict[str, Edges]) -> dict[str, Edges]:
    """Leave out the boxes inside another one; of two equal boxes the first stays."""
    kept = dict(boxes)
    for name, box in boxes.items():
        if any(contains(other, box) for key, other in kept.items() if key != name):
            del kept[name]
    return kept


def country_boxes(shapes: Path) -> dict[str, dict[str, Edges]]:
    """Return the boxes of every country, sorted by its name."""
    import geopandas

    # The file is UTF-8 and does not say so: read as Latin-1, four names come out broken.
    countries = geopandas.read_file(shapes, encoding="utf-8")
    table = {}
    for name, geometry in zip(countries[NAME_COLUMN], countries.geometry, strict=True):
        if name in table:
            raise ValueError(f"{shapes}: two countries are called {name!r}")
        if geometry.geom_type == "Polygon":
            table[name] = {name: box_of(geometry)}
        else:
            polygons = enumerate(geometry.geoms)
            table[name] = outer_boxes({f"{name}_{i}": box_of(part) for i, part in polygons})
    return dict(sorted(table.items()))


def to_json(table: dict[str, dict[str, Edges]]) -> str:
    """Write the table, one box a line."""
    countries = []
    for country, boxes in table.items():
        lines = [
            f"  {json.dumps(name, ensure_ascii=False)}: {json.dumps(edges)}"
            for name, edges in boxes.items()
        ]
        countries.append(
            f" {json.dumps(country, ensure_ascii=False)}: {{\n" + ",\n".join(lines) + "\n }"
        )
    return "{\n" + ",\n".join(countries) + "\n}\n"


def main() -> None:
    """Read the shapes and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("shapes", type=Path, help="ne_50m_admin_0_countries.shp")
    parser.add_argument("table", type=Path, help="the JSON file to write")
    arguments = parser.parse_args()
    arguments.table.write_text(to_json(country_boxes(arguments.shapes)), encoding="utf-8")


if __name__ == "__main__":
    main()
