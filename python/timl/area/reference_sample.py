"""Drawing a stratified random reference sample from a map, and the files for those who visit it."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from timl import random
from timl.area.class_map import ClassMap, Strip, open_map
from timl.area.planning import Allocation, allocate, sample_size
from timl.files import atomic_write
from timl.random import Purpose

if TYPE_CHECKING:
    import pandas as pd

SAMPLE, POINTS, STRATA, DESIGN = "sample.csv", "sample.geojson", "strata.csv", "design.json"
"""Files of a reference sample."""

_PIXELS_AT_ONCE = 2**20
"""Pixels whose random keys are drawn at once, about."""


@dataclass(frozen=True, eq=False, repr=False)
class ReferenceSample:
    """A sample of `draw_sample`.

    Parameters
    ----------
    points
        One row per sampled pixel: id, lat and lon of its centre (degrees), stratum (the class of
        the map there), row and column. They are in the order of the map's rows, which tells
        nothing of the strata.
    hectares
        Area of each stratum.
    pixels
        Number of pixels of each stratum.
    design
        How the sample was planned, for `DESIGN`.
    """

    points: pd.DataFrame
    hectares: Mapping[int, float]
    pixels: Mapping[int, int]
    design: Mapping[str, Any]

    def __repr__(self) -> str:
        counts = self.points["stratum"].value_counts().sort_index()
        strata = ", ".join(f"{count} of class {name}" for name, count in counts.items())
        return f"ReferenceSample({len(self.points)} points: {strata})"

    def write(self, folder: str | Path) -> None:
        """Write the sample's files into a folder, which is made where needed.

        - ``sample.csv`` and ``sample.geojson``, for the field team: id, lat, lon, and a column
          ``reference`` to fill in. They do not tell the map's class: who knows what the map says
          tends to agree with it, and accuracy comes out too high.
        - ``strata.csv``, to be kept back: id and stratum.
        - ``design.json``, to be kept back: sizes of the strata, seed, and how the size was planned.

        Raises
        ------
        FileExistsError
            If there is a ``sample.csv`` with references, which would be lost.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if _is_filled_in(folder / SAMPLE):
            raise FileExistsError(
                f"out is {folder}, whose {SAMPLE} is filled in: give another folder"
            )
        visited = self.points[["id", "lat", "lon"]].assign(reference="")
        for name, table in ((SAMPLE, visited), (STRATA, self.points[["id", "stratum"]])):
            with atomic_write(folder / name, "w") as file:
                table.to_csv(file, index=False, float_format="%.8f", lineterminator="\n")
        features = [
            {
                "type": "Feature",
                "properties": {"id": int(number), "reference": None},
                "geometry": {"type": "Point", "coordinates": [round(lon, 8), round(lat, 8)]},
            }
            for number, lat, lon in visited[["id", "lat", "lon"]].itertuples(index=False)
        ]
        for name, document in (
            (POINTS, {"type": "FeatureCollection", "features": features}),
            (DESIGN, dict(self.design)),
        ):
            with atomic_write(folder / name, "w") as file:
                json.dump(document, file, indent=1)


def _is_filled_in(table: Path) -> bool:
    """Return whether a sample's table is there and has a reference."""
    if not table.exists():
        return False
    with table.open(newline="", encoding="utf-8", errors="replace") as file:
        return any((line.get("reference") or "").strip() for line in csv.DictReader(file))


