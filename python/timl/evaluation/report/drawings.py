"""The report's figures, as SVG: small enough for a phone, with markers beside the colours."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from timl.data.regions.coastline import coastline
from timl.evaluation.plotting import COLOURS, MARKERS, YELLOW, MethodStyle
from timl.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]

_INK, _SHADES = "0.15", ("0.15", "white", "0.65")
_EPOCH = "epoch"
"""The label of an axis that counts epochs: its numbers are whole."""
_COAST = "#6f8fa6"
_WIDTH = 4.8
"""Width in inches: on a phone the letters are then still legible."""
_MARKED = 8
"""Number of markers along a line."""
_LEGIBLE = 20
"""Most classes of a confusion matrix whose numbers can be read."""
_PALENESS = (0.0, 0.6)
"""Share of white in the colours of the first bar and of the second of each class."""
_LETTERS = 18
"""Letters of a class's name in a line."""


class Point(NamedTuple):
    """A task in a plane."""

    x: float
    y: float
    kind: str
    """Class of crops."""
    value: float | None = None
    """What the colour shows, where not the class; None: the point is hollow."""


class Line(NamedTuple):
    """A named line; errors are half the height of bars."""

    x: Sequence[float]
    y: Sequence[float]
    errors: Sequence[float] | None = None


def lines(
    series: Mapping[str, Line],
    x_label: str,
    y_label: str,
    styles: Mapping[str, MethodStyle],
    *,
    diagonal: bool = False,
    ticks: Mapping[float, str] | None = None,
    limits: tuple[float, float] | None = None,
    steps: bool = False,
) -> bytes:
    """Draw the lines of methods.

    Parameters
    ----------
    series
        Lines by title.
    x_label, y_label
        Labels of the axes.
    styles
        Colours, markers and dashes by title.
    diagonal
        Whether to draw where y equals x, from 0 to 1.
    ticks
        Texts of places on the x axis.
    limits
        Limits of the y axis.
    steps
        Whether values stay until the next one.
    """
    with _figure(3.3 + 0.18 * ((len(series) + 1) // 2)) as (axes, out):
        if diagonal:
            axes.plot([0, 1], [0, 1], color="0.6", lw=1, label="perfect")
        for title, line in series.items():
            colour, marker, dashes = styles[title]
            style: dict[str, Any] = {
                "color": colour,
                "marker": marker,
                "ls": dashes,
                "markevery": max(1, len(line.x) // _MARKED),
                "ms": 4.5,
                "lw": 1.4,
                "label": title,
            }
            if steps:
                style["drawstyle"] = "steps-post"
            if line.errors is None:
                axes.plot(line.x, line.y, **style)
            else:
                axes.errorbar(line.x, line.y, yerr=line.errors, capsize=2, **style)
        axes.set(xlabel=x_label, ylabel=y_label)
        if ticks is not None:
            axes.set_xticks(list(ticks), list(ticks.values()))
        if limits is not None:
            axes.set_ylim(*limits)
        _finish(axes, columns=2)
    return _clean(out)


def scores(
    rows: Sequence[str], columns: Mapping[str, Sequence[tuple[float, float]]], x_label: str
) -> bytes:
    """Draw a score of every row (down) on every benchmark (markers), with standard errors.

    Colours are of methods: benchmarks have shapes and shades of grey.
    """
    with _figure(1.6 + 0.3 * len(rows) + 0.1 * len(columns)) as (axes, out):
        places = np.arange(len(rows))
        for i, (name, values) in enumerate(columns.items()):
            shift = 0.5 * ((i + 0.5) / len(columns) - 0.5)
            axes.errorbar(
                [mean for mean, _ in values],
                places + shift,
                xerr=[error for _, error in values],
                fmt=MARKERS[i % len(MARKERS)],
                color=_INK,
                mfc=_SHADES[i % len(_SHADES)],
                ms=5.5,
                capsize=2,
                lw=1.2,
                label=name,
            )
        axes.axvline(0.5, color="0.6", lw=1, ls=":")
        axes.set_yticks(places, list(rows))
        axes.set(xlabel=x_label, ylim=(len(rows) - 0.5, -0.5))
        _finish(axes, columns=2)
    return _clean(out)


def classes(
    points: Iterable[Point],
    stars: Sequence[tuple[float, float]],
    x_label: str,
    y_label: str,
    labels: Floats | None = None,
) -> bytes:
    """Draw tasks by class, and the evaluation tasks as stars.

    Parameters
    ----------
    points
        The tasks.
    stars
        Places of the evaluation tasks.
    x_label, y_label
        Labels of the axes.
    labels : float64 array of shape [n, 2]
        Longitude and latitude of the labelled samples, faint dots; what is drawn is then a map,
        with the coastline.
    """
    with _figure(4.1) as (axes, out):
        found = list(points)
        for i, kind in enumerate(sorted({point.kind for point in found})):
            chosen = [(point.x, point.y) for point in found if point.kind == kind]
            axes.plot(
                *zip(*chosen, strict=True),
                MARKERS[i % len(MARKERS)],
                color=COLOURS[i % len(COLOURS)],
                mec="white",
                mew=0.4,
                ms=6,
                label=kind.replace("_", " "),
            )
        for i, place in enumerate(stars):
            axes.plot(*place, "*", color=YELLOW, mec="black", ms=14, zorder=4,
                      label="evaluation task" if i == 0 else None)  # fmt: skip
        axes.set(xlabel=x_label, ylabel=y_label)
        if labels is not None:
            _draw_ground(axes, labels, below=1.2)
        _finish(axes, columns=3)
    return _clean(out)


def values(points: Iterable[Point], scale: str, labels: Floats) -> bytes:
    """Draw a map of tasks by a value; those without one are hollow squares.

    Parameters
    ----------
    points
        The tasks, by longitude and latitude.
    scale
        Title of the values.
    labels : float64 array of shape [n, 2]
        Longitude and latitude of the labelled samples.
    """
    with _figure(3.6) as (axes, out):
        found = list(points)
        hollow = [(point.x, point.y) for point in found if point.value is None]
        if hollow:
            axes.plot(*zip(*hollow, strict=True), "s", mfc="none", mec="0.35", ms=4, label="kept")
        full = [point for point in found if point.value is not None]
        shades = [point.value for point in found if point.value is not None]
        if full:
            dots = axes.scatter(
                [point.x for point in full],
                [point.y for point in full],
                c=shades,
                cmap="cividis",
                s=26,
                edgecolors="white",
                linewidths=0.4,
                label="forgotten",
                zorder=3,
            )
            axes.figure.colorbar(dots, ax=axes, label=scale, location="bottom", aspect=40)
        axes.set(xlabel="longitude", ylabel="latitude")
        _draw_ground(axes, labels, below=1.5)
        _finish(axes, columns=2)
    return _clean(out)


def events(groups: Mapping[str, Sequence[float]], x_label: str, end: float) -> bytes:
    """Draw when things happened, one line of dots for each group."""
    with _figure(1.1 + 0.28 * len(groups)) as (axes, out):
        for i, times in enumerate(groups.values()):
            spread = i + 0.5 * (np.arange(len(times)) % 5 / 5 - 0.4)
            colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
            axes.plot(times, spread, marker, color=colour, ms=5, mec="white", mew=0.4)
        axes.set_yticks(np.arange(len(groups)), [name.replace("_", " ") for name in groups])
        axes.set(xlabel=x_label, xlim=(0, end), ylim=(len(groups) - 0.5, -0.5))
        _finish(axes, columns=0)
    return _clean(out)


def class_bars(
    names: Sequence[str],
    scores: Mapping[str, Sequence[tuple[float, float, float]]],
    colours: Sequence[str],
) -> bytes:
    """Draw scores of classes as bars in the colours of the classes, with intervals.

    The first score has the colours themselves, the second pale ones.

    Parameters
    ----------
    names
        Names of the classes, from above.
    scores
        Value, lower and upper end for each class, by the names of two scores. NaN is not drawn.
    colours
        Colour of each class.
    """
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch

    with _figure(0.9 + 0.42 * len(names)) as (axes, out):
        handles = []
        for i, ((title, values), paleness) in enumerate(
            zip(scores.items(), _PALENESS, strict=True)
        ):
            middle, low, high = np.array(values, np.float64).T
            places = np.arange(len(names)) + 0.4 * i - 0.2
            errors = np.nan_to_num(np.maximum(0, [middle - low, high - middle]))
            shades = [_pale(to_rgb(colour), paleness) for colour in colours]
            width = np.nan_to_num(middle)
            axes.barh(places, width, 0.4, color=shades, edgecolor=_INK, linewidth=0.6)
            for colour, line in (("white", 2.4), (_INK, 1.0)):  # seen on dark bars too
                axes.errorbar(
                    width, places, xerr=errors, fmt="none", ecolor=colour, capsize=2,
                    elinewidth=line, capthick=line,
                )  # fmt: skip
            grey = _pale((0.35, 0.35, 0.35), paleness)
            handles.append(Patch(fc=grey, ec=_INK, lw=0.6, label=title))
        axes.set_yticks(np.arange(len(names)), [_short(name) for name in names])
        axes.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5))
        _finish(axes, columns=0)
        axes.grid(visible=False, axis="y")
        axes.figure.legend(
            handles=handles, loc="outside lower center", ncols=2, fontsize=8, frameon=False
        )
    return _clean(out)


def confusion(names: Sequence[str], counts: NDArray[np.int64], colours: Sequence[str]) -> bytes:
    """Draw a confusion matrix: the shares of each row, in percent, with the classes' colours.

    Parameters
    ----------
    names
        Names of the classes.
    counts : int64 array of shape [K, K]
        Numbers of samples: row i is of samples of class i, column j of those taken for class j.
    colours
        Colour of each class.
    """
    count = len(names)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with _figure(5.2) as (axes, out):
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        size = min(9.0, 66 / count)
        if count <= _LEGIBLE:
            for row, column in zip(*np.nonzero(counts), strict=True):
                axes.text(
                    column, row, f"{shares[row, column]:.0f}", ha="center", va="center",
                    fontsize=size, color="white" if shares[row, column] > 55 else _INK,
                )  # fmt: skip
        places, shown = np.arange(count), [_short(name) for name in names]
        axes.set_xticks(places, shown, rotation="vertical", fontsize=min(9, 150 / count))
        axes.set_yticks(places, shown, fontsize=min(9, 150 / count))
        for along, across, transform in (
            (places, np.full(count, -0.03), axes.get_xaxis_transform()),
            (np.full(count, -0.03), places, axes.get_yaxis_transform()),
        ):
            axes.scatter(
                along, across, s=5 * size, c=list(colours), marker="s", edgecolors=_INK,
                linewidths=0.5, transform=transform, clip_on=False,
            )  # fmt: skip
        axes.tick_params(length=0, pad=14)
        axes.set(xlabel="taken for", ylabel="class", xlim=(-0.5, count - 0.5))
        axes.set_ylim(count - 0.5, -0.5)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="0.88", lw=0.6)
        axes.tick_params(which="minor", length=0)
    return _clean(out)


