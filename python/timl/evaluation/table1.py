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
from timl.evaluation.rows import Prepared, Row, Settings, find_rows
from timl.evaluation.scores import evaluate_with_reliability
from timl.meta.configuration import versions

_RUNS_PER_SEED = 1000


def table1(
    data: CropHarvest,
    out: str | Path = "results",
    epochs: int = 1000,
    *,
    rows: Sequence[str | Path | Row] | None = None,
    runs: int = 10,
    steps: int = 250,
    seed: int = 0,
    meta_seeds: int = 1,
    sample_sizes: Sequence[int | None] = (None,),
    zero_shot: bool = False,
    as_published_code: bool = False,
    regions: str | Path | Sequence[BBox] | None = None,
    progress: bool = True,
) -> Table1Result:
    """Train, fine-tune and score every row on every benchmark (TIML, section 5 and table 1).

    MAML, TIML and its ablations are meta-trained once, on the tasks of `meta_tasks` without the
    benchmarks'; then every row is adapted to every benchmark in each of the runs and scored on
    its test set. Finished cells, and meta-training as far as it got, are kept in `out`: the same
    call goes on where it was stopped, and computes again only what depends on something that has
    changed. The same seed gives the same table.

    Parameters
    ----------
    data : CropHarvest
        A data set with benchmarks.
    out : str or Path
        Folder for cells.jsonl, table1.csv, table1.json, table1.md, and a folder for each
        meta-training.
    epochs : int
        Epochs of meta-training.
    rows : list, optional
        Names of the package's rows (see `timl.evaluation.rows.row_names`), paths of TOML files
        (see `timl.evaluation.rows.read_row`), or `Row` objects of your own; by default the
        paper's rows and logistic regression.
    runs : int
        Runs, 1 to 1000. Rows without randomness have one.
    steps : int
        Steps of fine-tuning.
    seed : int
        Of the meta-training, 0 or more; run r is seeded with ``1000 * seed + r``.
    meta_seeds : int
        Repetitions of the meta-training, with seed, seed + 1 and so on; each has its runs. The
        standard error is then that over the repetitions, and both sources of variance are told.
    sample_sizes : sequence of int or None
        Numbers of labels to adapt to, drawn anew in every run, half of them positive; None: all,
        which the table shows. Sizes that a benchmark does not have are left out of its curve.
    zero_shot : bool
        Also score the rows that are trained on the tasks before they are adapted.
    as_published_code : bool
        Follow the authors' published code where it differs from the paper: Togo stays among the
        training tasks and negatives are balanced by cutting, both as of `meta_tasks`; the first
        meta-batch of an epoch holds one task. (Its split of the tasks is unseeded: ours is not.)
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
    if not 1 <= meta_seeds <= _RUNS_PER_SEED:
        raise ValueError(f"meta_seeds is {meta_seeds}: give 1 to {_RUNS_PER_SEED}")
    sizes = sorted({size for size in sample_sizes if size is not None})
    if None not in sample_sizes or any(size < 2 or size % 2 for size in sizes):
        raise ValueError(
            f"sample_sizes is {list(sample_sizes)}: give even numbers of at least 2, and None"
        )
    chosen = find_rows(rows)
    all_settings = [
        Settings(epochs, steps, seed + repetition, as_published_code)
        for repetition in range(meta_seeds)
    ]
    protocol = {
        "runs": runs,
        "meta_seeds": meta_seeds,
        "sample_sizes": [*sizes, None],
        "zero_shot": zero_shot,
    }
    tasks = None
    if any(row.meta_trained for row in chosen):
        tasks = training_tasks(data, regions, as_published_code)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    store = CellStore(folder / "cells.jsonl")
    provenance = _provenance(data, all_settings[0], protocol, tasks)

    start = time.perf_counter()
    cells: list[Cell] = []
    wanted: list[int | None] = [*([0] if zero_shot else []), *sizes, None]
    for row in chosen:
        for repetition, settings in enumerate(
            all_settings if row.meta_trained else all_settings[:1]
        ):
            plans = _plans(row, data, settings, repetition, tasks, runs, wanted)
            missing = [plan for plan in plans if store.get(*plan.key) is None]
            if missing:
                own = folder / (f"{row.name}-{repetition}" if repetition else row.name)
                prepared = row.prepare(settings, tasks, own, progress)
                for plan in _bar(missing, row.title, progress):
                    store.add(_compute(plan, prepared))
            kept = [(plan, store.get(*plan.key)) for plan in plans]
            cells += [_as_planned(plan, cell) for plan, cell in kept if cell is not None]
    provenance["seconds"] = round(time.perf_counter() - start, 3)
    result = Table1Result(
        titles={row.name: row.title for row in chosen},
        benchmarks=tuple(benchmark.name for benchmark in data.benchmarks),
        cells=tuple(cells),
        provenance=provenance,
    )
    result.save(folder)
    return result


def training_tasks(
    data: CropHarvest,
    regions: str | Path | Sequence[BBox] | None = None,
    as_published_code: bool = False,
) -> TaskSet:
    """Return the tasks that `table1` meta-trains on; the arguments are as there."""
    if as_published_code:
        return meta_tasks(data, regions, withhold="as_published", balance_negative_crops="cut")
    return meta_tasks(data, regions)


class _Plan(NamedTuple):
    """A cell that is wanted."""

    row: str
    benchmark: BenchmarkTask
    run: int
    seed: int
    configuration: str
    repetition: int
    size: int | None

    @property
    def key(self) -> tuple[str, int]:
        return self.configuration, self.seed


def _plans(
    row: Row,
    data: CropHarvest,
    settings: Settings,
    repetition: int,
    tasks: TaskSet | None,
    runs: int,
    sizes: Sequence[int | None],
) -> list[_Plan]:
    """Return a row's cells of one meta-training by benchmark, sample size and run."""
    common = {
        **row.configuration(settings, tasks),
        "data": data.checksum,
        "versions": _versions(),
    }
    plans = []
    for benchmark in data.benchmarks:
        rarer = min(len(benchmark.positives), len(benchmark.negatives))
        for size in sizes:
            if (size == 0 and not row.meta_trained) or (size is not None and size > 2 * rarer):
                continue
            described = {**common, "benchmark": dataclasses.asdict(benchmark.task), "size": size}
            digest = _digest(described)
            once = size == 0 or (size is None and row.deterministic)
            for run in range(1 if once else runs):
                seed = _RUNS_PER_SEED * settings.seed + run
                plans.append(_Plan(row.name, benchmark, run, seed, digest, repetition, size))
    return plans


