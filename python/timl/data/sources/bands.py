"""Order of a source's bands: by their names, where there are any."""

from __future__ import annotations

import re
from collections.abc import Sequence

from timl.data.own.exports import DYNAMIC_BANDS, STATIC_BANDS, check_band_count

_NUMBERED = re.compile(r"(.+?)_(\d+)")


def export_order(names: Sequence[str | None], source: object) -> list[int]:
    """Return for each band of CropHarvest's export format the place of it in a file.

    Parameters
    ----------
    names
        Description of each band of the file, None or "" where it has none. Those of a step carry
        its number, such as "B2_1"; the first step's may go without.
    source
        Name of the file in messages.

    Returns
    -------
    list of int
        Places, counted from 0, of 17 bands for each step and of elevation and slope. Without any
        names they are those of the format.

    Raises
    ------
    ValueError
        If the number of bands does not fit, or names are missing, doubled or unknown.
    """
    check_band_count(len(names), source)
    given = [name or "" for name in names]
    if not any(given):
        return list(range(len(given)))
    places: dict[tuple[str, int], int] = {}
    for place, name in enumerate(given):
        found = _named(name)
        if found is None:
            raise ValueError(
                f"{source} has a band {place + 1} named {name!r}, whose meaning cannot be known: "
                f"name the bands {', '.join(DYNAMIC_BANDS)}, each with _ and the number of its "
                f"step, and {', '.join(STATIC_BANDS)}, or leave all names out where they are in "
                f"that order"
            )
        if found in places:
            raise ValueError(
                f"{source} has two bands named {name!r}, {places[found] + 1} and {place + 1}: "
                f"give every band a name of its own"
            )
        places[found] = place
    steps = (len(given) - len(STATIC_BANDS)) // len(DYNAMIC_BANDS)
    wanted = [(band, step) for step in range(steps) for band in DYNAMIC_BANDS]
    wanted += [(band, 0) for band in STATIC_BANDS]
    missing = [f"{band}_{step}" for band, step in wanted if (band, step) not in places]
    if missing:
        raise ValueError(
            f"{source} has no band {', '.join(missing[:5])} among its {len(given)}: give every "
            f"band of every step"
        )
    return [places[key] for key in wanted]


def _named(name: str) -> tuple[str, int] | None:
    """Return band and step of a description, None where it is neither."""
    if name in DYNAMIC_BANDS or name in STATIC_BANDS:
        return name, 0
    found = _NUMBERED.fullmatch(name)
    if found is None or found.group(1) not in DYNAMIC_BANDS:
        return None
    return found.group(1), int(found.group(2))