def draw_sample(
    map: str | Path,
    size: int | None = None,
    *,
    standard_error: float | None = None,
    accuracies: Mapping[int, float] | None = None,
    band: str | int = "class",
    allocation: Allocation = "proportional",
    least: int | None = None,
    seed: int = 0,
) -> ReferenceSample:
    """Draw a stratified random sample of a map's pixels; its classes are the strata.

    Within a stratum a pixel's chance is proportional to its true area, which differs between the
    pixels of a map in degrees: points are uniform on the ground, and shares of points are shares of
    area. The map is read in strips, twice. The draw depends on the seed, the classes and the
    allocation alone: each pixel has a key, an exponential random number over its area, and a
    stratum's smallest keys are drawn (Efraimidis and Spirakis, Weighted random sampling with a
    reservoir, Information Processing Letters 97, 2006).

    Parameters
    ----------
    map
        GeoTIFF, see `open_map`.
    size
        Number of points; or give ``standard_error``.
    standard_error
        Wanted standard error of the overall accuracy, from which `sample_size` plans the size.
    accuracies
        Expected user's accuracy of each class, for the size and for the optimal allocation; by
        default 0.85 of each.
    band
        Name or number of the band of classes.
    allocation
        See `allocate`.
    least
        Points of each stratum, at least; by default 50, or a half of an equal share where the
        sample is too small for that.
    seed
        Seed in [0, 2**64).

    Raises
    ------
    FileNotFoundError
        If there is no such map.
    ValueError
        If the map or a number is not as it must be, or a stratum has fewer pixels than are to be
        drawn of it.
    ImportError
        If rasterio is not installed: the extra ``timl[maps]``.
    """
    import pandas as pd

    if (size is None) == (standard_error is None):
        raise ValueError(
            f"size is {size} and standard_error is {standard_error}: give one of the two"
        )
    with open_map(map, band) as opened:
        pixels, hectares = opened.class_sizes()
        expected = dict.fromkeys(hectares, _EXPECTED) if accuracies is None else dict(accuracies)
        reason = f"the number of points was given, {size}"
        if standard_error is not None:
            size = sample_size(
                hectares,
                expected,
                standard_error,
                allocation=allocation,
                units=sum(pixels.values()),
            )
            reason = (
                f"{size} points promise a standard error of {standard_error:g} of the overall "
                f"accuracy (Cochran 1977, equation 5.24), if user's accuracies are "
                f"{', '.join(f'{p:g} of class {c}' for c, p in expected.items())}"
            )
        assert size is not None
        floor = max(2, min(50, size // (2 * len(hectares)))) if least is None else least
        counts = allocate(size, hectares, allocation=allocation, proportions=expected, least=floor)
        for name, count in counts.items():
            if count > pixels[name]:
                raise ValueError(
                    f"size is {size}, of which {count} points in class {name}, which has "
                    f"{pixels[name]} pixels: give a smaller size or least"
                )
        rows, columns, strata = _draw(opened, counts, seed)
        places, names = opened.places(rows, columns), opened.names
    points = pd.DataFrame(
        {
            "id": np.arange(1, len(rows) + 1),
            "lat": places[:, 0],
            "lon": places[:, 1],
            "stratum": strata,
            "row": rows,
            "column": columns,
        }
    )
    design = {
        "map": Path(map).name,
        "size": size,
        "reason": reason,
        "allocation": allocation,
        "least": floor,
        "seed": seed,
        "strata": [
            {
                "stratum": c,
                **({"name": names[c]} if c in names else {}),
                "points": counts[c],
                "pixels": pixels[c],
                "hectares": hectares[c],
            }
            for c in counts
        ],
    }
    return ReferenceSample(points, hectares, pixels, design)


_EXPECTED = 0.85
"""User's accuracy that is expected where none is given."""


def _draw(
    opened: ClassMap, counts: Mapping[int, int], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return rows, columns and classes of the sampled pixels, in the order of the map."""
    kept = {name: np.empty((0, 3)) for name in counts}  # key, row, column
    for strip in opened.strips():
        rows_at_once = max(1, _PIXELS_AT_ONCE // strip.classes.shape[1])
        for start in range(0, len(strip.classes), rows_at_once):
            part = slice(start, start + rows_at_once)
            keys = _keys(strip, part, seed)
            for name, count in counts.items():
                mine = strip.valid[part] & (strip.classes[part] == name)
                if len(kept[name]) == count:
                    mine &= keys <= kept[name][-1, 0]
                rows, columns = np.nonzero(mine)
                found = np.stack([keys[mine], rows + (strip.row + start), columns], axis=1)
                if len(found) > count:
                    found = found[np.argpartition(found[:, 0], count - 1)[:count]]
                both = np.concatenate([kept[name], found])
                kept[name] = both[np.lexsort(both.T[::-1])[:count]]
    drawn = np.concatenate(list(kept.values()))[:, 1:].astype(np.int64)
    strata = np.repeat(np.array(list(kept), np.int64), [len(k) for k in kept.values()])
    order = np.lexsort(drawn.T[::-1])
    return drawn[order, 0], drawn[order, 1], strata[order]


def _keys(strip: Strip, part: slice, seed: int) -> NDArray[np.float64]:
    """Draw the keys of some rows of a strip, [rows, columns]."""
    hectares = strip.hectares[part]
    rows = strip.row + part.start + np.arange(len(hectares))
    shape = (hectares.shape[1], 2)
    drawn = random.uniform(shape, seed=seed, task=rows, purpose=Purpose.REFERENCE_SAMPLE)
    # 48 bits: of 24 alone many pixels of a large map would share a key
    numbers = drawn[..., 0].astype(np.float64) + 2.0**-24 * drawn[..., 1]
    return np.asarray(-np.log1p(-numbers) / hectares)
