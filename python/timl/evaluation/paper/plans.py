"""The cells that a table wants, and computing them in whichever process."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from timl.data import CropHarvest, TaskSet
from timl.evaluation.paper.cells import Cell
from timl.evaluation.parallel import run_jobs
from timl.evaluation.rows import Prepared, Row, Settings
from timl.evaluation.scores import evaluate_with_reliability
from timl.meta.configuration import versions

RUNS_PER_SEED = 1000


class Training(NamedTuple):
    """A meta-training that is wanted."""

    row: str
    repetition: int


class Plan(NamedTuple):
    """A cell that is wanted."""

    row: str
    benchmark: str
    run: int
    seed: int
    configuration: str
    repetition: int
    size: int | None

    @property
    def key(self) -> tuple[str, int]:
        """What the cell is kept under."""
        return self.configuration, self.seed

    def renamed(self, cell: Cell) -> Cell:
        """Return a kept cell under the plan's numbers: they differ where another seed was first."""
        return dataclasses.replace(cell, run=self.run, meta_seed=self.repetition)


@dataclass
class Workshop:
    """What a process needs for computing a table's cells.

    Parameters
    ----------
    data, tasks, folder
        As of `timl.table1`, the tasks that it meta-trains on, and its folder.
    rows
        By name.
    settings
        Of each repetition of the meta-training.
    bars
        Whether meta-trainings show bars of their own.
    """

    data: CropHarvest
    tasks: TaskSet | None
    folder: Path
    rows: Mapping[str, Row]
    settings: Sequence[Settings]
    bars: bool = False
    _prepared: dict[Training, Prepared] = field(default_factory=dict)

    def __reduce__(self) -> Any:
        # another process prepares the rows again, from the files of those that train
        return Workshop, (self.data, self.tasks, self.folder, self.rows, self.settings)

    def itself(self) -> Workshop:
        """Return the workshop: a process's state in `run_jobs`."""
        return self

    def prepared(self, wanted: Training) -> Prepared:
        """Return a prepared row, which is prepared once in a process."""
        if wanted not in self._prepared:
            row, repetition = wanted
            own = self.folder / (f"{row}-{repetition}" if repetition else row)
            self._prepared[wanted] = self.rows[row].prepare(
                self.settings[repetition], self.tasks, own, self.bars
            )
        return self._prepared[wanted]

    def cell(self, plan: Plan) -> Cell:
        """Compute a cell."""
        from threadpoolctl import threadpool_limits

        prepared = self.prepared(Training(plan.row, plan.repetition))
        benchmark = self.data.benchmark(plan.benchmark)
        start = time.perf_counter()
        with threadpool_limits(1, user_api="blas"):  # it splits sums by its number of threads
            if plan.size == 0:
                if prepared.zero_shot is None:
                    raise ValueError(f"row {plan.row!r} is meta_trained, but prepares no zero_shot")
                predictor: Any = prepared.zero_shot(benchmark)
            else:
                task = benchmark
                if plan.size is not None:
                    task = task.subset(plan.size, plan.seed)
                predictor = prepared.adapt(task, plan.seed)
            scores, reliability = evaluate_with_reliability(predictor, benchmark)
        return Cell(
            row=plan.row,
            benchmark=plan.benchmark,
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


def compute(workshop: Workshop, job: Training | Plan) -> Cell | None:
    """Do a training, which leaves its files, or compute a cell."""
    if isinstance(job, Plan):
        return workshop.cell(job)
    workshop.prepared(job)
    return None


def compute_all(
    workshop: Workshop, plans: Sequence[Plan], workers: int, progress: bool
) -> Iterator[Cell]:
    """Compute cells, in any order: first the trainings that they need, then they.

    Among processes, cells that need no training fill the time until the last training ends.
    """
    trainings = list(
        dict.fromkeys(
            Training(plan.row, plan.repetition)
            for plan in plans
            if workshop.rows[plan.row].meta_trained
        )
    )
    trained = {training.row for training in trainings}
    early = [plan for plan in plans if plan.row not in trained] if workers > 1 else []
    late = [plan for plan in plans if plan.row in trained] if workers > 1 else list(plans)
    first: list[Training | Plan] = [*trainings, *early]
    for title, jobs in (("training", first), ("cells", late)):
        # a training in this process has a bar of its own
        workshop.bars = progress and title == "training" and min(workers, len(jobs)) == 1
        with _bar(title, len(jobs), progress and not workshop.bars) as advance:
            for _, cell in run_jobs(compute, jobs, workers=workers, prepare=workshop.itself):
                advance()
                if cell is not None:
                    yield cell


def plan_cells(
    row: Row,
    data: CropHarvest,
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
        "versions": all_versions(),
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
                seed = RUNS_PER_SEED * settings.seed + run
                plans.append(Plan(row.name, benchmark.name, run, seed, digest, repetition, size))
    return plans


def all_versions() -> dict[str, str]:
    """Return the versions of what computes, scikit-learn's too."""
    import sklearn

    return {**versions(), "scikit-learn": str(sklearn.__version__)}


@contextmanager
def _bar(title: str, total: int, progress: bool) -> Iterator[Callable[[], None]]:
    """Show a bar on the error stream, and give what moves it."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not (progress and total)) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


def _digest(configuration: dict[str, Any]) -> str:
    text = json.dumps(configuration, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
