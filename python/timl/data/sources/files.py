"""Exports as files: one GeoTIFF, a mosaic of many on one grid, or a VRT."""

from __future__ import annotations

import glob
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timl.data.own.exports import (
    DYNAMIC_BANDS,
    STATIC_BANDS,
    import_rasterio,
    open_raster,
    require_layout,
    require_reference_system,
)
from timl.data.record.calendar import dates_of_name
from timl.data.sources.bands import export_order
from timl.data.sources.grid import Grid
from timl.data.sources.windows import Window, windows

_SUFFIXES = (".tif", ".tiff")
_MOST_OPEN = 64
"""Files that a thread holds open at most."""
_ALIGNED = 0.01
"""Part of a pixel by which the grids of two files may differ."""
_ELEMENTS = {
    "VRTDataset", "SRS", "GeoTransform", "Metadata", "MDI", "VRTRasterBand", "Description",
    "NoDataValue", "ColorInterp", "UnitType", "Offset", "Scale", "SimpleSource", "ComplexSource",
    "SourceFilename", "SourceBand", "SourceProperties", "SrcRect", "DstRect", "NODATA",
}  # fmt: skip
_ATTRIBUTES = {
    "rasterXSize", "rasterYSize", "dataAxisToSRSAxisMapping", "coordinateEpoch", "key", "domain",
    "dataType", "band", "blockXSize", "blockYSize", "relativeToVRT", "shared", "resampling",
    "xOff", "yOff", "xSize", "ySize", "RasterXSize", "RasterYSize", "DataType", "BlockXSize",
    "BlockYSize",
}  # fmt: skip
"""What a VRT of GeoTIFFs side by side holds: only `SourceFilename` names a file."""


@dataclass(frozen=True)
class _Tile:
    """One file of a mosaic."""

    path: str
    row: int
    column: int
    height: int
    width: int
    order: tuple[int, ...]  # place of each band of the export format, see `export_order`


