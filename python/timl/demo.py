"""Demonstration: a simulated world, meta-training on it, the table, and a figure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from timl.data import CropHarvest, meta_tasks
from timl.data.simulator import simulate
from timl.evaluation import Table1Result, table1
from timl.evaluation.paper.figures import save_figure
from timl.evaluation.plotting import require_matplotlib

_ROWS = ("random-forest", "logistic-regression", "no-pre-training", "maml", "timl")
"""Names of the rows of its table."""


@dataclass(frozen=True)
class Demonstration:
    """Results of a demonstration."""

    result: Table1Result
    """Table of the scores."""
    world: Path
    """Folder of the simulated world, in the layout of CropHarvest's record."""
    table: Path
    """Folder of the table's files and of the trained models."""
    figure: Path
    """PNG file of the tasks, the learning curves and the scores."""


def demo(
    out: str | Path = "results/demo",
    *,
    countries: int = 20,
    samples: int = 8000,
    epochs: int = 200,
    runs: int = 10,
    seed: int = 0,
    progress: bool = True,
) -> Demonstration:
    """Simulate a world, meta-train on its tasks, and score five methods on the withheld ones.

    Results that are there already are used again, so that the same call goes on after a stop.

    Parameters
    ----------
    out
        Folder for `world`, `table1` and `demo.png`.
    countries, samples
        Sizes of the world, those of `timl.data.simulate`.
    epochs, runs
        Those of `timl.table1`.
    seed
        Seed of the world and of everything computed on it.
    progress
        Whether to show progress bars.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError, OSError
        If an argument is out of range, or a file cannot be read or written.
    """
    require_matplotlib("the demonstration needs")  # now, rather than after minutes of training
    folder = Path(out)
    world, table, figure = folder / "world", folder / "table1", folder / "demo.png"
    simulate(world, countries, samples, seed)
    data = CropHarvest(world)
    result = table1(data, table, epochs, rows=_ROWS, runs=runs, seed=seed, progress=progress)
    save_figure(figure, data, meta_tasks(data), result, table)
    return Demonstration(result, world, table, figure)
