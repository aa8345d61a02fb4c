"""The few-shot benchmark: every row on every held-out task, for every number of labels."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from timl.data import BBox, CropHarvest
from timl.evaluation.few_shot.result import FewShotCell, FewShotResult, read_cells
from timl.evaluation.few_shot.tasks import FewShotFold, FewShotTask, few_shot_folds
from timl.evaluation.parallel import default_workers, run_jobs
from timl.evaluation.rows import Prepared, Row, Settings, find_rows
from timl.evaluation.scores import evaluate
from timl.meta.configuration import checksum, versions
from timl.nn import one_thread

FEW_SHOT_ROWS = (
    "random-forest",
    "logistic-regression-cv",
    "gradient-boosting",
    "nearest-class-mean",
    "random-forest-pooled",
    "logistic-regression-pooled",
    "gradient-boosting-pooled",
    "nearest-class-mean-pooled",
    "no-pre-training",
    "crop-pre-training",
    "maml",
    "timl",
    "strong",
)
"""The rows that are compared where none are given."""

_CELLS = "cells.jsonl"
_STEPS = 250


def few_shot_benchmark(
    data: CropHarvest,
    out: str | Path = "results/few-shot",
    rows: Sequence[str | Path | Row] | None = None,
    *,
    epochs: int = 200,
    budgets: Sequence[int | None] = (5, 10, 25, 50, None),
    draws: int = 3,
    folds: int = 5,
    seed: int = 0,
    block_km: float = 3.0,
    random_splits: bool = True,
    regions: str | Path | Sequence[BBox] | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> FewShotResult:
    """Score rows on the tasks of held-out regions, on test samples that are apart in space.

    Each fold of regions is held out in turn (see `few_shot_folds`): rows that are trained on other
    regions' tasks see no sample of it. Finished cells are kept in `out`: the same call goes on
    where it was stopped. The same seed gives the same scores for any number of workers.

    Parameters
    ----------
    data : CropHarvest
        The data set.
    out : str or Path
        Folder for cells.jsonl, few-shot.csv, few-shot.json, few-shot.md and the trainings.
    rows : list, optional
        As of `timl.table1`; by default `FEW_SHOT_ROWS`.
    epochs : int
        Epochs of meta-training and, at most, of pre-training.
    budgets : sequence of int or None
        Labels per class; None: all of the training part. Those that a task does not have are left
        out for it.
    draws : int
        Divisions of each task.
    folds, seed, block_km, regions
        As of `few_shot_folds`.
    random_splits : bool
        Also score one random division of each task, draw 0, to show its optimism.
    workers : int, optional
        Processes; by default one for each processor.
    progress : bool
        Show bars.

    Raises
    ------
    ValueError
        If an argument is out of range, a row is unknown, or `out` holds files of another kind.
    """
    if epochs < 1 or seed < 0:
        raise ValueError(f"epochs is {epochs}, seed is {seed}: give at least 1 and at least 0")
    wanted = tuple(dict.fromkeys(budgets))
    if not wanted or any(budget is not None and budget < 1 for budget in wanted):
        raise ValueError(f"budgets is {list(budgets)}: give numbers of at least 1, or None for all")
    chosen = find_rows(FEW_SHOT_ROWS if rows is None else rows)
    made = few_shot_folds(data, regions, folds, seed, draws=draws, block_km=block_km)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(made, chosen, Settings(epochs, _STEPS, seed), wanted, draws, random_splits, folder)
    kept = read_cells(folder / _CELLS)
    count = default_workers() if workers is None else workers
    jobs = [
        _Job(row, fold, task)
        for row in range(len(chosen))
        for fold, held in enumerate(made)
        for task in range(len(held.tasks))
    ]
    digests = run.digests(jobs)
    missing = [job for job in jobs if digests[job] not in kept]
    trainings = list(dict.fromkeys((job.row, job.fold) for job in missing))
    to_train = [pair for pair in trainings if chosen[pair[0]].meta_trained]
    start = time.perf_counter()
    finished = run_jobs(run.train, to_train, workers=count)
    for _ in _bar(finished, len(to_train), "Training", progress):
        pass
    with (folder / _CELLS).open("a", encoding="utf-8") as file:
        done = run_jobs(run.score, missing, workers=count)
        for number, cells in _bar(done, len(missing), "Scoring", progress):
            digest = digests[missing[number]]
            kept[digest] = cells
            line = {"job": digest, "cells": [dataclasses.asdict(cell) for cell in cells]}
            file.write(json.dumps(line) + "\n")
            file.flush()
    result = FewShotResult(
        {row.name: row.title for row in chosen},
        tuple(cell for job in jobs for cell in kept[digests[job]]),
        {
            "seed": seed,
            "epochs": epochs,
            "draws": draws,
            "budgets": list(wanted),
            "block_km": block_km,
            "data": data.checksum,
            "versions": _versions(),
            "folds": [list(fold.regions) for fold in made],
            "left_out": {name: why for fold in made for name, why in fold.left_out.items()},
            "seconds": round(time.perf_counter() - start, 3),
        },
    )
    result.save(folder)
    return result


class _Job(NamedTuple):
    row: int
    fold: int
    task: int


@dataclass
class _Run:
    """What the jobs share; a process has its own copy."""

    folds: list[FewShotFold]
    rows: list[Row]
    settings: Settings
    budgets: tuple[int | None, ...]
    draws: int
    random_splits: bool
    folder: Path
    prepared: dict[tuple[int, int], Prepared] = field(default_factory=dict)

    def train(self, pair: tuple[int, int]) -> None:
        """Do what a row's cells of one fold share, and keep it on the disk."""
        self._prepare(*pair)

    def digests(self, jobs: Sequence[_Job]) -> dict[_Job, str]:
        """Return for each job a digest of all that its scores depend on."""
        common = {key: self._described(*key) for key in {(job.row, job.fold) for job in jobs}}
        found = {}
        for job in jobs:
            task = dataclasses.asdict(self.folds[job.fold].tasks.tasks[job.task])
            text = json.dumps([common[job.row, job.fold], task], sort_keys=True)
            found[job] = hashlib.sha256(text.encode()).hexdigest()[:16]
        return found

    def _described(self, row: int, fold: int) -> dict[str, Any]:
        held, of = self.folds[fold], self.rows[row]
        return {
            "row": of.name,
            "configuration": of.configuration(self.settings, held.training),
            "training": checksum(held.training) if of.meta_trained else None,
            "data": held.training.data.checksum,
            "split": [
                held.number,
                held.seed,
                held.block_km,
                held.distance_km,
                held.least_test,
                held.most_test,
            ],
            "budgets": self.budgets,
            "draws": [self.draws, self.random_splits],
            "versions": _versions(),
        }

    def score(self, job: _Job) -> list[FewShotCell]:
        """Adapt and score a row on one task: all divisions and budgets."""
        from threadpoolctl import threadpool_limits

        fold = self.folds[job.fold]
        divisions = [(draw, True) for draw in range(self.draws)]
        divisions += [(0, False)] if self.random_splits else []
        with threadpool_limits(1), one_thread():
            prepared = self._prepared(job.row, job.fold)
            return [
                self._cell(job, prepared, task, budget, draw, spatial)
                for draw, spatial in divisions
                for task in [fold.draw(job.task, draw, spatial)]
                for budget in task.budgets(self.budgets)
            ]

    def _cell(
        self,
        job: _Job,
        prepared: Prepared,
        task: FewShotTask,
        budget: int | None,
        draw: int,
        spatial: bool,
    ) -> FewShotCell:
        labelled = task.with_labels(budget)
        start = time.perf_counter()
        scores = evaluate(prepared.adapt(labelled, task.seed), task)
        return FewShotCell(
            row=self.rows[job.row].name,
            task=task.name,
            fold=job.fold,
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

    def _prepared(self, row: int, fold: int) -> Prepared:
        key = row, fold
        if key not in self.prepared:
            self.prepared[key] = self._prepare(row, fold)
        return self.prepared[key]

    def _prepare(self, row: int, fold: int) -> Prepared:
        folder = self.folder / f"{self.rows[row].name}-{fold}"
        return self.rows[row].prepare(self.settings, self.folds[fold].training, folder, False)


def _bar(results: Iterable[Any], total: int, title: str, progress: bool) -> Iterable[Any]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(results, title, total=total, console=console, disable=not progress or not total)


def _versions() -> dict[str, str]:
    import sklearn

    return {**versions(), "scikit-learn": str(sklearn.__version__)}
