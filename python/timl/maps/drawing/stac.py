"""A map as an item of a SpatioTemporal Asset Catalog (STAC 1.1)."""

from __future__ import annotations

import calendar
import json
import math
import os
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timl.data.own.exports import import_rasterio
from timl.data.sources.grid import Grid
from timl.files import atomic_write
from timl.maps.drawing.legend import CLASS_PROBABILITY, NO_CLASS
from timl.maps.drawing.map_file import MapFile, read_map_file

_RASTER = "https://stac-extensions.github.io/raster/v2.0.0/schema.json"
"""Version for the bands of STAC 1.1; pystac's own class writes version 1.1.0, for STAC 1.0."""
_CLASSIFICATION = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"
_EDGE = 16
"""Number of parts of a footprint's side in metres: it is curved in degrees."""


def write_stac_item(
    map: str | Path,
    out: str | Path,
    *,
    quicklook: str | Path | None = None,
    page: str | Path | None = None,
    classes: str | Path | None = None,
) -> None:
    """Write the STAC item of a map.

    Its time is from the beginning of the first month of the series to the end of the last, or,
    where the map does not say these, when the map was made. The footprint is the whole grid. Files
    are named relative to the item's folder.

    Parameters
    ----------
    map
        GeoTIFF of the map.
    out
        JSON file to write; its folder must exist.
    quicklook
        PNG of the map, of `write_quicklook`, to name in the item. By default none.
    page
        HTML page of the map, of `write_page`, to name in the item. By default none.
    classes
        GeoTIFF of the classes alone, of a map of several, to name in the item. By default none.

    Raises
    ------
    FileNotFoundError
        If there is no such map.
    ValueError
        If it is no map, or its tags hold no time or one that makes no sense.
    ImportError
        If rasterio or pystac is not installed: the extra ``timl[maps]``.
    """
    try:
        import pystac
        from pystac.extensions.projection import ProjectionExtension
    except ImportError as error:
        raise ImportError(
            "a STAC item needs pystac: install it with pip install 'timl[maps]'"
        ) from error
    described = read_map_file(map)
    grid, tags = described.grid, described.tags
    geometry, bounds = _footprint(described)
    created = _created(described)
    months = _months(described)
    if created is None and months is None:
        raise ValueError(
            f"map is {map} without TIML_START and TIML_END, or TIML_CREATED: give one that says "
            "its time"
        )
    properties: dict[str, Any] = {
        "title": f"Map of {described.target}",
        "timl:target": described.target,
        "timl:threshold": described.threshold,
        "timl:prevalence": described.prevalence,
        "timl:classes": list(described.classes) or None,
        **{f"timl:{name}": tags.get(f"TIML_{name.upper()}") for name in _KEPT},
    }
    start, end = months or (None, None)
    item = pystac.Item(
        id=described.path.stem,
        geometry=geometry,
        bbox=bounds,
        datetime=created if months is None else None,
        properties={name: value for name, value in properties.items() if value is not None},
        start_datetime=start,
        end_datetime=end,
        stac_extensions=[_RASTER, *([_CLASSIFICATION] if "class" in described.bands else [])],
    )
    item.common_metadata.created = created
    resolution = round(math.sqrt(math.prod(grid.cell_size())), 3)
    item.common_metadata.gsd = resolution
    projection = ProjectionExtension.ext(item, add_if_missing=True)
    code = grid.crs.to_authority()
    projection.apply(
        code=":".join(code) if code else None,
        wkt2=None if code else grid.crs.to_wkt(version="WKT2_2019"),
        shape=[grid.height, grid.width],
        transform=list(grid.transform)[:6],
        bbox=_extent(grid),
    )
    folder = Path(out).resolve().parent
    asset = pystac.Asset(
        _href(described.path, folder),
        title=f"Map of {described.target}",
        media_type=pystac.MediaType.COG,
        roles=["data"],
        extra_fields={"bands": _bands(described, resolution)},
    )
    item.add_asset("map", asset)
    if classes is not None:
        band = {**_band(described, "class", resolution), "data_type": "uint8", "nodata": NO_CLASS}
        asset = pystac.Asset(
            _href(classes, folder),
            title="Classes alone",
            media_type=pystac.MediaType.COG,
            roles=["data"],
            extra_fields={"bands": [band]},
        )
        item.add_asset("classes", asset)
    for key, path, kind, role in (
        ("quicklook", quicklook, pystac.MediaType.PNG, "overview"),
        ("page", page, pystac.MediaType.HTML, "metadata"),
    ):
        if path is not None:
            item.add_asset(key, pystac.Asset(_href(path, folder), media_type=kind, roles=[role]))
    content = item.to_dict(include_self_link=False, transform_hrefs=False)
    with atomic_write(out, "w") as file:
        json.dump(content, file, indent=2, allow_nan=False)
        file.write("\n")


_KEPT = ("version", "model", "source")
"""Tags, in lower case, that become properties."""


