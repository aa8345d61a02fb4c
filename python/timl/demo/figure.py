"""The demonstration's figure: a scene, its truth, its map and errors, scores, and the area."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from timl.bands import STEPS
from timl.crop_classes import NON_CROP
from timl.data import Scene
from timl.data.own.exports import DYNAMIC_BANDS, import_rasterio
from timl.data.own.points_table import read_points
from timl.demo.result import Demonstration
from timl.evaluation.few_shot.result import ALL
from timl.evaluation.plotting import COLOURS, method_styles, require_matplotlib
from timl.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_METHODS = (
    "strong",
    "strong-without-learning",
    "timl",
    "random-forest",
    "logistic-regression-cv",
)

_TARGET, _OTHER_CROPS = "#E8A800", "#F3E3B3"
_OPEN_LAND = {
    "forest": "#2F6B4F",
    "water": "#4C86C6",
    "built-up": "#9A959B",
}
_PLANTS = "#BFD8A0"
"""Colour of grass, shrubs, fallow and bare ground."""
_MISSED, _FALSE, _RIGHT = COLOURS[0], COLOURS[4], "#EFEFEA"
_SCALE_BAR = 500
"""Metres."""


class Panels(NamedTuple):
    """What the pictures of a scene show; arrays of shape [h, w].

    Parameters
    ----------
    scene
        The scene.
    target
        Label that is mapped.
    covers : uint8 array
        Numbers of the covers, as in the scene's truth.
    truth : bool array
        Whether a pixel bears the target.
    probability : float64 array
        Map of the target.
    """

    scene: Scene
    target: str
    covers: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    probability: NDArray[np.float64]


def save_figure(demonstration: Demonstration, panels: Panels) -> None:
    """Draw a demonstration into its PNG file.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    require_matplotlib("figures need")
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(h_pad=0.09, w_pad=0.06)
    figure = Figure(figsize=(13, 8.1), layout=layout, dpi=110)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.15, 1))[:, 0]
    axes = above.subplots(1, 4)
    for place in axes:
        place.set(xticks=[], yticks=[])
    _draw_imagery(axes[0], panels)
    _draw_truth(axes[1], panels)
    _draw_map(axes[2], panels)
    _draw_errors(axes[3], panels)
    curves, area = below.subplots(1, 2, width_ratios=(1.25, 1))
    _draw_curves(curves, demonstration)
    _draw_area(area, demonstration)
    with atomic_write(demonstration.figure) as out:
        figure.savefig(out, format="png")


def _draw_imagery(axes: Axes, panels: Panels) -> None:
    """Draw the clearest month in true colour, the points, and a scale bar."""
    with import_rasterio().open(panels.scene.export) as file:
        steps = [
            file.read([_band(step, name) for name in ("B4", "B3", "B2")]) for step in range(STEPS)
        ]
        inverse = ~file.transform
        metres = file.transform.a
        points = read_points(panels.scene.points)
        xs, ys = import_rasterio().warp.transform(
            "EPSG:4326", file.crs, points["lon"].tolist(), points["lat"].tolist()
        )
    # clouds and snow are bright in blue: the month whose brightest parts are the darkest
    step = int(np.argmin([np.percentile(image[2], 98) for image in steps]))
    image = np.moveaxis(steps[step], 0, -1)
    # half of the haze, which is strongest in blue, is taken off
    low = 0.5 * (np.percentile(image, 1) + np.percentile(image, 1, axis=(0, 1)))
    spread = np.percentile(image - low, 96)
    axes.imshow(np.clip((image - low) / spread, 0, 1) ** 0.85, interpolation="nearest")
    columns, rows = _apply(inverse, xs, ys)
    of_target = (points["label"] == panels.target).to_numpy()
    for chosen, colour, label in (
        (of_target, _TARGET, panels.target),
        (~of_target, "white", "anything else"),
    ):
        axes.plot(
            columns[chosen] - 0.5,
            rows[chosen] - 0.5,
            "o",
            color=colour,
            mec="black",
            mew=0.7,
            ms=5,
            label=label,
        )
    year, month = map(int, panels.scene.first_month.split("-"))
    turn, number = divmod(month - 1 + step, STEPS)
    _scale_bar(axes, panels.truth.shape, metres)
    axes.set_title(f"Imagery of {year + turn}-{number + 1:02}, {len(points)} points")
    _legend(axes, None)


def _apply(transform: Any, xs: list[float], ys: list[float]) -> tuple[Any, Any]:
    x, y = np.array(xs), np.array(ys)
    return (
        transform.a * x + transform.b * y + transform.c,
        transform.d * x + transform.e * y + transform.f,
    )


def _band(step: int, name: str) -> int:
    return step * len(DYNAMIC_BANDS) + DYNAMIC_BANDS.index(name) + 1


def _scale_bar(axes: Axes, shape: tuple[int, ...], metres: float) -> None:
    from matplotlib.patheffects import withStroke

    height, width = shape
    length = _SCALE_BAR / metres if _SCALE_BAR / metres < 0.5 * width else width // 4
    x, y = 0.05 * width, 0.95 * height
    edge = [withStroke(linewidth=3, foreground="black")]
    axes.plot([x, x + length], [y, y], color="black", lw=5, solid_capstyle="butt")
    axes.plot([x, x + length], [y, y], color="white", lw=3, solid_capstyle="butt")
    axes.text(
        x + length / 2,
        y - 0.02 * height,
        f"{length * metres:.0f} m",
        color="white",
        ha="center",
        va="bottom",
        fontsize=9,
        fontweight="bold",
        path_effects=edge,
    )