def _as_planned(plan: _Plan, cell: Cell) -> Cell:
    """Return a kept cell under the plan's numbers: they differ where another seed came first."""
    return dataclasses.replace(cell, run=plan.run, meta_seed=plan.repetition)


def _compute(plan: _Plan, prepared: Prepared) -> Cell:
    start = time.perf_counter()
    if plan.size == 0:
        if prepared.zero_shot is None:
            raise ValueError(f"row {plan.row!r} is meta_trained, but prepares no zero_shot")
        predictor: Any = prepared.zero_shot(plan.benchmark)
    else:
        task = plan.benchmark
        if plan.size is not None:
            task = task.subset(plan.size, plan.seed)
        predictor = prepared.adapt(task, plan.seed)
    scores, reliability = evaluate_with_reliability(predictor, plan.benchmark)
    return Cell(
        row=plan.row,
        benchmark=plan.benchmark.name,
        run=plan.run,
        seed=plan.seed,
        configuration=plan.configuration,
        scores=scores,
        seconds=round(time.perf_counter() - start, 4),
        training_seconds=round(prepared.seconds, 3),
        meta_seed=plan.repetition,
        size=plan.size,
        reliability=reliability,
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
    data: CropHarvest, settings: Settings, protocol: dict[str, Any], tasks: TaskSet | None
) -> dict[str, Any]:
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "settings": {**dataclasses.asdict(settings), **protocol},
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
