"""Figures of a finished Table 1: where its tasks are, how training went, what came out."""

from __future__ import annotations

import json
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from timl.data import CLASSES, LabelledData, TaskSet
from timl.evaluation.paper.result import Table1Result
from timl.evaluation.plotting import (
    COLOURS,
    SMOOTHING_WINDOW,
    YELLOW,
    require_matplotlib,
    smoothed,
)
from timl.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STAR = COLOURS[4]
_MARKERS = "osD^vP"


def save_figure(
    path: str | Path, data: LabelledData, tasks: TaskSet, result: Table1Result, folder: str | Path
) -> None:
    """Draw the map of the tasks, the learning curves and the scores into one PNG.

    Parameters
    ----------
    path
        The file to write.
    data
        The data set.
    tasks
        The tasks that were trained on.
    result
        The table.
    folder
        Where `timl.table1` kept it: the histories of its meta-trained rows are there.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    require_matplotlib("figures need")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.5), layout="constrained", dpi=110)
    grid = figure.add_gridspec(2, 2, height_ratios=(1.15, 1))
    _draw_map(figure.add_subplot(grid[0, :]), data, tasks)
    histories = {
        title: json.loads(file.read_text(encoding="utf-8"))
        for name, title in result.titles.items()
        if (file := Path(folder) / name / "history.json").is_file()
    }
    _draw_learning(figure.add_subplot(grid[1, 0]), histories)
    _draw_scores(figure.add_subplot(grid[1, 1]), result)
    with atomic_write(path) as out:
        figure.savefig(out, format="png")


def _draw_map(axes: Axes, data: LabelledData, tasks: TaskSet) -> None:
    """Draw regions as boxes, points for the classes of their tasks, and benchmarks as stars."""
    from matplotlib.patches import Rectangle

    regions: dict[str, tuple[Any, list[str]]] = {}
    for task in tasks:
        box = task.bounding_box
        regions.setdefault(str(box.name), (box, []))[1].append(str(task.classification_label))
    classes = [name for name in CLASSES if any(name in found for _, found in regions.values())]
    labels = data.labels
    axes.plot(labels["lon"], labels["lat"], ",", color="0.75", zorder=1)
    for box, found in regions.values():
        width, height = box.max_lon - box.min_lon, box.max_lat - box.min_lat
        axes.add_patch(
            Rectangle((box.min_lon, box.min_lat), width, height, fill=False, ec="0.55", lw=0.8)
        )
        present = [name for name in classes if name in found]
        for i, name in enumerate(present):
            axes.plot(
                box.min_lon + width * (i + 0.5) / len(present),
                box.min_lat + height / 2,
                _MARKERS[classes.index(name) % len(_MARKERS)],
                color=COLOURS[classes.index(name) % len(COLOURS)],
                ms=4,
                zorder=3,
            )
    for i, name in enumerate(classes):
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(
            [], [], _MARKERS[i % len(_MARKERS)], color=colour, ms=5, label=name.replace("_", " ")
        )
    for benchmark in data.benchmarks:
        lat, lon = benchmark.task.bounding_box.centre
        axes.plot(lon, lat, "*", color=_STAR, mec="white", ms=15, zorder=4)
    axes.plot([], [], "*", color=_STAR, ms=10, label="evaluation task", ls="")
    axes.set(
        title=f"{len(tasks)} meta-training tasks in {len(regions)} regions",
        xlabel="longitude",
        ylabel="latitude",
    )
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
    axes.grid(color="0.92", lw=0.6)
    axes.set_axisbelow(True)


def _draw_learning(axes: Axes, histories: dict[str, dict[str, Any]]) -> None:
    """Draw the mean query losses of training and validation tasks, smoothed."""
    for (title, history), colour in zip(histories.items(), cycle(COLOURS), strict=False):
        for kind, style in (("tasks", ":"), ("validation_tasks", "-")):
            losses = np.array([task["loss"] for task in history[kind]], np.float64)
            if not losses.size:
                continue
            mean = np.nanmean(losses, axis=0)
            smooth = smoothed(mean)
            label = f"{title}, {'validation' if style == '-' else 'training'}"
            axes.plot(
                np.arange(len(mean) - len(smooth), len(mean)) + 1,
                smooth,
                style,
                color=colour,
                label=label,
            )
    axes.set(title=f"Loss after adaptation (mean of {SMOOTHING_WINDOW} epochs)", xlabel="epoch")
    axes.set_ylabel("cross entropy")
    axes.legend(fontsize=8, frameon=False)
    axes.grid(color="0.92", lw=0.6)


def _draw_scores(axes: Axes, result: Table1Result) -> None:
    """Draw the AUC ROC of every row on every benchmark, with standard errors."""
    width = 0.8 / len(result.titles)
    places = np.arange(len(result.benchmarks))
    colours = cycle((*COLOURS, YELLOW))  # nine, the number of the paper's rows
    for i, ((row, title), colour) in enumerate(zip(result.titles.items(), colours, strict=False)):
        estimates = [result.estimate(row, name, "auc_roc") for name in result.benchmarks]
        axes.bar(
            places + (i - (len(result.titles) - 1) / 2) * width,
            [estimate.mean for estimate in estimates],
            width * 0.92,
            yerr=[estimate.standard_error or 0 for estimate in estimates],
            color=colour,
            label=title,
        )
    axes.axhline(0.5, color="0.4", lw=0.8, ls="--")
    axes.set(title="AUC ROC on the test sets", ylim=(0.3, 1.0))
    axes.set_xticks(places, [name.replace("_", "\n", 1) for name in result.benchmarks], fontsize=8)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
