"""Writing a simulated scene's files: the export, the truth, the parcels and the points."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from timl.bands import STEPS
from timl.crop_classes import NON_CROP
from timl.data.own.exports import DYNAMIC_BANDS, STATIC_BANDS, import_rasterio
from timl.data.simulator.covers import COVERS
from timl.data.simulator.draws import Draws, Floats, Level, Stream
from timl.data.simulator.scene.landscape import Landscape, Parcel
from timl.data.simulator.scene.noise import TILE
from timl.data.simulator.scene.pixels import EDGE, Ground, make_tile
from timl.data.simulator.writing import Progress, in_order

PIXEL = 10
"""Edge of a pixel, metres."""

LEGEND = {number + 1: cover.label for number, cover in enumerate(COVERS)}
"""Labels by their number in the truth's raster."""

_INSIDE = 1.6
"""Least distance of a point from the edge of its parcel, pixels."""
_TRIES = 256
"""Places that are tried at once for points."""
_MOST_TRIES = 100
"""Turns of such tries before the scene counts as too small for the points."""


@dataclass(frozen=True)
class Grid:
    """The pixels of a scene: zone of UTM, north-western corner in metres, and edge in pixels."""

    crs: str
    west: float
    north: float
    size: int

    @property
    def transform(self) -> Any:
        """Affine map from columns and rows to metres."""
        return import_rasterio().transform.from_origin(self.west, self.north, PIXEL, PIXEL)

    def to_degrees(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return longitudes and latitudes of places in pixels from the corner."""
        warp = import_rasterio().warp
        lons, lats = warp.transform(
            self.crs, "EPSG:4326", self.west + PIXEL * x, self.north - PIXEL * y
        )
        return np.asarray(lons), np.asarray(lats)


def write_scene(
    folder: Path,
    ground: Ground,
    landscape: Landscape,
    grid: Grid,
    export: Path,
    points: int,
    seed: int,
    progress: Progress,
) -> None:
    """Write a scene's files into a folder; `export` is the export's path in it."""
    _write_points(folder / "points.csv", landscape, grid, points, seed)  # may raise: first
    _write_fields(folder / "fields.geojson", landscape, grid)
    (folder / export).parent.mkdir()
    _write_rasters(folder, export, ground, landscape, grid, seed, progress)


def _write_rasters(
    folder: Path,
    export: Path,
    ground: Ground,
    landscape: Landscape,
    grid: Grid,
    seed: int,
    progress: Progress,
) -> None:
    rasterio = import_rasterio()
    profile = {
        "driver": "GTiff",
        "width": grid.size,
        "height": grid.size,
        "crs": grid.crs,
        "transform": grid.transform,
        "tiled": True,
        "blockxsize": TILE,
        "blockysize": TILE,
        "BIGTIFF": "IF_SAFER",
    }
    names = [
        *(f"{band}_{step}" if step else band for step in range(STEPS) for band in DYNAMIC_BANDS),
        *STATIC_BANDS,
    ]
    series = {"dtype": "float32", "count": len(names), "interleave": "pixel"}
    classes = {"dtype": "uint8", "count": 1, "nodata": 0, "compress": "deflate"}
    with (
        rasterio.open(folder / export, "w", **profile, **series) as bands,
        rasterio.open(folder / "truth.tif", "w", **profile, **classes) as truth,
    ):
        bands.descriptions = names
        truth.descriptions = ["cover"]
        truth.update_tags(**{f"class_{value}": label for value, label in LEGEND.items()})
        truth.write_colormap(1, {value: (*COLOURS[label], 255) for value, label in LEGEND.items()})

        def make(number: int) -> Any:
            return make_tile(ground, landscape, grid.size, seed, number)

        made = 0
        for tile in in_order(make, (-(-grid.size // TILE)) ** 2):
            height, width = tile.truth.shape
            window = rasterio.windows.Window(tile.column, tile.row, width, height)
            bands.write(tile.bands, window=window)
            truth.write(tile.truth, 1, window=window)
            made += tile.truth.size
            progress(made, grid.size**2)


def _write_fields(path: Path, landscape: Landscape, grid: Grid) -> None:
    """Write the parcels, cut at the scene's edges; each is one feature."""
    head = '{"type": "FeatureCollection", "crs": {"type": "name", "properties": '
    head += '{"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}, "features": [\n'
    with path.open("w", encoding="utf-8", newline="\n") as file:
        before = head
        for number, (parcel, shape) in enumerate(_in_scene(landscape, grid.size)):
            cover = COVERS[parcel.cover]
            properties = {
                "field": number,
                "label": cover.label,
                "classification_label": cover.classification_label,
                "is_crop": int(cover.classification_label != NON_CROP),
                "hectares": round(shape.area * PIXEL**2 / 1e4, 4),
            }
            feature = {
                "type": "Feature",
                "properties": properties,
                "geometry": _geometry(shape, grid),
            }
            file.write(before + json.dumps(feature))
            before = ",\n"
        file.write("\n]}\n")


def _in_scene(landscape: Landscape, size: int) -> Iterator[tuple[Parcel, Any]]:
    from shapely import box, intersection

    whole = box(0, 0, size, size)
    for cell in landscape.cells(0, 0, size, size):
        for parcel in landscape.cell(*cell):
            shape = intersection(parcel.shape, whole)
            if shape.area > 0:
                yield parcel, shape


def _geometry(shape: Any, grid: Grid) -> dict[str, Any]:
    """Return a shape's polygons in degrees of seven decimals, as GeoJSON."""
    from shapely import get_parts

    def ring(line: Any) -> Any:
        lons, lats = grid.to_degrees(*np.asarray(line.coords).T)
        return np.round(np.stack([lons, lats], axis=1), 7).tolist()

    polygons = [part for part in get_parts(shape) if part.geom_type == "Polygon"]
    rings = [[ring(polygon.exterior), *map(ring, polygon.interiors)] for polygon in polygons]
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings[0]}
    return {"type": "MultiPolygon", "coordinates": rings}


