"""The boxes of the world's countries, as the cropharvest package derives them."""

from __future__ import annotations

import difflib
import json
import re
from functools import cache
from importlib import resources

from timl.data.regions.boxes import BBox

_TABLE = "countries.json"


def country_boxes(name: str | None = None) -> list[BBox]:
    """Return the boxes of a country, or of all countries.

    They are those of the cropharvest package: the bounding box of each polygon of Natural Earth's
    1:50m countries, without those inside another box of the same country.
    ``tools/country_boxes.py`` makes the table. They are sorted by country, then as the polygons
    are. A country of one polygon has a box of its own name, "Togo"; the others are numbered as the
    polygons, "Kenya_1".

    Parameters
    ----------
    name
        Natural Earth's English name of a country, "Kenya" or "People's Republic of China"; by
        default all 241.

    Raises
    ------
    ValueError
        If there is no country of that name.
    """
    table = _table()
    if name is None:
        return [box for boxes in table.values() for box in boxes]
    if name not in table:
        close = [country for country in table if name and name in country]
        close = close or difflib.get_close_matches(name, table, cutoff=0.5)
        advice = " or ".join(map(repr, close[:3])) or "Natural Earth's English name"
        raise ValueError(f"name is {name!r}, which no country is called: give {advice}")
    return list(table[name])


def country_of(region: str | None) -> str | None:
    """Return the country of a region's name, "Brazil" for "Brazil_3"; None if it has none."""
    country = re.sub(r"_\d+$", "", region or "")
    return country if country in _table() else None


@cache
def _table() -> dict[str, list[BBox]]:
    text = (resources.files("timl.data.regions") / _TABLE).read_text(encoding="utf-8")
    return {
        country: [
            BBox(south, north, west, east, name)
            for name, (south, north, west, east) in boxes.items()
        ]
        for country, boxes in json.loads(text).items()
    }