def _draw_truth(axes: Axes, panels: Panels) -> None:
    from timl.data.simulator.covers import COVERS

    crops = {cover.label for cover in COVERS if cover.classification_label != NON_CROP}
    shown: dict[str, str] = {}
    image = np.ones((*panels.covers.shape, 3))
    for value in np.unique(panels.covers):
        label = panels.scene.legend[int(value)]
        if label == panels.target:
            name, colour = label, _TARGET
        elif label in crops:
            name, colour = "other crops", _OTHER_CROPS
        else:
            name, colour = (
                (label, _OPEN_LAND[label]) if label in _OPEN_LAND else ("grass, shrubs", _PLANTS)
            )
        shown[name] = colour
        image[panels.covers == value] = _rgb(colour)
    axes.imshow(image, interpolation="nearest")
    axes.set_title("Truth")
    _legend(axes, shown)


def _draw_map(axes: Axes, panels: Panels) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("map", ["#F7F7F2", "#F0D58A", _TARGET, "#7A4B00"])
    image = axes.imshow(panels.probability, cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(f"Map: probability of {panels.target}")
    below = axes.inset_axes((0.1, -0.075, 0.8, 0.035))
    axes.figure.colorbar(image, cax=below, orientation="horizontal")
    below.tick_params(labelsize=9)


def _draw_errors(axes: Axes, panels: Panels) -> None:
    mapped, truth = panels.probability >= 0.5, panels.truth
    image = np.empty((*truth.shape, 3))
    kinds = {
        f"{panels.target}, found": (mapped & truth, _TARGET),
        "missed": (~mapped & truth, _MISSED),
        "false": (mapped & ~truth, _FALSE),
        "other, right": (~mapped & ~truth, _RIGHT),
    }
    for where, colour in kinds.values():
        image[where] = _rgb(colour)
    axes.imshow(image, interpolation="nearest")
    axes.set_title(f"Errors: {100 * np.mean(mapped != truth):.1f} % of the pixels")
    _legend(axes, {name: colour for name, (_, colour) in kinds.items()})


def _legend(axes: Axes, colours: dict[str, str] | None) -> None:
    """Put a legend below a picture: of colours, or of what is drawn with a label."""
    from matplotlib.patches import Patch

    handles: Any = (
        axes.get_legend_handles_labels()[0]
        if colours is None
        else [Patch(fc=c, ec="0.6", lw=0.5, label=name) for name, c in colours.items()]
    )
    axes.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.01),
        ncols=min(3, len(handles)) if len(handles) != 4 else 2,
        fontsize=9,
        frameon=False,
        handlelength=1.2,
        columnspacing=1.2,
    )


def _rgb(colour: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(colour)


def _draw_curves(axes: Axes, demonstration: Demonstration) -> None:
    """Draw the mean AUC ROC by labels per class, with standard errors over countries."""
    result = demonstration.result
    table = result.table()
    budgets = sorted(set(table["labels"]), key=lambda b: (b == ALL, len(b), b))
    places = np.arange(len(budgets))
    for number, (name, style) in enumerate(method_styles(_METHODS).items()):
        own = table[table["row"] == name].set_index("labels").reindex(budgets)
        axes.errorbar(
            places + 0.05 * (number - (len(_METHODS) - 1) / 2),
            own["mean"].to_numpy(),
            own["standard_error"].fillna(0).to_numpy(),
            marker=style.marker,
            color=style.colour,
            ms=7,
            lw=1.8,
            elinewidth=1.2,
            label=result.titles[name],
        )
    tasks, regions = ({getattr(c, key) for c in result.cells} for key in ("task", "region"))
    axes.set_xticks(places, [f"{budget} per class" if budget != ALL else ALL for budget in budgets])
    axes.set(xlabel="labels", ylabel="AUC ROC", ylim=(0.5, 1.0), xlim=(-0.3, len(budgets) - 0.7))
    axes.set_title(f"Scores on {len(tasks)} tasks of {len(regions)} countries not trained on")
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", fontsize=9, frameon=False)


def _draw_area(axes: Axes, demonstration: Demonstration) -> None:
    area, target = demonstration.area, demonstration.target
    half = [[area.estimate - area.low], [area.high - area.estimate]]
    axes.axvline(area.true, color="0.25", lw=1.5, ls="--")
    axes.text(area.true, 1.62, f" truth {area.true:.0f} ha", va="top", color="0.25")
    axes.barh([1], [area.estimate], 0.5, color=_TARGET, label="estimate")
    axes.errorbar([area.estimate], [1], xerr=half, color="black", capsize=6, lw=2, capthick=2)
    axes.barh([0], [area.counted], 0.5, color="0.75")
    axes.set_yticks([1, 0], ["estimate,\n95 % interval", "map's pixels\ncounted"])
    interval = f"{area.estimate:.0f} ha ({area.low:.0f} to {area.high:.0f})"
    for y, text in ((1, interval), (0, f"{area.counted:.0f} ha")):
        axes.text(0.02 * area.high, y, text, va="center", fontweight="bold")
    most = max(area.high, area.counted, area.true)
    axes.set(xlabel="hectares", ylim=(-0.6, 1.65), xlim=(0, 1.2 * most))
    axes.set_title(f"Area of {target}, from {area.sample} reference pixels")
    axes.spines[["top", "right"]].set_visible(False)
