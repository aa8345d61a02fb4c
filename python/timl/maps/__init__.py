"""Maps: a classifier's predictions for every pixel of an export, and the files beside them."""

from timl.maps.cube import CubeSource, open_cube
from timl.maps.files import FileSource, open_files
from timl.maps.predict import MapFiles, predict_map

__all__ = ["CubeSource", "FileSource", "MapFiles", "open_cube", "open_files", "predict_map"]
