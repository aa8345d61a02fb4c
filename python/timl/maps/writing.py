"""Writing of a map: finished windows are kept until all are there, then make one GeoTIFF."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from timl.data.own.exports import import_rasterio
from timl.data.sources.grid import Grid
from timl.data.sources.windows import Window
from timl.files import atomic_write, remove_leftovers, sync_folder
from timl.maps.drawing.legend import CLASS_COLOURS, NO_CLASS

_PLAN = "plan.json"
_BLOCK = 512
"""Rows and columns of the map's tiles."""


class Parts:
    """Finished windows of a map in a folder beside it, from which a stopped call goes on.

    Parameters
    ----------
    out
        Path of the map.
    plan
        What the map depends on: parts of another plan are removed.
    windows
        Windows of the map.
    """

    def __init__(self, out: Path, plan: Mapping[str, Any], windows: list[Window]) -> None:
        self.folder = out.with_name(f".{out.name}.parts")
        self.windows = windows
        text = json.dumps({**plan, "windows": len(windows)}, sort_keys=True)
        kept = self.folder / _PLAN
        if self.folder.is_dir() and not (kept.is_file() and kept.read_bytes() == text.encode()):
            shutil.rmtree(self.folder)
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True)
            with atomic_write(kept, "w") as file:
                file.write(text)
        remove_leftovers(self.folder)

    def path(self, number: int) -> Path:
        """Return the file of a window."""
        return self.folder / f"{number:07}.npy"

    def missing(self) -> list[int]:
        """Return the numbers of the windows that are not finished."""
        return [i for i in range(len(self.windows)) if not self.path(i).is_file()]

    def write(self, number: int, values: NDArray[np.float32]) -> None:
        """Keep a finished window [bands, height, width]."""
        with atomic_write(self.path(number)) as file:
            np.save(file, values)

    def read(self, number: int) -> NDArray[np.float32]:
        """Return a finished window."""
        path = self.path(number)
        try:
            values: NDArray[np.float32] = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:  # NumPy's own text would advise to allow pickles
            path.unlink()
            raise OSError(
                f"{path} is damaged, and was removed: give the same call again"
            ) from error
        return values

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def write_map(
    out: Path, parts: Parts, grid: Grid, bands: list[str], tags: Mapping[str, str], threads: int
) -> None:
    """Write finished windows as a cloud-optimised GeoTIFF, whole or not at all.

    Overviews take the nearest pixel, so that in them too class and probability belong together.

    Parameters
    ----------
    out
        Path of the map.
    parts
        Its windows, all finished.
    grid
        Grid of the map.
    bands, tags
        Names of the bands; tags of the file.
    threads
        Threads that compress.

    Raises
    ------
    OSError
        If it cannot be written, or what was written reads otherwise; the finished windows stay.
    """
    _write(
        _Kind("float32", np.nan, "FLOATING_POINT", "NEAREST", lambda values: values),
        out,
        parts,
        grid,
        bands,
        tags,
        threads,
    )


def write_classes(
    out: Path,
    parts: Parts,
    grid: Grid,
    place: int,
    classes: Sequence[str],
    tags: Mapping[str, str],
    threads: int,
) -> None:
    """Write the classes of finished windows alone, in uint8, with colours and names.

    A cloud-optimised GeoTIFF whose colour table is that of all files of a map, 255 where there is
    no data. Overviews take the most frequent class. The names are in the file that GDAL, and so a
    GIS, reads beside it, OUT.aux.xml, because a GeoTIFF has no place for them.

    Parameters
    ----------
    out, parts, grid, tags, threads
        Those of `write_map`.
    place
        Place of the band of classes in the windows, from 0.
    classes
        Names of the classes.

    Raises
    ------
    OSError
        As of `write_map`.
    """

    def numbers(values: NDArray[np.float32]) -> NDArray[np.uint8]:
        band = values[place : place + 1]
        return np.where(np.isnan(band), NO_CLASS, band).astype(np.uint8)

    beside = out.with_name(f"{out.name}.aux.xml")
    beside.unlink(missing_ok=True)  # so that names never stand beside other classes
    kind = _Kind("uint8", NO_CLASS, "NO", "MODE", numbers, CLASS_COLOURS[: len(classes)])
    _write(kind, out, parts, grid, ["class"], tags, threads)
    root = ElementTree.Element("PAMDataset")
    band = ElementTree.SubElement(root, "PAMRasterBand", band="1")
    names = ElementTree.SubElement(band, "CategoryNames")
    for name in classes:
        ElementTree.SubElement(names, "Category").text = name
    with atomic_write(beside, "w") as file:
        file.write(ElementTree.tostring(root, encoding="unicode"))  # GDAL takes no declaration


