"""Table 1 of the paper: every row on every benchmark, over ten runs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from timl.data import BBox, BenchmarkTask, CropHarvest, TaskSet, meta_tasks
from timl.evaluation.cells import Cell, CellStore
from timl.evaluation.result import Table1Result
from timl.evaluation.rows import Adapt, Row, Settings, find_rows
from timl.evaluation.scores import evaluate
from timl.meta.configuration import versions

_RUNS_PER_SEED = 1000


def table1(
    data: CropHarvest,
    out: str | Path = "results",
    epochs: int = 1000,
    *,
    rows: list[str] | None = None,
    runs: int = 10,
    steps: int = 250,
    seed: int = 0,
    regions: str | Path | Sequence[BBox] | None = None,
    progress: bool = True,
) -> Table1Result:
    """Train, fine-tune and score every row on every benchmark (TIML, section 5 and table 1).

    MAML and TIML are meta-trained once, on the tasks of `meta_tasks` without the benchmarks';
    then every row is adapted to every benchmark in each of the runs and scored on its test set.
    Finished cells, and meta-training as far as it got, are kept in `out`: the same call goes on
    where it was stopped, and computes again only what depends on something that has changed.
    The same seed gives the same table.

    Parameters
    ----------
    data : CropHarvest
        A data set with benchmarks.
    out : str or Path
        Folder for cells.jsonl, table1.csv, table1.json, table1.md, and a folder for each
        meta-training.
    epochs : int
        Epochs of meta-training.
    rows : list of str, optional
        Some of "random-forest", "logistic-regression", "no-pre-training", "maml" and "timl"; by
        default all.
    runs : int
        Runs, 1 to 1000. Rows without randomness have one.
    steps : int
        Steps of fine-tuning.
    seed : int
        Of the meta-training, 0 or more; run r is seeded with ``1000 * seed + r``.
    regions
        As of `meta_tasks`.
    progress : bool
        Show bars.

    Raises
    ------
    FileNotFoundError
        If no regions are given and the data set has none, or a test file is missing.
    ValueError
        If an argument is out of range, a row is unknown, the data set has no benchmarks, or `out`
        holds files of another kind or the meta-training of other settings.
    """
    for name, number, least in (("epochs", epochs, 1), ("steps", steps, 0), ("seed", seed, 0)):
        if number < least:
            raise ValueError(f"{name} is {number}: give at least {least}")
    if not 1 <= runs <= _RUNS_PER_SEED:
        raise ValueError(f"runs is {runs}: give 1 to {_RUNS_PER_SEED}")
    if not data.benchmarks:
        raise ValueError(f"{data!r} has no benchmarks: give CropHarvest a benchmark file")
    chosen = find_rows(rows)
    settings = Settings(epochs=epochs, steps=steps, seed=seed)
    meta_trained = any(row.meta_trained for row in chosen)
    tasks = meta_tasks(data, regions) if meta_trained else None
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    store = CellStore(folder / "cells.jsonl")
    provenance = _provenance(data, settings, runs, tasks)

    start = time.perf_counter()
    cells: list[Cell] = []
    for row in chosen:
        plans = _plans(row, data, settings, tasks, runs)
        missing = [plan for plan in plans if store.get(*plan.key) is None]
        if missing:
            adapt, training_seconds = row.prepare(settings, tasks, folder, progress)
            for plan in _bar(missing, row.title, progress):
                store.add(_compute(plan, adapt, training_seconds))
        cells += [cell for plan in plans if (cell := store.get(*plan.key)) is not None]
    provenance["seconds"] = round(time.perf_counter() - start, 3)
    result = Table1Result(
        titles={row.name: row.title for row in chosen},
        benchmarks=tuple(benchmark.name for benchmark in data.benchmarks),
        cells=tuple(cells),
        provenance=provenance,
    )
    result.save(folder)
    return result


class _Plan(NamedTuple):
    """A cell that is wanted."""

    row: str
    benchmark: BenchmarkTask
    run: int
    seed: int
    configuration: str

    @property
    def key(self) -> tuple[str, int]:
        return self.configuration, self.seed


def _plans(
    row: Row, data: CropHarvest, settings: Settings, tasks: TaskSet | None, runs: int
) -> list[_Plan]:
    """Return a row's cells by benchmark and run."""
    common = {
        **row.configuration(settings, tasks),
        "data": data.checksum,
        "versions": _versions(),
    }
    plans = []
    for benchmark in data.benchmarks:
        digest = _digest({**common, "benchmark": dataclasses.asdict(benchmark.task)})
        for run in range(1 if row.deterministic else runs):
            seed = _RUNS_PER_SEED * settings.seed + run
            plans.append(_Plan(row.name, benchmark, run, seed, digest))
    return plans


def _compute(plan: _Plan, adapt: Adapt, training_seconds: float) -> Cell:
    start = time.perf_counter()
    scores = evaluate(adapt(plan.benchmark, plan.seed), plan.benchmark)
    return Cell(
        row=plan.row,
        benchmark=plan.benchmark.name,
        run=plan.run,
        seed=plan.seed,
        configuration=plan.configuration,
        scores=scores,
        seconds=round(time.perf_counter() - start, 4),
        training_seconds=round(training_seconds, 3),
    )


def _bar(plans: list[_Plan], title: str, progress: bool) -> Iterable[_Plan]:
    """Return the plans, with a bar on the error stream while they are gone through."""
    from rich.console import Console
    from rich.progress import track

    return track(plans, title, console=Console(stderr=True), disable=not progress)


def _digest(configuration: dict[str, Any]) -> str:
    text = json.dumps(configuration, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _versions() -> dict[str, str]:
    import sklearn

    return {**versions(), "scikit-learn": str(sklearn.__version__)}


def _provenance(
    data: CropHarvest, settings: Settings, runs: int, tasks: TaskSet | None
) -> dict[str, Any]:
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "settings": {**dataclasses.asdict(settings), "runs": runs},
        "versions": _versions(),
        "platform": platform.platform(),
        "data": {
            "checksum": data.checksum,
            "ndvi": data.ndvi,
            "training_series": len(data),
            "benchmarks": [benchmark.name for benchmark in data.benchmarks],
            "meta_training_tasks": None if tasks is None else [task.id for task in tasks],
        },
    }