@dataclass(frozen=True)
class FileSource:
    """Pixels of exports on one grid; where files overlap the first by name that has a value counts.

    Attributes
    ----------
    name
        Name for messages and for the map's tags.
    grid
        Grid that holds all files.
    steps
        Number of time steps.
    start
        First day of the series; None where no file name tells it.
    identity
        Sizes and times of the files: another text where one of them was changed.
    windows
        Windows in which it is read.
    """

    name: str
    grid: Grid
    steps: int
    start: date | None
    identity: str
    windows: list[Window]
    tiles: tuple[_Tile, ...]
    _opened: Any = field(default_factory=threading.local, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind: another process opens its own."""
        return {**self.__dict__, "_opened": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _opened=threading.local())

    def read(self, window: Window, bands: slice = slice(None)) -> NDArray[np.float64]:
        """Read bands of a window in the order of the export format; NaN is missing.

        Returns
        -------
        float64 array of shape [17 steps + 2, height, width]
            Or as many as `bands` of them.

        Raises
        ------
        ValueError
            If a file is damaged.
        """
        rasterio = import_rasterio()
        count = len(range(*bands.indices(len(self.tiles[0].order))))
        out = np.full((count, window.height, window.width), np.nan)
        for tile in self.tiles:
            top, left = max(window.row, tile.row), max(window.column, tile.column)
            bottom = min(window.row + window.height, tile.row + tile.height)
            right = min(window.column + window.width, tile.column + tile.width)
            if top >= bottom or left >= right:
                continue
            file = self._file(tile)
            inside = rasterio.windows.Window(
                left - tile.column, top - tile.row, right - left, bottom - top
            )
            indexes = [place + 1 for place in tile.order[bands]]
            try:
                raw = file.read(indexes, window=inside, out_dtype=np.float64)
            except rasterio.errors.RasterioError as error:
                raise ValueError(f"{tile.path} is damaged: {_message(error)}") from error
            if file.nodata is not None:
                raw[raw == file.nodata] = np.nan
            for band in raw:  # one by one, within the cache
                band[~np.isfinite(band)] = np.nan
            if len(self.tiles) == 1 and raw.shape == out.shape:
                return np.asarray(raw)
            rows = slice(top - window.row, bottom - window.row)
            columns = slice(left - window.column, right - window.column)
            part = out[:, rows, columns]
            np.copyto(part, raw, where=np.isnan(part))
        return out

    def _file(self, tile: _Tile) -> Any:
        """Return a tile's file, opened by this thread."""
        opened = self._opened.__dict__.setdefault("files", {})
        if tile.path not in opened:
            if len(opened) == _MOST_OPEN:
                for file in opened.values():
                    file.close()
                opened.clear()
            opened[tile.path] = _open(tile.path)
        return opened[tile.path]


def open_files(
    source: str | Path | Sequence[str | Path], vrt_within: str | Path | None = None
) -> FileSource:
    """Open exports as one source.

    Parameters
    ----------
    source
        A GeoTIFF; a VRT; a folder, whose .tif files are taken; a pattern with ``*``; an address
        that fsspec reads, such as ``s3://bucket/file.tif``; or several files.
    vrt_within
        Folder of all files that a VRT may name, which must then be GeoTIFFs in a mosaic such as
        gdalbuildvrt makes. None: it may name any file or address that GDAL reads.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or none in the folder.
    ValueError
        If a VRT names what it may not, or a file cannot be read, is not in CropHarvest's export
        format, has no reference system, or they do not lie on one grid or have different months.
    """
    paths = export_files(source)
    if vrt_within is not None:
        for path in paths:
            if _is_vrt(path):
                _require_within(path, Path(vrt_within))
    rasterio = import_rasterio()
    found: list[tuple[str, Any, Grid, tuple[int, ...], tuple[int, int]]] = []
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        for path in paths:
            with _open(path) as file:
                order = tuple(export_order(file.descriptions, path))
                found.append((path, order, _grid(file, path), order, file.block_shapes[0]))
    first = found[0][2]
    a, west, e, north = (first.transform[i] for i in (0, 2, 4, 5))
    offsets = []
    for path, order, grid, _, _ in found:
        _require_same_grid(grid, first, path, paths[0])
        if len(order) != len(found[0][1]):
            raise ValueError(
                f"{path} has {len(order)} bands and {paths[0]} {len(found[0][1])}: give files of "
                f"the same steps"
            )
        column, row = (grid.transform[2] - west) / a, (grid.transform[5] - north) / e
        if max(abs(column - round(column)), abs(row - round(row))) > _ALIGNED:
            raise ValueError(
                f"{path} lies between the pixels of {paths[0]}, by {column % 1:.2f} columns and "
                f"{row % 1:.2f} rows: give files on one grid, or make a VRT of them"
            )
        offsets.append((round(row), round(column)))
    top, left = min(row for row, _ in offsets), min(column for _, column in offsets)
    tiles = tuple(
        _Tile(path, row - top, column - left, grid.height, grid.width, order)
        for (path, _, grid, order, _), (row, column) in zip(found, offsets, strict=True)
    )
    height = max(tile.row + tile.height for tile in tiles)
    width = max(tile.column + tile.width for tile in tiles)
    # a single file keeps its numbers: no rounding by the sum
    corner = (west, north) if (top, left) == (0, 0) else (west + left * a, north + top * e)
    whole = Grid(first.crs, type(first.transform)(a, 0, corner[0], 0, e, corner[1]), height, width)
    block = found[0][4] if len(found) == 1 else (256, 256)
    return FileSource(
        name=paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more",
        grid=whole,
        steps=(len(tiles[0].order) - len(STATIC_BANDS)) // len(DYNAMIC_BANDS),
        start=_start(paths),
        identity="\n".join(map(_identity, paths)),
        windows=windows(height, width, block),
        tiles=tiles,
    )


def export_files(source: str | Path | Sequence[str | Path]) -> list[str]:
    """Return the files of a source in the order of their names.

    Raises
    ------
    FileNotFoundError
        If there are none.
    ValueError
        If the list is empty.
    """
    if not isinstance(source, str | Path):
        given = sorted(map(str, source))
        if not given:
            raise ValueError("source is an empty list: give at least one file")
        return [path for each in given for path in export_files(each)]
    text = str(source)
    if "://" in text:
        return [text]
    path = Path(text)
    if path.is_dir():
        found = sorted(str(p) for p in path.rglob("*") if p.suffix.lower() in _SUFFIXES)
        if not found:
            raise FileNotFoundError(f"source is {text}, a folder without .tif files: give another")
        return found
    if path.is_file():
        return [text]
    if glob.has_magic(text):
        found = sorted(glob.glob(text, recursive=True))
        if found:
            return found
    raise FileNotFoundError(f"source is {text}, which does not exist: give a GeoTIFF or a folder")


def _open(path: str) -> Any:
    """Open a file: a GeoTIFF whatever its name, unless its name says that it is a VRT.

    A VRT may name other files, so that it is read only where the user asked for one.
    """
    rasterio = import_rasterio()
    driver = "VRT" if _is_vrt(path) else "GTiff"
    options = {}
    if "://" in path:
        import fsspec

        options["opener"] = fsspec.filesystem(path.split("://")[0])
    try:
        return rasterio.open(path, driver=driver, **options)
    except rasterio.errors.RasterioError as error:
        kind = "VRT" if driver == "VRT" else "GeoTIFF"
        raise ValueError(f"{path} is no readable {kind}: {_message(error)}") from error


def _is_vrt(path: str) -> bool:
    """Return whether a file's name says that it is a VRT."""
    return path.lower().endswith(".vrt")


def _require_within(path: str, folder: Path) -> None:
    """Raise ValueError unless a VRT is a plain mosaic of GeoTIFFs in a folder or below it."""
    from xml.etree import ElementTree

    if not folder.is_dir():
        raise ValueError(f"vrt_within is {folder}, which is no folder: give one")
    if "://" in path:
        raise ValueError(f"{path} is no local file: give one, or leave out vrt_within")
    text = Path(path).read_bytes()
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no readable VRT: {error}") from error
    held = {element.tag for element in root.iter()} - _ELEMENTS
    held |= {name for element in root.iter() for name in element.attrib} - _ATTRIBUTES
    if held or b"<!" in text:  # GDAL reads a name from an attribute as from an element
        raise ValueError(
            f"{path} holds {', '.join(sorted(held)) or 'declarations'}, by which it may reach "
            f"other files: give a mosaic of GeoTIFFs, as gdalbuildvrt makes it, or leave out "
            f"vrt_within"
        )
    for element in root.iter("SourceFilename"):
        beside = element.get("relativeToVRT") == "1"
        named = (Path(path).parent if beside else Path()) / (element.text or "")
        if not (named.is_file() and named.resolve().is_relative_to(folder.resolve())):
            raise ValueError(
                f"{path} names {element.text}, which is no file in {folder}: leave it out of the "
                f"VRT, or give another folder as vrt_within"
            )
        open_raster(named, f"a source of {path}").close()


def _grid(file: Any, path: str) -> Grid:
    """Return a file's grid, or raise a ValueError that says what is wrong with it."""
    require_reference_system(file.crs, path)
    require_layout(file, path)
    return Grid.of_file(file)


def _require_same_grid(grid: Grid, first: Grid, path: str, first_path: str) -> None:
    """Raise unless two grids have one reference system and one size of pixels."""
    if grid.crs != first.crs:
        raise ValueError(
            f"{path} has another reference system than {first_path}: give files on one grid"
        )
    for mine, other in ((grid.transform[i], first.transform[i]) for i in (0, 4)):
        if abs(mine - other) > 1e-9 * abs(other):
            raise ValueError(
                f"{path} has pixels of {mine} and {first_path} of {other}: give files on one grid"
            )


def _start(paths: list[str]) -> date | None:
    """Return the first day that the files' names tell; they must agree on the month."""
    days = {path: dates_of_name(Path(path).name) for path in paths}
    starts = {path: found[0] for path, found in days.items() if found is not None}
    months = {(start.year, start.month) for start in starts.values()}
    if len(months) > 1:
        first, last = sorted(starts, key=lambda path: starts[path])[:: len(starts) - 1]
        raise ValueError(
            f"source holds series of different months: {Path(first).name} starts on "
            f"{starts[first]} and {Path(last).name} on {starts[last]}: map each year by itself"
        )
    return min(starts.values()) if starts else None


def _identity(path: str) -> str:
    """Return a text that changes with a file."""
    if "://" in path:
        return path
    state = Path(path).stat()
    return f"{path} {state.st_size} {state.st_mtime_ns}"


def _message(error: Exception) -> str:
    """Return an error's own words in one line."""
    cause = error.__cause__ or error
    return " ".join(str(cause).split())
