"""The files that list regions: JSON, and shapes."""

from __future__ import annotations

from pathlib import Path

from timl.data.regions.boxes import BBox
from timl.data.regions.geometries import read_shapes
from timl.files import read_json


def bbox_from_json(entry: object, source: str) -> BBox:
    """Make a box from one decoded JSON object with a name and four edges.

    Parameters
    ----------
    entry
        Object ``{"name", "min_lat", "max_lat", "min_lon", "max_lon"}``; other keys are ignored.
    source
        Place of the entry, for the error message.

    Raises
    ------
    ValueError
        If a key is missing or a value is of the wrong kind.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"{source}, region is a {type(entry).__name__}: give an object")
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError(f"{source}, name of the region is {name!r}: give a text")
    edges = {}
    for key in ("min_lat", "max_lat", "min_lon", "max_lon"):
        value = entry.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{source}, {key!r} of region {name!r} is {value!r}: give a number")
        edges[key] = float(value)
    return BBox(**edges, name=name)


def read_regions(path: str | Path, name_column: str = "name") -> list[BBox]:
    """Read regions from a JSON file, or from any file of shapes that GeoPandas reads, in its order.

    Parameters
    ----------
    path
        JSON file that holds a list of ``{"name", "min_lat", "max_lat", "min_lon", "max_lon"}``,
        or shapes (GeoJSON, Shapefile, GeoPackage, ...): the bounding box of each is a region.
        Shapes need the extra ``timl[geo]``.
    name_column
        Column of the shapes that names the regions.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file holds neither, or a name occurs twice.
    ImportError
        If the file holds shapes and GeoPandas is not installed.
    """
    path = Path(path)
    entries = _json_list(path) if path.suffix.lower() == ".json" else None
    if entries is None:
        regions = _boxes_of_shapes(path, name_column)
    else:
        regions = [bbox_from_json(entry, f"{path}, entry {i}") for i, entry in enumerate(entries)]
    names = [region.name for region in regions]
    repeated = sorted({str(name) for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(
            f"{path} repeats the names {', '.join(repeated)}: give regions different ones"
        )
    return regions


def _json_list(path: Path) -> list[object] | None:
    """Read the list of a JSON file; None if it is GeoJSON."""
    content = read_json(path, "give a list of regions, or shapes")
    if isinstance(content, dict) and content.get("type") in ("FeatureCollection", "Feature"):
        return None
    if not isinstance(content, list):
        raise ValueError(f"{path} holds a {type(content).__name__}: give a list of regions")
    return content


def _boxes_of_shapes(path: Path, name_column: str) -> list[BBox]:
    shapes = read_shapes(path)
    if name_column not in shapes:
        raise ValueError(
            f"name_column is {name_column!r}, which {path} does not have: give one of "
            f"{', '.join(map(str, shapes.columns))}"
        )
    regions = []
    for row, (name, shape) in enumerate(zip(shapes[name_column], shapes.geometry, strict=True)):
        if not isinstance(name, str) or not name or shape is None or shape.is_empty:
            raise ValueError(
                f"{path}, row {row}, is {name!r} with shape {shape}: give a name and a shape"
            )
        min_lon, min_lat, max_lon, max_lat = shape.bounds
        regions.append(BBox(min_lat, max_lat, min_lon, max_lon, name))
    return regions
