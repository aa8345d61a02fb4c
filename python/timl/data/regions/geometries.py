"""Tables with geometries: points and boxes for GeoPandas, and files that GeoPandas reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timl.data.regions.boxes import BBox

if TYPE_CHECKING:
    import pandas as pd

WGS84 = "EPSG:4326"


def import_geopandas() -> Any:
    """Import GeoPandas, or raise an ImportError that says how to install it."""
    try:
        import geopandas
    except ImportError as error:
        raise ImportError(
            "this needs GeoPandas: install it with pip install 'timl[geo]'"
        ) from error
    return geopandas


def points_frame(table: pd.DataFrame) -> Any:
    """Return a table with columns lat and lon (degrees) as a GeoDataFrame of points."""
    geopandas = import_geopandas()
    points = geopandas.points_from_xy(table["lon"], table["lat"], crs=WGS84)
    return geopandas.GeoDataFrame(table, geometry=points)


def boxes_frame(table: pd.DataFrame, boxes: Sequence[BBox]) -> Any:
    """Return a table as a GeoDataFrame; row i's geometry is box i."""
    geopandas = import_geopandas()
    from shapely.geometry import box

    shapes = [box(b.min_lon, b.min_lat, b.max_lon, b.max_lat) for b in boxes]
    return geopandas.GeoDataFrame(table, geometry=shapes, crs=WGS84)


def read_shapes(path: Path) -> Any:
    """Read a file of geometries as a GeoDataFrame in degrees of latitude and longitude.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If GeoPandas cannot read it.
    """
    if not path.exists():
        raise FileNotFoundError(f"path is {path}, which does not exist: give a file")
    geopandas = import_geopandas()
    try:
        shapes = geopandas.read_file(path)
    except Exception as error:  # each of GeoPandas's engines has errors of its own
        raise ValueError(
            f"path is {path}, no file of geometries that GeoPandas reads: {error}"
        ) from error
    return in_degrees(shapes)


def in_degrees(shapes: Any) -> Any:
    """Return a GeoDataFrame in EPSG:4326; one without a reference system is taken to be in it."""
    return shapes if shapes.crs is None else shapes.to_crs(WGS84)
