"""Maps: a classifier's predictions for every pixel of an export, and the files beside them."""

from timl.data.sources.cube import CubeSource, open_cube
from timl.data.sources.files import FileSource, export_files, open_files
from timl.maps.chips import evaluate_chips, predict_chip
from timl.maps.from_points import map_points, shown_points
from timl.maps.points_map import PointsMap
from timl.maps.predict import MapFiles, predict_map

__all__ = [
    "CubeSource",
    "FileSource",
    "MapFiles",
    "PointsMap",
    "evaluate_chips",
    "export_files",
    "map_points",
    "open_cube",
    "open_files",
    "predict_chip",
    "predict_map",
    "shown_points",
]
