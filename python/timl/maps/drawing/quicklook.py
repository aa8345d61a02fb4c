"""A map as a picture: bands side by side, with legend, scale bar, north and the points."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from timl.data.sources.grid import Grid, length_text, round_length
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
)
from timl.maps.drawing.map_file import MapFile, read_shrunk
from timl.maps.drawing.places import Places, place_points

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST_CELLS = 1500
"""Greatest number of cells a side of the picture."""

_PANEL = 5.2
"""Width of a panel, inches."""
_STRIPED = 900
"""Least number of points a side of the stripes over unlike pixels, and how many to a stripe."""
_STRIPE = 4
_LEGEND_COLUMNS = 3


def write_quicklook(
    map: str | Path,
    out: str | Path,
    *,
    points: pd.DataFrame | None = None,
    title: str | None = None,
) -> None:
    """Write a picture of a map: probability, or class, and uncertainty where there is one.

    Of several classes it shows the class, and beside it uncertainty or else probability. It reads
    overviews at no more than `MOST_CELLS` cells a side. The scale bar holds in the middle of the
    map; stripes lie over pixels unlike the training data.

    Parameters
    ----------
    map
        GeoTIFF of the map.
    out
        PNG to write; its folder must exist.
    points
        Labelled points to show: a table with columns lat, lon (degrees) and label ("positive" or
        "negative", 1 or 0; of several classes their names). Those outside the map are left out.
    title
        Heading; by default the map's target.

    Raises
    ------
    FileNotFoundError
        If there is no such map.
    ValueError
        If it is no map, is damaged, or the points make no sense.
    ImportError
        If rasterio or matplotlib is not installed: the extra ``timl[maps]``.
    """
    require_matplotlib("a picture of a map needs")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    described, grid, bands = read_shrunk(map, MOST_CELLS)
    places = place_points(points, grid, described.classes)
    second = ["uncertainty", "probability"] if described.classes else ["uncertainty"]
    names = list(bands)[:1] + [name for name in second if name in list(bands)[1:]][:1]
    width, height = grid.cell_size()
    shape = min(2.0, max(0.4, grid.height * height / (grid.width * width)))
    side_by_side = shape > 0.75 or len(names) == 1
    columns = len(names) if side_by_side else 1
    tall = (_PANEL - 1.2) * shape + 0.5
    legend = 1.3 + 0.18 * (len(described.classes) // _LEGEND_COLUMNS)
    size = (_PANEL * columns, tall * (len(names) // columns) + legend)
    settings: Any = {"text.parse_math": False, "font.size": 9}  # names hold dollar signs
    with rc_context(settings):
        figure = Figure(figsize=size, dpi=150, layout="constrained")
        panels = figure.subplots(len(names) // columns, columns, squeeze=False).ravel()
        for axes, name in zip(panels, names, strict=True):
            _draw_band(axes, described, name, bands[name])
            if axes is panels[0] and "unlike" in bands and name != "unlike":
                _draw_unlike(axes, bands["unlike"])
            _draw_places(axes, described, places, grid)
            _draw_ticks(axes, grid)
            _draw_scale_and_north(axes, grid)
        heading = title or f"Map of {described.target}"
        figure.suptitle(textwrap.fill(heading, 34 * columns + 20, max_lines=3), fontsize=12)
        note = textwrap.fill(" · ".join(described.origin), 72 * columns, max_lines=3)
        figure.legend(
            handles=_legend_entries(described, grid, names, bands, places),
            loc="outside lower center",
            ncols=_LEGEND_COLUMNS,
            frameon=False,
            title=note,
            title_fontsize=7,
        )
        with atomic_write(out) as file:
            figure.savefig(file, format="png", metadata={"Title": heading, "Software": None})


def _draw_band(axes: Axes, described: MapFile, name: str, values: NDArray[np.float32]) -> None:
    """Draw a band, and its colour bar if it is a measure."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    layer = described.layers[name]
    palette = layer.palette()
    colours = np.concatenate([np.zeros((1, 4), np.uint8), np.insert(palette, 3, 255, axis=1)])
    height, width = values.shape
    cell_width, cell_height = described.grid.cell_size()
    stretch = cell_width * described.grid.width / width
    stretch /= cell_height * described.grid.height / height
    axes.set_facecolor(NO_DATA_COLOUR)
    axes.imshow(
        colours[layer.colour_numbers(values)], extent=(0, width, height, 0), aspect=1 / stretch
    )
    heading = layer.title.format(target=textwrap.shorten(described.target, 30))
    axes.set_title(heading, fontsize=10)
    if not layer.classes:
        shades = ScalarMappable(Normalize(0, layer.top), ListedColormap(palette / 255))
        bar = axes.figure.colorbar(
            shades, ax=axes, shrink=0.8, extend="max" if layer.open_ended else "neither"
        )
        if name == "probability" and not described.classes and described.threshold is not None:
            bar.ax.axhline(described.threshold, color="black", lw=1.5)
            bar.ax.set_xlabel(f"line: {described.threshold:.2f},\nthe class's\nthreshold", size=7)