def _bands(described: MapFile, resolution: float) -> list[dict[str, Any]]:
    """Return the descriptions of all bands of the file, in its order."""
    bands: list[dict[str, Any]] = []
    for name in described.descriptions:
        of_class = name.removeprefix(CLASS_PROBABILITY)
        if name in described.bands:
            bands.append(_band(described, name, resolution))
        elif name != of_class and of_class in described.classes:
            meaning = f"Probability that the pixel is {of_class}."
            bands.append(_measure(name, meaning, resolution))
        else:
            bands.append({"name": name})
    return bands


def _band(described: MapFile, name: str, resolution: float) -> dict[str, Any]:
    """Return the description of a band that has a layer."""
    layer = described.layers[name]
    band = _measure(name, layer.meaning.format(**described.words), resolution)
    if layer.classes:
        keys = _class_keys(described.classes) if described.classes else ["negative", "positive"]
        band["classification:classes"] = [
            {
                "value": value,
                "name": key,
                "title": title.format(**described.words),
                "color_hint": "".join(f"{part:02X}" for part in colour),
            }
            for value, (key, title, colour) in enumerate(
                zip(keys, layer.classes, layer.palette().tolist(), strict=True)
            )
        ]
    return band


def _measure(name: str, meaning: str, resolution: float) -> dict[str, Any]:
    """Return the description of a band of the map without classes."""
    return {
        "name": name,
        "description": meaning,
        "data_type": "float32",
        "nodata": "nan",
        "raster:sampling": "area",
        "raster:spatial_resolution": resolution,
    }


def _class_keys(classes: tuple[str, ...]) -> list[str]:
    """Return names of classes in the letters that the classification extension allows."""
    keys = [re.sub("[^0-9A-Za-z_-]+", "-", name).strip("-") for name in classes]
    return [
        key if key and keys.count(key) == 1 else f"class-{number}"
        for number, key in enumerate(keys)
    ]


def _footprint(described: MapFile) -> tuple[dict[str, Any], list[float]]:
    """Return the outline of the grid as GeoJSON, and its west, south, east and north.

    Both are in degrees. Where the grid crosses the 180th meridian, the outline is cut there, and
    west is greater than east (RFC 7946, sections 3.1.9 and 5.2).
    """
    warp = import_rasterio().warp
    grid = described.grid
    corners = _corners(grid)
    parts = 1 if grid.crs.is_geographic else _EDGE
    outline = [
        ((parts - part) * start + part * end) / parts
        for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True)
        for part in range(parts)
    ]
    rings = {"type": "Polygon", "coordinates": [[*outline, outline[0]]]}
    geometry = warp.transform_geom(grid.crs, "EPSG:4326", rings, precision=7)
    bounds = warp.transform_bounds(grid.crs, "EPSG:4326", *_extent(grid))
    if not np.isfinite(bounds).all():
        raise ValueError(
            f"map is {described.path}, parts of which have no latitude and longitude: give one in "
            "a reference system that holds for all of it"
        )
    return dict(geometry), [round(bound, 7) for bound in bounds]


def _corners(grid: Grid) -> NDArray[np.float64]:
    """Return the corners of a grid, counter-clockwise where rows run south, float64 [4, 2]."""
    columns, rows = [0, 0, grid.width, grid.width], [0, grid.height, grid.height, 0]
    return np.stack(grid.coordinates(columns, rows), axis=1)


def _extent(grid: Grid) -> list[float]:
    """Return least x and y and greatest x and y of a grid, in its reference system."""
    corners = _corners(grid)
    return [*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()]


def _created(described: MapFile) -> datetime | None:
    """Return when the map was made, None if it does not say so."""
    text = described.tags.get("TIML_CREATED")
    if not text:
        return None
    try:
        made = datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text))
    except ValueError as error:
        raise ValueError(
            f"map is {described.path} with TIML_CREATED {text!r}: give an ISO 8601 date-time"
        ) from error
    return made.replace(tzinfo=timezone.utc) if made.tzinfo is None else made


def _months(described: MapFile) -> tuple[datetime, datetime] | None:
    """Return the first moment of the first month and the last second of the last one."""
    texts = [described.tags.get(tag, "") for tag in ("TIML_START", "TIML_END")]
    if not all(texts):
        return None
    parts = [re.fullmatch(r"(\d{4})-(0[1-9]|1[0-2])", text) for text in texts]
    if not (parts[0] and parts[1]) or texts[0] > texts[1]:
        raise ValueError(
            f"map is {described.path} with TIML_START {texts[0]!r} and TIML_END {texts[1]!r}: give "
            "the first and the last month as YYYY-MM"
        )
    (start_year, start_month), (year, month) = (
        (int(found[1]), int(found[2])) for found in parts if found
    )
    day = calendar.monthrange(year, month)[1]
    return (
        datetime(start_year, start_month, 1, tzinfo=timezone.utc),
        datetime(year, month, day, 23, 59, 59, tzinfo=timezone.utc),
    )


def _href(path: str | Path, folder: Path) -> str:
    """Return a file's name relative to a folder, with slashes."""
    return Path(os.path.relpath(Path(path).resolve(), folder)).as_posix()
