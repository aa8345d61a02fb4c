"""A map as one HTML page that needs nothing else: it pans and zooms, and shows values."""

from __future__ import annotations

import base64
import hashlib
import io
import math
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from timl.data.sources.grid import Grid, length_text
from timl.evaluation.plotting import require_matplotlib
from timl.files import atomic_write
from timl.maps.drawing.legend import (
    CLASS_COLOURS,
    NO_DATA_COLOUR,
    NO_DATA_NAME,
    POINT_COLOURS,
    POINT_EDGE,
    UNLIKE,
    UNLIKE_COLOURS,
    UNLIKE_NAME,
    Bytes,
)
from timl.maps.drawing.map_file import MapFile, read_shrunk
from timl.maps.drawing.places import Places, place_points

if TYPE_CHECKING:
    import pandas as pd


def write_page(
    map: str | Path,
    out: str | Path,
    *,
    points: pd.DataFrame | None = None,
    title: str | None = None,
    imagery: Bytes | None = None,
    most_cells: int = 2048,
) -> None:
    """Write an HTML page with a map that pans and zooms by mouse, touch and keys.

    It shows one band at a time, stripes over pixels unlike the training data, and the points; the
    values at the pointer are those of the cells shown. The page loads nothing: it forbids every
    outside address, and scripts other than its own, by a Content-Security-Policy.

    Parameters
    ----------
    map
        GeoTIFF of the map.
    out
        HTML file to write; its folder must exist.
    points
        Labelled points to show: a table with columns lat, lon (degrees) and label ("positive" or
        "negative", 1 or 0; of several classes their names), and perhaps name, a text that is shown
        for each.
    title
        Heading; by default the map's target.
    imagery : uint8 array of shape [height, width, 3]
        Red, green and blue of the map's area, on its own grid at any resolution, to be shown under
        it. By default none.
    most_cells
        Greatest number of cells a side that the page holds; a larger map is averaged.

    Raises
    ------
    FileNotFoundError
        If there is no such map.
    ValueError
        If it is no map, is damaged, or the points, the imagery or the number make no sense.
    ImportError
        If rasterio or matplotlib is not installed: the extra ``timl[maps]``.
    """
    require_matplotlib("a page with a map needs")
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    if most_cells < 1:
        raise ValueError(f"most_cells is {most_cells}: give at least 1")
    if imagery is not None:
        _check_imagery(imagery)
    described, grid, bands = read_shrunk(map, most_cells)
    if not np.isfinite(grid.mesh()).all():
        raise ValueError(
            f"map is {map}, parts of which have no latitude and longitude: give one in a "
            "reference system that holds for all of it"
        )
    places = place_points(points, grid, described.classes)
    folder = resources.files("timl.maps.drawing") / "templates"
    style, script, page = (
        (folder / f"page.{kind}").read_text("utf-8") for kind in ("css", "js", "html")
    )
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    data = _page_data(described, grid, bands, places, imagery)
    text = environment.from_string(page).render(
        title=title or f"Map of {described.target}",
        style=Markup(style),
        script=Markup(script),
        style_hash=_digest(style),
        script_hash=_digest(script),
        target=described.target,
        several=bool(described.classes),
        layers=data["layers"],
        has_unlike=data["unlike"] is not None,
        has_imagery=imagery is not None,
        unlike_name=UNLIKE_NAME,
        no_data_name=NO_DATA_NAME,
        point_count=len(places.names),
        positive_count=int((places.classes == 1).sum()),
        outside_count=int((~places.inside(grid)).sum()),
        shown=_size_text(described.grid, grid),
        origin=[text[0].upper() + text[1:] for text in described.origin],
        data=data,
    )
    with atomic_write(out, "w") as file:
        file.write(text)


def _check_imagery(imagery: Bytes) -> None:
    if imagery.dtype != np.uint8 or imagery.ndim != 3 or imagery.shape[-1] != 3 or not imagery.size:
        raise ValueError(
            f"imagery is {imagery.dtype} {list(imagery.shape)}: give uint8 [height, width, 3]"
        )