@contextmanager
def _figure(height: float) -> Iterator[tuple[Axes, io.BytesIO]]:
    """Yield axes to draw on; the SVG is in the buffer afterwards."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    settings: Any = {
        "svg.hashsalt": "timl",
        "text.parse_math": False,  # names hold dollar signs
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    out = io.BytesIO()
    with rc_context(settings):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained", dpi=150)
        yield figure.add_subplot(), out
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(out, format="svg", metadata=nothing)


def _pale(colour: tuple[float, float, float], paleness: float) -> tuple[float, ...]:
    """Return a colour mixed with so much white."""
    return tuple(paleness + (1 - paleness) * part for part in colour)


def _short(name: str) -> str:
    """Return a name that leaves room for what it names, in two lines where it is long."""
    lines = textwrap.wrap(printable(name), _LETTERS) or [""]
    if len(lines) > 2:
        lines = [lines[0], f"{lines[1][: _LETTERS - 1]}\N{HORIZONTAL ELLIPSIS}"]
    return "\n".join(lines)


def _finish(axes: Axes, columns: int) -> None:
    if axes.get_xlabel() == _EPOCH:
        axes.locator_params("x", integer=True)
    axes.grid(color="0.92", lw=0.6)
    axes.set_axisbelow(True)
    handles, texts = axes.get_legend_handles_labels()
    if handles and columns:
        axes.figure.legend(
            handles, texts, loc="outside lower center", ncols=columns, fontsize=8, frameon=False
        )


def _draw_ground(axes: Axes, labels: Floats, below: float) -> None:
    """Draw labels and the coastline under what a map shows, and fit the figure to the map.

    Parameters
    ----------
    axes
        The map, with all that it shows.
    labels : float64 array of shape [n, 2]
        Longitude and latitude of the labelled samples.
    below
        Height in inches of what stands below the map.
    """
    axes.plot(labels[:, 0], labels[:, 1], ",", color="0.75", zorder=1, rasterized=True)
    (west, east), (south, north) = axes.get_xlim(), axes.get_ylim()
    west, east, south, north = max(west, -180), min(east, 180), max(south, -90), min(north, 90)
    for line in coastline():
        (left, bottom), (right, top) = line.min(axis=0), line.max(axis=0)
        if left < east and right > west and bottom < north and top > south:
            axes.plot(line[:, 0], line[:, 1], color=_COAST, lw=0.6, zorder=0.5)
    axes.set(xlim=(west, east), ylim=(south, north))
    # a degree of longitude is as long as it is in the middle of the map
    aspect = 1 / np.cos(np.deg2rad((south + north) / 2))
    axes.set_aspect(aspect, adjustable="box")
    height = 0.86 * _WIDTH * aspect * (north - south) / (east - west)
    figure = axes.get_figure(root=True)
    if figure is not None:
        figure.set_size_inches(_WIDTH, float(np.clip(height, 1, 6)) + below)


def _clean(out: io.BytesIO) -> bytes:
    """Drop what names other documents: the document type and the metadata."""
    text = out.getvalue().decode("utf-8")
    text = re.sub(r"<!DOCTYPE.*?>", "", text, count=1, flags=re.DOTALL)
    return re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL).encode()
