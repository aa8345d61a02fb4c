"""Table 1 of the paper: every row on every benchmark, over ten runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timl.data import BBox, LabelledData, TaskSet, meta_tasks
from timl.evaluation.paper.cells import open_store
from timl.evaluation.paper.extrapolation import measure_training
from timl.evaluation.paper.plans import RUNS_PER_SEED, TableExperiment, plan_cells
from timl.evaluation.paper.result import Table1Result, default_comparison
from timl.evaluation.rows import Settings, describe_given, find_rows
from timl.evaluation.runner import complete, digest, keep_same, provenance, worker_count
from timl.files import output_folder
from timl.nn import Device, checked_device


def table1(
    data: LabelledData,
    out: str | Path = "results",
    epochs: int = 1000,
    *,
    rows: Sequence[Any] | None = None,
    runs: int = 10,
    steps: int = 250,
    seed: int = 0,
    meta_seeds: int = 1,
    sample_sizes: Sequence[int | None] = (None,),
    zero_shot: bool = False,
    as_published_code: bool = False,
    compare_with: str | None = None,
    regions: str | Path | Sequence[BBox] | None = None,
    device: Device = "cpu",
    workers: int | None = None,
    progress: bool = True,
) -> Table1Result:
    """Train, fine-tune and score every row on every benchmark (TIML, section 5 and table 1).

    MAML, TIML and its ablations are meta-trained once, on the tasks of `meta_tasks` without the
    benchmarks'; then every row is adapted to every benchmark in each of the runs and scored on
    its test set. Finished cells, and meta-training as far as it got, are kept in `out`: the same
    call goes on where it was stopped. A call with other rows, runs, meta_seeds, sample_sizes,
    zero_shot or compare_with computes only what is new; other data, epochs, steps, seed, code or
    regions need another `out`. The same seed gives the same table.

    Parameters
    ----------
    data
        A data set with benchmarks.
    out
        Folder for cells.jsonl, experiment.json, table1.csv, table1.json, table1.md, and a folder
        for each meta-training.
    epochs
        Epochs of meta-training.
    rows
        Names of the package's rows (see `timl.evaluation.rows.row_names`), paths of TOML files
        (see `timl.evaluation.rows.read_row`), or methods of your own: scikit-learn's estimators
        or their classes, classes of `torch.nn.Module` or functions that make one, their names as
        "module:name", or `Row` objects (see `timl.evaluation.rows.row_of`). By default the
        paper's rows, logistic regression and the strong protocol.
    runs
        Runs, 1 to 1000. Rows without randomness have one.
    steps
        Steps of fine-tuning.
    seed
        Seed of the meta-training, 0 or more; run r is seeded with ``1000 * seed + r``.
    meta_seeds
        Repetitions of the meta-training, with seed, seed + 1 and so on; each has its runs. The
        standard error is then that over the repetitions, and both sources of variance are told.
    sample_sizes
        Numbers of labels to adapt to, drawn anew in every run, half of them positive; None: all,
        which the table shows. Sizes that a benchmark does not have are left out of its curve.
    zero_shot
        Also score the rows that are trained on the tasks before they are adapted.
    as_published_code
        Follow the authors' published code where it differs from the paper: Togo stays among the
        training tasks and negatives are balanced by cutting, both as of `meta_tasks`; the first
        meta-batch of an epoch holds one task; validation moves the running statistics. (Its
        unseeded split of the tasks is not followed: it would give other tasks every time.)
    compare_with
        Name of the row that every other is tested against; by default "timl", or the first row
        where that is not in the table.
    regions
        As of `meta_tasks`.
    device
        Device that timl's own rows train, adapt and predict on, such as "cuda", in every process.
    workers
        Processes that compute the table, see `timl.evaluation.runner.Workers`; they change no
        bit. By default those of the active `joblib.parallel_config` (a Dask cluster, for
        instance), or as many as there are CPUs. With 1 all is done in this process, meta-training
        on PyTorch's threads.
    progress
        Show bars.

    Raises
    ------
    FileNotFoundError
        If no regions are given and the data set has none, or a test file is missing.
    ValueError
        If an argument is out of range, a row is unknown or cannot be sent to other processes, the
        data set has no benchmarks, or `out` holds files of another kind or an experiment with
        other data or settings.
    BlockingIOError
        If another process is computing a table in `out`.
    RuntimeError
        If a worker process dies. Finished cells are kept.
    """
    processes = worker_count(workers)
    for name, number, least in (("epochs", epochs, 1), ("steps", steps, 0), ("seed", seed, 0)):
        if number < least:
            raise ValueError(f"{name} is {number}: give at least {least}")
    if seed + meta_seeds > 2**64 // RUNS_PER_SEED:  # seeds of runs are below 2**64
        raise ValueError(f"seed is {seed}: give at most {2**64 // RUNS_PER_SEED - meta_seeds}")
    if not 1 <= runs <= RUNS_PER_SEED:
        raise ValueError(f"runs is {runs}: give 1 to {RUNS_PER_SEED}")
    if not data.benchmarks:
        raise ValueError(f"data is {data!r}, without benchmarks: give CropHarvest a benchmark file")
    if not 1 <= meta_seeds <= RUNS_PER_SEED:
        raise ValueError(f"meta_seeds is {meta_seeds}: give 1 to {RUNS_PER_SEED}")
    sizes = sorted({size for size in sample_sizes if size is not None})
    if None not in sample_sizes or any(size < 2 or size % 2 for size in sizes):
        raise ValueError(
            f"sample_sizes is {list(sample_sizes)}: give even numbers of at least 2, and None"
        )
    chosen = find_rows(rows)
    all_settings = [
        Settings(epochs, steps, seed + repetition, as_published_code, str(checked_device(device)))
        for repetition in range(meta_seeds)
    ]
    protocol = {
        **all_settings[0].described(),
        "runs": runs,
        "meta_seeds": meta_seeds,
        "sample_sizes": [*sizes, None],
        "zero_shot": zero_shot,
        "compare_with": default_comparison([row.name for row in chosen], compare_with),
    }
    tasks = None
    if any(row.meta_trained for row in chosen):
        tasks = training_tasks(data, regions, as_published_code)
    described = provenance(data, protocol)
    described["data"]["benchmarks"] = [benchmark.name for benchmark in data.benchmarks]
    described["data"]["meta_training_tasks"] = (
        None if tasks is None else [task.id for task in tasks]
    )

    described["rows"] = describe_given(chosen)

    folder, start = Path(out), time.perf_counter()
    wanted: list[int | None] = [*([0] if zero_shot else []), *sizes, None]
    plans = [
        plan
        for row in chosen
        for repetition, settings in enumerate(
            all_settings if row.meta_trained else all_settings[:1]
        )
        for plan in plan_cells(row, data, settings, repetition, tasks, runs, wanted)
    ]
    experiment = TableExperiment(
        rows={row.name: row for row in chosen},
        folder=folder,
        data=data,
        tasks=tasks,
        settings=all_settings,
    )
    jobs = {plan.key: plan for plan in plans}
    with output_folder(folder):
        store = open_store(folder)
        keep_same(
            folder,
            {
                "data": data.checksum,
                **all_settings[0].described(),
                "tasks": None if tasks is None else digest([task.id for task in tasks]),
                **{f"row {name}": given for name, given in described["rows"].items()},
            },
        )
        complete(experiment, jobs, store, folder, processes, progress)
        described["workers"] = processes
        measured = {row.name: measure_training(folder / row.name) for row in chosen}
        described["trainings"] = {row: found for row, found in measured.items() if found}
        described["seconds"] = round(time.perf_counter() - start, 3)
        result = Table1Result(
            titles={row.name: row.title for row in chosen},
            benchmarks=tuple(benchmark.name for benchmark in data.benchmarks),
            cells=tuple(plan.renumbered(cell) for plan in plans for cell in store[plan.key]),
            provenance=described,
        )
        result.save(folder)
    return result


def training_tasks(
    data: LabelledData,
    regions: str | Path | Sequence[BBox] | None = None,
    as_published_code: bool = False,
) -> TaskSet:
    """Return the tasks that `table1` meta-trains on; the arguments are as there."""
    if as_published_code:
        return meta_tasks(data, regions, withhold="as_published", balance_negative_crops="cut")
    return meta_tasks(data, regions)
