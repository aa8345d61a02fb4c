"""Sources: exports as files or cubes on one grid, read by windows."""

from timl.data.sources.cube import CubeSource, open_cube
from timl.data.sources.files import FileSource, export_files, open_files
from timl.data.sources.source import SourceLike, open_source

__all__ = [
    "CubeSource",
    "FileSource",
    "SourceLike",
    "export_files",
    "open_cube",
    "open_files",
    "open_source",
]