def _digest(text: str) -> str:
    """Return the source expression that lets a Content-Security-Policy accept an element."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _size_text(full: Grid, shown: Grid) -> str:
    """Say how large the map is, and how large the cells are that the page shows."""
    width, height = full.cell_size()
    text = f"{full.width:,} x {full.height:,} pixels of {length_text(round(width, 2))}"
    if abs(height / width - 1) > 0.01:
        text += f" x {length_text(round(height, 2))}"
    if (shown.width, shown.height) == (full.width, full.height):
        return f"{text}, all of them shown."
    times = full.width / shown.width
    return f"{text}; a cell shown here is the mean of {times:.3g} x {times:.3g} of them."


def _page_data(
    described: MapFile,
    grid: Grid,
    bands: dict[str, NDArray[np.float32]],
    places: Places,
    imagery: Bytes | None,
) -> dict[str, Any]:
    """Return what the page's script needs, as JSON holds it."""
    layers = []
    for name, values in bands.items():
        layer = described.layers[name]
        palette = layer.palette()
        layers.append(
            {
                "band": name,
                "title": layer.title.format(**described.words),
                "meaning": layer.meaning.format(**described.words),
                "classes": [text.format(**described.words) for text in layer.classes],
                "palette": palette.tolist(),
                "step": layer.step,
                "decimals": len(f"{layer.step:g}".partition(".")[2]),
                "top": layer.top,
                "openEnded": layer.open_ended,
                "mark": _mark(described, name),
                "picture": _png(layer.colour_numbers(values), palette),
            }
        )
    unlike = None
    if "unlike" in bands:
        mask = (np.nan_to_num(bands["unlike"]) > UNLIKE).astype(np.uint8)
        unlike = {"picture": _png(mask, np.zeros((1, 3), np.uint8)), "colours": UNLIKE_COLOURS}
    lats, lons = grid.mesh()
    width, height = grid.cell_size()
    return {
        "width": grid.width,
        "height": grid.height,
        "stretch": width / height,
        "north": round(grid.north(), 2),
        "mesh": {"lats": lats.round(7).tolist(), "lons": lons.round(7).tolist()},
        "layers": layers,
        "unlike": unlike,
        "imagery": None if imagery is None else {"picture": _png(imagery)},
        "kinds": _point_kinds(described),
        "points": [
            {"column": column, "row": row, "kind": kind, "name": name}
            for column, row, kind, name in zip(
                places.columns.round(3).tolist(),
                places.rows.round(3).tolist(),
                places.classes.tolist(),
                places.names,
                strict=True,
            )
            if math.isfinite(column) and math.isfinite(row)
        ],
        "noData": NO_DATA_COLOUR,
        "noDataName": NO_DATA_NAME,
        "edge": POINT_EDGE,
    }


def _mark(described: MapFile, name: str) -> float | None:
    """Return the value that a layer's legend marks: the threshold of two classes."""
    return described.threshold if name == "probability" and not described.classes else None


def _point_kinds(described: MapFile) -> list[dict[str, Any]]:
    """Return name, colour and shape of the points of each class."""
    if described.classes:
        return [
            {"name": name, "colour": colour, "round": True}
            for name, colour in zip(described.classes, CLASS_COLOURS, strict=False)
        ]
    texts = (f"not {described.target}", described.target)
    return [
        {"name": text, "colour": POINT_COLOURS[positive], "round": positive}
        for text, positive in zip(texts, (False, True), strict=True)
    ]


def _png(picture: Bytes, palette: Bytes | None = None) -> str:
    """Return a PNG as an address that holds it.

    Parameters
    ----------
    picture : uint8 array of shape [h, w, 3], or [h, w] with a palette
        Colours, or numbers of colours counted from 1; 0 is transparent.
    palette : uint8 array of shape [n, 3]
        Colours, n at most 255.
    """
    from PIL import Image

    image = Image.fromarray(picture)
    options: dict[str, Any] = {}
    if palette is not None:
        image.putpalette([0, 0, 0, *palette.ravel().tolist()])
        options["transparency"] = 0
    out = io.BytesIO()
    image.save(out, "png", optimize=True, **options)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")
