"""The few-shot benchmark: every row on every held-out task, for every number of labels."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timl.data import BBox, LabelledData
from timl.defaults import FINE_TUNING_STEPS
from timl.evaluation.few_shot.cells import FewShotCell, open_store
from timl.evaluation.few_shot.experiment import FoldExperiment, FoldJob
from timl.evaluation.few_shot.folds import FewShotFold, HeldOut, few_shot_folds
from timl.evaluation.few_shot.result import FewShotResult
from timl.evaluation.few_shot.tasks import FewShotTask
from timl.evaluation.rows import (
    Prepared,
    Settings,
    describe_given,
    find_rows,
)
from timl.evaluation.runner import (
    complete,
    digest,
    keep_same,
    provenance,
    worker_count,
)
from timl.evaluation.scores import evaluate
from timl.files import output_folder
from timl.nn import Device, checked_device

FEW_SHOT_ROWS = (
    "random-forest",
    "logistic-regression-cv",
    "gradient-boosting",
    "extra-trees-described",
    "logistic-regression-described",
    "gradient-boosting-described",
    "gradient-boosting-pooled",
    "extra-trees-described-pooled",
    "logistic-regression-described-pooled",
    "timl",
    "strong-without-learning",
    "strong-without-network",
    "strong",
)
"""The rows that are compared where none are given."""


def few_shot_benchmark(
    data: LabelledData,
    out: str | Path = "results/few-shot",
    rows: Sequence[Any] | None = None,
    *,
    epochs: int = 200,
    budgets: Sequence[int | None] = (5, 10, 25, 50, None),
    held_out: HeldOut = "country",
    draws: int = 1,
    folds: int | None = None,
    seed: int = 0,
    block_km: float = 3.0,
    random_splits: bool = False,
    regions: str | Path | Sequence[BBox] | None = None,
    scored: Sequence[str] | None = None,
    device: Device = "cpu",
    workers: int | None = None,
    progress: bool = True,
) -> FewShotResult:
    """Score rows on the tasks of held-out regions, on test samples that are apart in space.

    Each fold of regions is held out in turn (see `few_shot_folds`): rows that are trained on other
    regions' tasks see no sample of it. Finished cells are kept in `out`: the same call goes on
    where it was stopped, and one with other rows or `scored` computes only what is new; other data
    or settings need another `out`. The same seed gives the same scores for any number of workers.

    Parameters
    ----------
    data
        The data set.
    out
        Folder for cells.jsonl, experiment.json, few-shot.csv, few-shot.json, few-shot.md and the
        trainings.
    rows
        As of `timl.table1`; by default `FEW_SHOT_ROWS`.
    epochs
        Epochs of meta-training and, at most, of pre-training.
    budgets
        Labels per class; None: all of the training part. Those that a task does not have are left
        out for it.
    draws
        Divisions of each task.
    held_out, folds, seed, block_km, regions
        As of `few_shot_folds`.
    scored
        Names of regions: only the folds that hold one of them out are computed. None: all.
    device
        As of `timl.table1`.
    random_splits
        Also score one random division of each task, draw 0, to show its optimism.
    workers
        Processes that compute it, as of `timl.table1`.
    progress
        Show bars.

    Raises
    ------
    ValueError
        If an argument is out of range, a row is unknown or cannot be sent to other processes, or
        `out` holds files of another kind or a benchmark with other data or settings.
    BlockingIOError
        If another process is computing a benchmark in `out`.
    RuntimeError
        If a worker process dies. Finished cells are kept.
    """
    processes = worker_count(workers)
    wanted = checked_settings(epochs, seed, block_km, budgets)
    shared = Settings(epochs, FINE_TUNING_STEPS, seed, device=str(checked_device(device)))
    chosen = find_rows(FEW_SHOT_ROWS if rows is None else rows)
    made = few_shot_folds(
        data, regions, folds, seed, held_out=held_out, draws=draws, block_km=block_km
    )
    regions_of_folds = [list(fold.regions) for fold in made]
    if scored is not None:
        made = folds_of(made, scored)
    folder = Path(out)
    fixed = {
        "held_out": held_out,
        "epochs": epochs,
        "seed": seed,
        "budgets": list(wanted),
        "draws": draws,
        "random_splits": random_splits,
        "block_km": block_km,
        **shared.on_device,
    }
    settings = {**fixed, **({} if scored is None else {"scored": list(scored)})}
    described = {**provenance(data, settings), "rows": describe_given(chosen)}
    start = time.perf_counter()
    experiment = _FewShotExperiment(
        rows={row.name: row for row in chosen},
        folder=folder,
        folds=made,
        settings=shared,
        budgets=wanted,
        draws=draws,
        random_splits=random_splits,
    )
    jobs = experiment.jobs()
    with output_folder(folder):
        store = open_store(folder)
        keep_same(
            folder,
            {
                "data": data.checksum,
                **fixed,
                "folds": digest(regions_of_folds),
                **{f"row {name}": given for name, given in described["rows"].items()},
            },
        )
        complete(experiment, jobs, store, folder, processes, progress)
        result = FewShotResult(
            {row.name: row.title for row in chosen},
            tuple(cell for key in jobs for cell in store[key]),
            {
                **described,
                "folds": [
                    {
                        "regions": dict(zip(fold.regions, fold.surveys, strict=True)),
                        "tasks": [task.id for task in fold.tasks],
                        "training_tasks": len(fold.training),
                        "nearest_training_km": round(fold.nearest_training_km, 1),
                    }
                    for fold in made
                ],
                "left_out": made[0].left_out,
                "workers": processes,
                "seconds": round(time.perf_counter() - start, 3),
            },
        )
        result.save(folder)
    return result


def checked_settings(
    epochs: int, seed: int, block_km: float, budgets: Sequence[int | None]
) -> tuple[int | None, ...]:
    """Return the budgets, each once, or raise ValueError if a setting is out of range."""
    if epochs < 1 or not 0 <= seed < 2**64:
        raise ValueError(
            f"epochs is {epochs}, seed is {seed}: give at least 1, and a seed in [0, 2**64)"
        )
    if not 0 < block_km < math.inf:
        raise ValueError(f"block_km is {block_km}: give a finite number above 0")
    wanted = tuple(dict.fromkeys(budgets))
    if not wanted or any(budget is not None and budget < 1 for budget in wanted):
        raise ValueError(f"budgets is {list(budgets)}: give numbers of at least 1, or None for all")
    return wanted


def folds_of(folds: Sequence[FewShotFold], regions: Sequence[str]) -> list[FewShotFold]:
    """Return the folds that hold out one of some regions."""
    held = {name for fold in folds for name in fold.regions}
    unknown = [name for name in regions if name not in held]
    if unknown or not regions:
        raise ValueError(
            f"scored is {list(regions)}, of which no fold holds out {', '.join(unknown) or 'any'}: "
            f"give some of {', '.join(sorted(held))}"
        )
    return [fold for fold in folds if set(fold.regions) & set(regions)]


@dataclass(kw_only=True)
class _FewShotExperiment(FoldExperiment[FewShotCell]):
    """The benchmark."""

    def jobs(self) -> dict[str, FoldJob]:
        """Return all jobs by a digest of all that their scores depend on."""
        found = {}
        for row in self.rows:
            for fold, held in enumerate(self.folds):
                common = self.described(self.rows[row], held)
                for number, task in enumerate(held.tasks.tasks):
                    key = digest({**common, "task": dataclasses.asdict(task)})
                    found[key] = FoldJob(row, fold, number)
        return found

    def compute(self, job: FoldJob) -> list[FewShotCell]:
        """Adapt and score a row on all divisions and budgets of one task."""
        fold = self.folds[job.fold]
        divisions = [(draw, True) for draw in range(self.draws)]
        divisions += [(0, False)] if self.random_splits else []
        prepared = self.prepared(job)
        region = str(fold.tasks.tasks[job.task].bounding_box.name)
        survey = fold.surveys[fold.regions.index(region)]
        return [
            _cell(job.row, fold.number, prepared, task, (region, survey), budget, draw, spatial)
            for draw, spatial in divisions
            for task in [fold.draw(job.task, draw, spatial)]
            for budget in task.budgets(self.budgets)
        ]


def _cell(
    row: str,
    fold: int,
    prepared: Prepared,
    task: FewShotTask,
    origin: tuple[str, str],
    budget: int | None,
    draw: int,
    spatial: bool,
) -> FewShotCell:
    """Adapt a row to so many labels of a divided task of one region and survey, and score it."""
    labelled = task.with_labels(budget)
    start = time.perf_counter()
    scores = evaluate(prepared.adapt(labelled, task.seed), task)
    return FewShotCell(
        row=row,
        task=task.name,
        region=origin[0],
        survey=origin[1],
        fold=fold,
        draw=draw,
        spatial=spatial,
        labels=budget,
        auc_roc=scores.auc_roc,
        average_precision=scores.average_precision,
        f1=scores.f1,
        brier=scores.brier,
        training_samples=len(labelled.positives) + len(labelled.negatives),
        test_samples=scores.samples,
        distance_km=round(task.distance_km, 3),
        seconds=round(time.perf_counter() - start, 4),
        training_seconds=round(prepared.seconds, 3),
    )
