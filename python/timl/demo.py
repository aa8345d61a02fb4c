"""The demonstration: a simulated world, meta-training, the table, and a figure of it all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from timl.data import CropHarvest, meta_tasks
from timl.data.simulator import simulate
from timl.evaluation import Table1Result, table1
from timl.evaluation.paper.figures import save_figure
from timl.evaluation.plotting import require_matplotlib

_ROWS = ("random-forest", "logistic-regression", "no-pre-training", "maml", "timl")


@dataclass(frozen=True)
class Demonstration:
    """What a demonstration left behind."""

    result: Table1Result
    """The table."""
    world: Path
    """Folder of the simulated world, in the layout of CropHarvest's record."""
    table: Path
    """Folder of the table's files and of the trained models."""
    figure: Path
    """PNG of the tasks, the learning curves and the scores."""


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

    What is there already is used again, so a call that was stopped goes on.

    Parameters
    ----------
    out : str or Path
        Folder for `world`, `table1` and `demo.png`.
    countries, samples
        Of the world, as of `timl.data.simulate`.
    epochs, runs
        As of `timl.table1`.
    seed : int
        Of the world, and of all that is done with it.
    progress : bool
        Show bars.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError, OSError
        As of `timl.data.simulate` and `timl.table1`.
    """
    require_matplotlib("the demonstration needs")  # not after minutes of training
    folder = Path(out)
    world, table, figure = folder / "world", folder / "table1", folder / "demo.png"
    simulate(world, countries, samples, seed)
    data = CropHarvest(world)
    result = table1(data, table, epochs, rows=_ROWS, runs=runs, seed=seed, progress=progress)
    save_figure(figure, data, meta_tasks(data), result, table)
    return Demonstration(result, world, table, figure)
