"""A finished map's file: what its tags say, and its bands at the size of a screen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timl.area.class_map import class_names
from timl.data.own.exports import import_rasterio, open_raster
from timl.data.sources.grid import Grid
from timl.files import decode_json
from timl.maps.drawing.legend import CLASS_COLOURS, LAYERS, Layer, layers_of


@dataclass(frozen=True, eq=False)
class MapFile:
    """What a map's file says of itself.

    Parameters
    ----------
    path
        GeoTIFF of the map.
    grid
        Its pixels.
    descriptions
        Names of all bands of the file, "band 1" and so on where it has none.
    bands
        Numbers in the file, from 1, of those bands that have a layer, by name.
    layers
        Layers by name, in the order in which they are shown.
    classes
        Names of several classes; none of a positive class and the rest.
    target
        Name of the positive class, or of what several classes are.
    threshold
        Least probability of the positive class in the band "class"; None where it is not known.
    prevalence
        Share of the positive class, or of each of several, that the probabilities are stated for;
        None where they weigh the classes alike.
    tags
        All tags of the file, by name, those of timl among them.
    """

    path: Path
    grid: Grid
    descriptions: tuple[str, ...]
    bands: dict[str, int]
    layers: dict[str, Layer]
    classes: tuple[str, ...]
    target: str
    threshold: float | None
    prevalence: float | dict[str, float] | None
    tags: dict[str, str]

    @property
    def words(self) -> dict[str, str]:
        """What to put into the texts of `LAYERS`."""
        threshold = "the threshold" if self.threshold is None else f"{self.threshold:g}"
        return {"target": self.target, "threshold": threshold}

    @property
    def period(self) -> str:
        """First and last month of the series, "" where they are not known."""
        return " to ".join(
            self.tags[tag] for tag in ("TIML_START", "TIML_END") if self.tags.get(tag)
        )

    @property
    def origin(self) -> list[str]:
        """What the map was made from and by, a text for each thing known."""
        shares = self.tags.get("TIML_PREVALENCE")
        if isinstance(self.prevalence, dict):
            shares = ", ".join(f"{share:g} {name}" for name, share in self.prevalence.items())
        known = [
            ("source", self.tags.get("TIML_SOURCE")),
            ("months", self.period),
            ("probabilities for a share of", shares),
            ("model", self.tags.get("TIML_MODEL")),
            ("made", self.tags.get("TIML_CREATED")),
            ("timl", self.tags.get("TIML_VERSION")),
        ]
        return [f"{name} {text}" for name, text in known if text]


def read_map_file(path: str | Path) -> MapFile:
    """Read what a map's file says of itself, without its pixels.

    Parameters
    ----------
    path
        GeoTIFF with at least one band whose description is a layer's name.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it cannot be read, has no reference system or none of the bands.
    ImportError
        If rasterio is not installed: the extra ``timl[maps]``.
    """
    with open_raster(path, "map") as file:
        return _described(Path(path), file)


def read_shrunk(
    path: str | Path, most: int
) -> tuple[MapFile, Grid, dict[str, NDArray[np.float32]]]:
    """Read a map at no more than so many cells a side, from its overviews where it has them.

    A cell holds the mean of its pixels, and for "class" what at least half of them are, of several
    classes the most frequent; pixels without data count only where a cell has no others.

    Parameters
    ----------
    path
        GeoTIFF as for `read_map_file`.
    most
        Greatest number of cells a side; a smaller map keeps its pixels.

    Returns
    -------
    map : MapFile
    grid : Grid
        The cells.
    bands : dict of float32 arrays of shape [grid.height, grid.width]
        Bands in the order of the layers; NaN is no data.

    Raises
    ------
    FileNotFoundError, ValueError, ImportError
        As for `read_map_file`.
    """
    rasterio = import_rasterio()
    with open_raster(path, "map") as file:
        described = _described(Path(path), file)
        full = described.grid
        factor = max(1.0, max(full.height, full.width) / most)
        shape = (max(1, round(full.height / factor)), max(1, round(full.width / factor)))
        mean, mode = rasterio.enums.Resampling.average, rasterio.enums.Resampling.mode
        bands = {}
        for name, number in described.bands.items():
            try:
                band = file.read(
                    number, out_shape=shape, resampling=mean, masked=True, out_dtype="float32"
                )
                values = band.filled(np.nan)
                if described.classes and described.layers[name].classes:
                    # the most frequent class; GDAL gives 0 where a cell has none
                    classes = file.read(number, out_shape=shape, resampling=mode)
                    values = np.where(np.isnan(values), values, classes)
            except rasterio.errors.RasterioError as error:
                raise ValueError(
                    f"map is {path}, which is damaged: make it again ({error})"
                ) from error
            if described.layers[name].classes and not described.classes:
                # overviews may hold means of classes
                values = np.where(np.isnan(values), values, values >= 0.5)
            bands[name] = values.astype(np.float32)
        return described, full.resized(*shape), bands


def _described(path: Path, file: Any) -> MapFile:
    descriptions = tuple(name or f"band {i + 1}" for i, name in enumerate(file.descriptions))
    numbers = {name: i + 1 for i, name in enumerate(descriptions)}
    tags = {name: str(text) for name, text in file.tags().items()}
    classes = class_names(tags, path)
    if len(classes) == 1 or len(classes) > len(CLASS_COLOURS):
        raise ValueError(
            f"map is {path} of {len(classes)} classes: give one of 2 to {len(CLASS_COLOURS)}"
        )
    layers = layers_of(classes)
    bands = {name: numbers[name] for name in layers if name in numbers}
    if not bands:
        raise ValueError(
            f"map is {path} with bands {', '.join(descriptions)}: give one with "
            f"at least one of {', '.join(LAYERS)}"
        )
    return MapFile(
        path,
        Grid.of_file(file),
        descriptions,
        bands,
        layers,
        classes,
        tags.get("TIML_TARGET") or ("classes" if classes else "positive"),
        _number(path, tags, "TIML_THRESHOLD"),
        _shares(path, tags, classes) if classes else _number(path, tags, "TIML_PREVALENCE"),
        tags,
    )


def _shares(path: Path, tags: dict[str, str], classes: tuple[str, ...]) -> dict[str, float] | None:
    """Return the share of each class that the probabilities are stated for, None without any."""
    if "TIML_PREVALENCE" not in tags:
        return None
    advice = "give the share of each class by name, as JSON"
    shares = decode_json(tags["TIML_PREVALENCE"], f"TIML_PREVALENCE of map {path}", advice)
    right = isinstance(shares, dict) and set(shares) == set(classes)
    if not right or not all(isinstance(share, float) for share in shares.values()):
        raise ValueError(f"map is {path} with TIML_PREVALENCE {shares!r}: {advice}")
    return {name: shares[name] for name in classes}


def _number(path: Path, tags: dict[str, str], name: str) -> float | None:
    """Return a tag's number, None where there is no such tag."""
    if name not in tags:
        return None
    try:
        return float(tags[name])
    except ValueError as error:
        raise ValueError(f"map is {path} with {name} {tags[name]!r}: give a number") from error
