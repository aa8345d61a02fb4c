"""Simulating a scene of a world: which place, what is written, and the arguments' checks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timl.data.own.exports import import_rasterio
from timl.data.simulator.climate import FIRST_MONTH
from timl.data.simulator.draws import Draws, require_integers
from timl.data.simulator.places import BLOCKS, draw_places
from timl.data.simulator.samples import choose_evaluations, draw_mixes
from timl.data.simulator.scene.landscape import Landscape
from timl.data.simulator.scene.pixels import Ground
from timl.data.simulator.scene.writing import LEGEND, PIXEL, Grid, write_scene
from timl.data.simulator.target import Target
from timl.data.simulator.world import world_arguments
from timl.data.simulator.writing import Progress, write_json

_MADE_BY = "timl.data.simulate_scene"
_VERSION = 1
_SMALLEST, _LARGEST = 64, 16384
_BLOCK = 5
"""Number of the country's block that scenes lie in."""


@dataclass(frozen=True)
class Scene:
    """A simulated scene: its files, and what they hold."""

    folder: Path
    """Folder of all its files, and of scene.json, which says how they were made."""
    export: Path
    """GeoTIFF in CropHarvest's export format: 12 months of 10 m pixels."""
    truth: Path
    """GeoTIFF of what grows at the middle of each pixel; `legend` says what its numbers mean."""
    fields: Path
    """GeoJSON of the land's parcels: label, classification_label, is_crop, hectares."""
    points: Path
    """CSV of the surveyed points: lat, lon, label, classification_label, is_crop."""
    country: str
    """Name of the country that it lies in, a region of the world."""
    first_month: str
    """First month of its series: year and month, as "2019-02"."""
    pixel_hectares: float
    """Area of a pixel."""
    legend: dict[int, str]
    """Labels by their numbers in `truth`; 0 is nodata."""


def simulate_scene(
    out: str | Path,
    world: str | Path,
    country: str | None = None,
    size: int = 256,
    points: int = 50,
    seed: int = 0,
    progress: Progress | None = None,
) -> Scene:
    """Simulate a place of a simulated world as a satellite sees it, with the truth of every pixel.

    Fields, roads, villages, woods and a river; crops, seasons, weather and sensors are those of the
    world's series, so that a model trained on the world fits. What lies within a pixel is mixed,
    pixels of a field are alike, and clouds cover parts of some months. Of the export the slope
    lacks along the edges, as in real ones.

    Parameters
    ----------
    out
        Folder to make. A scene of the same arguments that is there already stays as it is; a scene
        of others is replaced.
    world
        Folder of the world, made by `timl.data.simulate`.
    country
        Name of one of its regions; by default the first.
    size
        Edge of the scene, pixels of 10 m: 64 to 16,384. Tiles are made and written one by one, so
        that memory does not grow with it; the export takes 824 bytes per pixel.
    points
        Number of surveyed points, each in another parcel, at least 1.
    seed
        Seed in [0, 2**64). The same arguments give the same bytes, with any number of threads.
    progress
        Function that is called as ``progress(made, total)`` while pixels are made.

    Raises
    ------
    TypeError
        If a number is no integer.
    ValueError
        If a number is out of range, there is no such country, or the scene has too few parcels for
        the points.
    FileNotFoundError
        If ``world`` is no simulated world.
    FileExistsError
        If ``out`` is there and is neither empty nor a simulated scene, or holds other files too.
    BlockingIOError
        If another process is simulating a scene there.
    ImportError
        If rasterio or shapely is not installed: the extra ``timl[maps]``.
    """
    _check(size, points, seed)
    import_rasterio()
    arguments = world_arguments(world)
    world_draws = Draws(arguments["seed"])
    places = draw_places(arguments["countries"], world_draws)
    names = [str(box.name) for box in places.boxes]
    name = names[0] if country is None else country
    if name not in names:
        raise ValueError(f"country is {country!r}: give one of {', '.join(names)}")
    out, number = Path(out), names.index(name)
    month = f"{places.year[number]}-{FIRST_MONTH:02}"
    grid = _grid(places.boxes[number], size)
    mark = {
        "made_by": _MADE_BY,
        "version": _VERSION,
        "world": arguments,
        "country": name,
        "size": size,
        "points": points,
        "seed": seed,
        "first_month": month,
        "crs": grid.crs,
        "pixel_m": PIXEL,
        "west": grid.west,
        "north": grid.north,
        "legend": {str(value): label for value, label in LEGEND.items()},
    }
    year = int(places.year[number])
    dates = f"{month}-01_{year + 1}-{FIRST_MONTH - 1:02}-31"
    scene = Scene(
        folder=out,
        export=out / "exports" / f"scene_dates={dates}.tif",
        truth=out / "truth.tif",
        fields=out / "fields.geojson",
        points=out / "points.csv",
        country=name,
        first_month=month,
        pixel_hectares=PIXEL**2 / 1e4,
        legend=dict(LEGEND),
    )
    own = ("exports/scene_dates=*.tif", scene.truth.name, scene.fields.name, scene.points.name)
    target = Target(out, "scene", _MADE_BY, frozenset(own))
    with target.writing(mark) as folder:
        if folder is not None:
            evaluations = choose_evaluations(places)
            mix = draw_mixes(places, evaluations, arguments["samples"], world_draws)[number]
            write_scene(
                folder,
                Ground(number, _BLOCK, places, grid.to_degrees),
                Landscape(size, mix, seed),
                grid,
                scene.export.relative_to(out),
                points,
                seed,
                progress or (lambda made, total: None),
            )
            write_json(folder / target.mark, mark)
    return scene


def _grid(box: Any, size: int) -> Grid:
    """Return the pixels of a scene in the middle of its block, in the zone of UTM there."""
    row, column = divmod(_BLOCK, BLOCKS)
    latitude = box.min_lat + (row + 0.5) / BLOCKS * (box.max_lat - box.min_lat)
    longitude = box.min_lon + (column + 0.5) / BLOCKS * (box.max_lon - box.min_lon)
    zone = int((longitude + 180) // 6) % 60 + 1
    crs = f"EPSG:{(32600 if latitude >= 0 else 32700) + zone}"
    xs, ys = import_rasterio().warp.transform("EPSG:4326", crs, [longitude], [latitude])
    half = PIXEL * (size // 2)
    return Grid(crs, round(xs[0] / PIXEL) * PIXEL - half, round(ys[0] / PIXEL) * PIXEL + half, size)


def _check(size: int, points: int, seed: int) -> None:
    require_integers(seed, size=size, points=points)
    if not _SMALLEST <= size <= _LARGEST:
        raise ValueError(f"size is {size}: give {_SMALLEST} to {_LARGEST} pixels")
    if points < 1:
        raise ValueError(f"points is {points}: give at least 1")