def _draw_unlike(axes: Axes, unlike: NDArray[np.float32]) -> None:
    """Draw stripes over pixels unlike the training data."""
    from matplotlib.colors import to_rgb

    height, width = unlike.shape
    times = max(1, -(-_STRIPED // max(height, width)))
    mask = np.nan_to_num(unlike) > UNLIKE
    mask = mask.repeat(times, axis=0).repeat(times, axis=1)
    diagonals = np.add.outer(np.arange(mask.shape[0]), np.arange(mask.shape[1]))
    stripe = diagonals // _STRIPE % 5
    picture = np.zeros((*mask.shape, 4), np.uint8)
    for number, colour in enumerate(UNLIKE_COLOURS):
        picture[mask & (stripe == number)] = [round(255 * part) for part in (*to_rgb(colour), 1)]
    axes.imshow(picture, extent=(0, width, height, 0), aspect=axes.get_aspect())


def _draw_places(axes: Axes, described: MapFile, places: Places, grid: Grid) -> None:
    for number in np.unique(places.classes).tolist():
        chosen = places.classes == number
        style = _point_style(described, number)
        axes.plot(places.columns[chosen], places.rows[chosen], **style)
    axes.set(xlim=(0, grid.width), ylim=(grid.height, 0))


def _point_style(described: MapFile, number: int) -> dict[str, Any]:
    """Return how matplotlib draws the points of a class."""
    if described.classes:
        colour = CLASS_COLOURS[number]
        return {"mfc": colour, "mec": POINT_EDGE, "ms": 5, "marker": "o", "ls": "", "mew": 1.1}
    positive = number == 1
    return {
        "mfc": POINT_COLOURS[positive],
        "mec": POINT_EDGE,
        "ms": 4.5 if positive else 4,
        "marker": "o" if positive else "s",
        "ls": "",
        "mew": 0.7,
    }


def _draw_ticks(axes: Axes, grid: Grid) -> None:
    """Mark degrees of longitude along the lower edge and of latitude along the left one."""
    along = np.linspace(0, 1, 65)
    low = np.full_like(along, grid.height)
    _, lons = grid.degrees(along * grid.width, low)
    lats, _ = grid.degrees(np.zeros_like(along), along * grid.height)
    places, texts = _ticks(np.unwrap(lons, period=360), along * grid.width, "°E", "°W")
    axes.set_xticks(places, texts)
    places, texts = _ticks(lats, along * grid.height, "°N", "°S")
    axes.set_yticks(places, texts)
    axes.tick_params(labelsize=7)


def _ticks(
    degrees: NDArray[np.float64], along: NDArray[np.float64], plus: str, minus: str
) -> tuple[list[float], list[str]]:
    """Return places and texts of round degrees along an edge."""
    from matplotlib.ticker import MaxNLocator

    if not np.isfinite(degrees).all():
        return [], []
    order = np.argsort(degrees)
    low, high = degrees[order[0]], degrees[order[-1]]
    found = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(low, high)
    decimals = max(0, -int(np.floor(np.log10(found[1] - found[0]) + 1e-9)))
    inside = [value for value in found if low <= value <= high]
    texts = []
    for value in inside:
        turned = (value + 180) % 360 - 180 if plus == "°E" else value
        size = f"{abs(turned):.{decimals}f}"
        texts.append(size + ("°" if float(size) == 0 else plus if turned > 0 else minus))
    return [float(place) for place in np.interp(inside, degrees[order], along[order])], texts


def scale_bar(grid: Grid) -> tuple[float, float]:
    """Return a round length in metres, about a quarter of a map's width, and how many cells it is.

    Parameters
    ----------
    grid
        The map's cells; the length holds in the middle, along a row.
    """
    cell, _ = grid.cell_size()
    metres = round_length(0.28 * grid.width * cell)
    return metres, metres / cell


def _draw_scale_and_north(axes: Axes, grid: Grid) -> None:
    from matplotlib.offsetbox import AnchoredOffsetbox, DrawingArea
    from matplotlib.patches import Polygon
    from matplotlib.text import Text
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

    metres, cells = scale_bar(grid)
    bar = AnchoredSizeBar(
        axes.transData,
        cells,
        length_text(metres),
        "lower left",
        size_vertical=0.006 * grid.height,
        sep=3,
        fill_bar=True,
    )
    side, middle = 34.0, np.array([17.0, 17.0])  # points
    angle = np.radians(grid.north())
    along = np.array([np.sin(angle), np.cos(angle)])
    across = np.array([np.cos(angle), -np.sin(angle)])
    corners = (5 * along, -14 * along - 6 * across, -10 * along, -14 * along + 6 * across)
    arrow = DrawingArea(side, side)
    arrow.add_artist(Polygon([middle + corner for corner in corners], color="black"))
    x, y = middle + 11 * along
    arrow.add_artist(Text(x, y, "N", size=9, weight="bold", ha="center", va="center"))
    for box in (bar, AnchoredOffsetbox("upper right", child=arrow, pad=0)):
        box.patch.set(alpha=0.85, linewidth=0)
        axes.add_artist(box)


def _legend_entries(
    described: MapFile,
    grid: Grid,
    names: list[str],
    bands: dict[str, NDArray[np.float32]],
    places: Places,
) -> list[Any]:
    """Return what the colours of classes, stripes and points mean, for matplotlib's legend."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    target = textwrap.shorten(described.target, 40)
    entries: list[Any] = []
    for layer in (described.layers[name] for name in names):
        for colour, kind in zip(layer.palette() / 255, layer.classes, strict=False):
            text = textwrap.shorten(kind.format(target=target), 44)
            entries.append(Patch(fc=colour, ec="0.5", label=text))
    if any(np.isnan(bands[name]).any() for name in names):
        entries.append(Patch(fc=NO_DATA_COLOUR, ec="0.5", label=NO_DATA_NAME))
    if "unlike" in bands and names[0] != "unlike":
        entries.append(Patch(fc="white", ec=UNLIKE_COLOURS[0], hatch="/////", label=UNLIKE_NAME))
    inside = places.inside(grid)
    if described.classes:
        if inside.any():
            style = _point_style(described, 0) | {"mfc": "white"}
            text = f"point, in the colour of its class ({int(inside.sum())})"
            entries.append(Line2D([], [], label=text, **style))
        return entries
    for number, no in ((1, ""), (0, "not ")):
        count = int((inside & (places.classes == number)).sum())
        if count:
            style = _point_style(described, number)
            entries.append(Line2D([], [], label=f"point: {no}{target} ({count})", **style))
    return entries