def _write_points(path: Path, landscape: Landscape, grid: Grid, count: int, seed: int) -> None:
    """Write points uniform over the scene's parcels but roads, no two in one parcel."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["lat", "lon", "label", "classification_label", "is_crop"])
        for (x, y), parcel in _surveyed(landscape, grid.size, count, seed):
            lons, lats = grid.to_degrees(np.array([x]), np.array([y]))
            cover = COVERS[parcel.cover]
            crop = int(cover.classification_label != NON_CROP)
            place = (f"{lats[0]:.7f}", f"{lons[0]:.7f}")
            table.writerow([*place, cover.label, cover.classification_label, crop])


def _surveyed(
    landscape: Landscape, size: int, count: int, seed: int
) -> list[tuple[Floats, Parcel]]:
    from shapely import Point

    found: dict[int, tuple[Floats, Parcel]] = {}
    for turn in range(_MOST_TRIES):
        draws = Draws(seed, turn, Level.SCENE)
        inside = EDGE + 1 + (size - 2 * EDGE - 2) * draws.uniform(Stream.SURVEY_POINTS, _TRIES, 2)
        for x, y in inside:
            point = Point(x, y)
            for parcel in landscape.parcels(x, y, x, y):
                if parcel.surveyed and parcel.key not in found and parcel.shape.contains(point):
                    if parcel.shape.boundary.distance(point) >= _INSIDE:
                        found[parcel.key] = (np.array([x, y]), parcel)
                    break
            if len(found) == count:
                return list(found.values())
    raise ValueError(
        f"points is {count}: the scene has only about {len(found)} parcels that points can be in: "
        "give fewer points or a larger size"
    )


# fmt: off
COLOURS = {
    "maize": (240, 190, 40), "wheat": (215, 170, 100), "barley": (200, 185, 120),
    "rice": (120, 190, 190), "sorghum": (205, 120, 60), "millet": (190, 150, 90),
    "tomato": (215, 60, 50), "onion": (200, 130, 180), "grapes": (130, 70, 150),
    "citrus": (245, 140, 30), "orchard": (160, 100, 70), "soybean": (90, 160, 70),
    "sunflower": (250, 220, 60), "rapeseed": (230, 230, 90), "groundnut": (175, 125, 60),
    "olive": (130, 140, 70), "potato": (150, 110, 160), "cassava": (140, 90, 60),
    "coffee": (100, 60, 40), "bean": (110, 170, 120), "chickpea": (190, 175, 80),
    "sugarcane": (60, 150, 110), "sugar beet": (180, 70, 110), "cotton": (225, 215, 225),
    "alfalfa": (120, 200, 80), "permanent grassland": (175, 215, 140), "forest": (40, 95, 55),
    "shrubland": (130, 150, 100), "bare": (205, 190, 165), "water": (70, 120, 185),
    "built-up": (150, 145, 150), "fallow": (195, 180, 140),
}
# fmt: on
"""Colours of the labels in the truth's raster: red, green, blue."""