def colour_table(colours: Sequence[str]) -> dict[int, tuple[int, ...]]:
    """Return the colours "#rrggbb" of classes 0, 1 and so on as rasterio takes them, opaque."""
    return {i: (*bytes.fromhex(colour[1:]), 255) for i, colour in enumerate(colours)}


class _Kind(NamedTuple):
    """How the values of windows are stored in a file."""

    dtype: str
    nodata: float
    predictor: str
    overviews: str
    """GDAL's name of the resampling of overviews."""
    values: Callable[[NDArray[np.float32]], NDArray[Any]]
    """Function from a window [bands, height, width] to what the file holds of it."""
    colours: Sequence[str] = ()
    """Colours of the values 0, 1 and so on, as #rrggbb."""


def _write(
    kind: _Kind,
    out: Path,
    parts: Parts,
    grid: Grid,
    bands: list[str],
    tags: Mapping[str, str],
    threads: int,
) -> None:
    """Write a cloud-optimised GeoTIFF of finished windows, whole or not at all; see `write_map`."""
    rasterio = import_rasterio()
    from rasterio.shutil import copy

    plain = parts.folder / "plain.tif"
    finished = parts.folder / "map.tif"
    try:
        with rasterio.open(
            plain,
            "w",
            driver="GTiff",
            count=len(bands),
            height=grid.height,
            width=grid.width,
            dtype=kind.dtype,
            crs=grid.crs,
            transform=grid.transform,
            nodata=kind.nodata,
            tiled=True,
            blockxsize=_BLOCK,
            blockysize=_BLOCK,
            BIGTIFF="IF_SAFER",
            SPARSE_OK=True,
        ) as file:
            file.descriptions = tuple(bands)
            file.update_tags(**tags)
            if kind.colours:
                file.write_colormap(1, colour_table(kind.colours))
            for number, window in enumerate(parts.windows):
                file.write(kind.values(parts.read(number)), window=_rasterio_window(window))
        copy(
            plain,
            finished,
            driver="COG",
            COMPRESS="DEFLATE",
            PREDICTOR=kind.predictor,
            BLOCKSIZE=_BLOCK,
            OVERVIEW_RESAMPLING=kind.overviews,
            BIGTIFF="IF_SAFER",
            NUM_THREADS=threads,
        )
        plain.unlink()
        _verify(finished, parts, kind)
    except rasterio.errors.RasterioError as error:
        raise OSError(
            f"{out} cannot be written ({' '.join(str(error.__cause__ or error).split())}): give it "
            f"room; the finished windows are kept in {parts.folder}"
        ) from error
    descriptor = os.open(finished, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(finished, out)
    sync_folder(out.parent)


def _verify(path: Path, parts: Parts, kind: _Kind) -> None:
    """Raise an OSError unless a file holds the finished windows: GDAL reports not every failure."""
    rasterio = import_rasterio()
    with rasterio.open(path, driver="GTiff") as file:
        for number, window in enumerate(parts.windows):
            written = file.read(window=_rasterio_window(window))
            if not np.array_equal(written, kind.values(parts.read(number)), equal_nan=True):
                raise OSError(
                    f"{path} was not written whole: give it room and call again; the finished "
                    f"windows are kept in {parts.folder}"
                )


def _rasterio_window(window: Window) -> Any:
    """Return a window as rasterio takes it."""
    from rasterio.windows import Window as RasterioWindow

    return RasterioWindow(window.column, window.row, window.width, window.height)
