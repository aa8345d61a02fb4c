"""The cells that a table wants, and computing one of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from timl.data import LabelledData, TaskSet
from timl.evaluation.paper.cells import Cell
from timl.evaluation.rows import Row, RowExperiment, Settings
from timl.evaluation.rows.experiment import Shared
from timl.evaluation.runner import Training, digest, software_versions
from timl.evaluation.scores import evaluate_with_reliability

RUNS_PER_SEED = 1000


class Plan(NamedTuple):
    """A cell that is wanted."""

    key: str
    """Digest of all that the cell's scores depend on."""
    row: str
    benchmark: str
    run: int
    seed: int
    repetition: int
    size: int | None

    def renumbered(self, cell: Cell) -> Cell:
        """Return a kept cell under the plan's numbers: they differ where another seed was first."""
        return dataclasses.replace(cell, run=self.run, meta_seed=self.repetition)


@dataclass(kw_only=True)
class TableExperiment(RowExperiment[Plan, Cell]):
    """Table 1, in parts that are the repetitions of the meta-training.

    Parameters
    ----------
    data
        The data set.
    tasks
        The tasks to meta-train on; None where no row needs them.
    settings
        Settings of each repetition of the meta-training.
    """

    data: LabelledData
    tasks: TaskSet | None
    settings: Sequence[Settings]

    def row_and_part(self, job: Plan) -> Training:
        """Return the plan's row and repetition."""
        return Training(job.row, job.repetition)

    def shared(self, row: str, part: int) -> Shared:
        """Return the settings of a repetition, the tasks, and the row's folder in it."""
        folder = self.folder / (f"{row}-{part}" if part else row)
        return Shared(self.settings[part], self.tasks, folder)

    def compute(self, job: Plan) -> list[Cell]:
        """Adapt the row to the benchmark, or take it zero-shot, and score it."""
        prepared = self.prepared(job)
        benchmark = next(b for b in self.data.benchmarks if b.name == job.benchmark)
        start = time.perf_counter()
        if job.size == 0:
            if prepared.zero_shot is None:
                raise ValueError(f"row {job.row!r} is zero_shot, but prepares no zero_shot")
            predictor: Any = prepared.zero_shot(benchmark)
        else:
            task = benchmark if job.size is None else benchmark.subset(job.size, job.seed)
            predictor = prepared.adapt(task, job.seed)
        scores, reliability = evaluate_with_reliability(predictor, benchmark)
        return [
            Cell(
                row=job.row,
                benchmark=job.benchmark,
                run=job.run,
                seed=job.seed,
                scores=scores,
                reliability=reliability,
                seconds=round(time.perf_counter() - start, 4),
                training_seconds=round(prepared.seconds, 3),
                meta_seed=job.repetition,
                size=job.size,
            )
        ]


def plan_cells(
    row: Row,
    data: LabelledData,
    settings: Settings,
    repetition: int,
    tasks: TaskSet | None,
    runs: int,
    sizes: Sequence[int | None],
) -> list[Plan]:
    """Return a row's cells of one meta-training by benchmark, sample size and run."""
    common = {
        **row.configuration(settings, tasks),
        "data": data.checksum,
        "versions": software_versions(),
    }
    plans = []
    for benchmark in data.benchmarks:
        rarer = min(len(benchmark.positives), len(benchmark.negatives))
        for size in sizes:
            if (size == 0 and not row.zero_shot) or (size is not None and size > 2 * rarer):
                continue
            described = {**common, "benchmark": dataclasses.asdict(benchmark.task), "size": size}
            once = size == 0 or (size is None and row.deterministic)
            for run in range(1 if once else runs):
                seed = RUNS_PER_SEED * settings.seed + run
                key = digest({**described, "run_seed": seed})
                plans.append(Plan(key, row.name, benchmark.name, run, seed, repetition, size))
    return plans
