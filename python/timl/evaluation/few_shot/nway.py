"""The N-way benchmark: tell all classes of a held-out region apart, from few labels of each."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from timl.data import BBox, LabelledData
from timl.data.tasks.crop_types import Naming
from timl.defaults import FINE_TUNING_STEPS
from timl.evaluation.class_scores import class_scores
from timl.evaluation.few_shot.benchmark import checked_settings, folds_of
from timl.evaluation.few_shot.experiment import FoldExperiment, FoldJob
from timl.evaluation.few_shot.folds import HeldOut, few_shot_folds
from timl.evaluation.few_shot.nway_result import NWayCell, NWayResult
from timl.evaluation.few_shot.nway_rows import AdaptClasses, find_nway_rows
from timl.evaluation.few_shot.nway_tasks import NWayRegion, nway_regions
from timl.evaluation.rows import Settings, describe_given
from timl.evaluation.runner import (
    CellStore,
    complete,
    digest,
    keep_same,
    provenance,
    worker_count,
)
from timl.files import output_folder
from timl.nn import Device, checked_device


def nway_benchmark(
    data: LabelledData,
    out: str | Path = "results/n-way",
    rows: Sequence[Any] | None = None,
    *,
    ways: int | Literal["all"] = "all",
    by: Naming = "label",
    epochs: int = 500,
    budgets: Sequence[int | None] = (1, 5, 10, 25, None),
    held_out: HeldOut = "country",
    draws: int = 1,
    folds: int | None = None,
    seed: int = 0,
    block_km: float = 3.0,
    regions: str | Path | Sequence[BBox] | None = None,
    scored: Sequence[str] | None = None,
    device: Device = "cpu",
    workers: int | None = None,
    progress: bool = True,
) -> NWayResult:
    """Score rows on telling the classes of held-out regions apart, on test samples apart in space.

    Folds, and what is trained on while one is held out, are those of `few_shot_folds`; cells,
    processes and resuming those of `timl.few_shot_benchmark`. A region's classes are those with 10
    samples on each side of a division in space: whole blocks go to one side, as in
    `split_in_space`.

    Parameters
    ----------
    data
        The data set.
    out
        Folder for cells.jsonl, experiment.json, n-way.csv, n-way.json, n-way.md and the trainings.
    rows
        Names of `NWAY_ROWS`; estimators in scikit-learn's manner, their classes, or "module:name",
        as of `timl.table1`; rows of your own with `several_classes`. By default all of
        `NWAY_ROWS`.
    ways
        Number of classes of a task, drawn from the region's in every division; "all": all of
        them, of regions that have three.
    by
        "label": the classes are the names of labels. "classification_label": the FAO's classes.
    epochs
        Epochs of meta-training of MAML and TIML.
    budgets
        Labels per class; None: all of the training part. Those that less than half of a task's
        classes have are left out for it; a rarer class gives all it has, at least 10.
    draws
        Divisions of each region.
    held_out, folds, seed, block_km, regions
        As of `few_shot_folds`.
    scored, device, workers, progress
        As of `timl.few_shot_benchmark`.

    Raises
    ------
    ValueError
        If an argument is out of range, a row is unknown, no region has classes that can be
        divided, or `out` holds files of another kind or a benchmark with other data or settings.
    BlockingIOError
        If another process is computing a benchmark in `out`.
    RuntimeError
        If a worker process dies. Finished cells are kept.
    """
    processes = worker_count(workers)
    wanted = checked_settings(epochs, seed, block_km, budgets)
    shared = Settings(epochs, FINE_TUNING_STEPS, seed, device=str(checked_device(device)))
    if ways != "all" and (isinstance(ways, bool) or not isinstance(ways, int) or ways < 2):
        raise ValueError(f"ways is {ways!r}: give 'all' or a number of at least 2")
    number = None if ways == "all" else ways
    chosen = find_nway_rows(rows, number)
    made = few_shot_folds(
        data, regions, folds, seed, held_out=held_out, draws=draws, block_km=block_km
    )
    regions_of_folds = [list(fold.regions) for fold in made]
    if scored is not None:
        made = folds_of(made, scored)
    held = [(fold, nway_regions(fold, number, by, draws)) for fold in made]
    held = [(fold, found) for fold, found in held if found]
    if not held:
        raise ValueError(
            f"no held-out region has {number or 'three'} classes that can be divided in space: "
            f"give other regions or fewer ways"
        )
    folder = Path(out)
    fixed = {
        "held_out": held_out,
        "ways": ways,
        "by": by,
        "epochs": epochs,
        "seed": seed,
        "budgets": list(wanted),
        "draws": draws,
        "block_km": block_km,
        **shared.on_device,
    }
    settings = {**fixed, **({} if scored is None else {"scored": list(scored)})}
    described = {**provenance(data, settings), "rows": describe_given(chosen)}
    start = time.perf_counter()
    experiment = _NWayExperiment(
        rows={row.name: row for row in chosen},
        folder=folder,
        folds=[fold for fold, _ in held],
        regions=[found for _, found in held],
        settings=shared,
        budgets=wanted,
        draws=draws,
    )
    jobs = experiment.jobs()
    with output_folder(folder):
        store = CellStore(folder / "cells.jsonl", lambda stored: NWayCell(**stored))
        keep_same(
            folder,
            {
                "kind": "n-way",
                "data": data.checksum,
                **fixed,
                "folds": digest(regions_of_folds),
                **{f"row {name}": given for name, given in described["rows"].items()},
            },
        )
        complete(experiment, jobs, store, folder, processes, progress)
        result = NWayResult(
            {row.name: row.title for row in chosen},
            tuple(cell for key in jobs for cell in store[key]),
            {
                **described,
                "folds": [
                    {
                        "regions": dict(zip(fold.regions, fold.surveys, strict=True)),
                        "classes": {
                            str(region.task.bounding_box.name): region.task.classes
                            for region in found
                        },
                        "training_tasks": len(fold.training),
                        "nearest_training_km": round(fold.nearest_training_km, 1),
                    }
                    for fold, found in held
                ],
                "workers": processes,
                "seconds": round(time.perf_counter() - start, 3),
            },
        )
        result.save(folder)
    return result


@dataclass(kw_only=True)
class _NWayExperiment(FoldExperiment[NWayCell]):
    """The benchmark; a task's number is that of its region."""

    regions: Sequence[Sequence[NWayRegion]]

    def jobs(self) -> dict[str, FoldJob]:
        """Return all jobs by a digest of all that their scores depend on."""
        found = {}
        for row in self.rows.values():
            for part, (fold, regions) in enumerate(zip(self.folds, self.regions, strict=True)):
                common = self.described(row, fold)
                for number, region in enumerate(regions):
                    task = dataclasses.asdict(region.task)
                    key = digest({**common, "task": task, "ways": region.ways})
                    found[key] = FoldJob(row.name, part, number)
        return found

    def compute(self, job: FoldJob) -> list[NWayCell]:
        """Adapt and score a row on all divisions and budgets of one region."""
        fold, region = self.folds[job.fold], self.regions[job.fold][job.task]
        name = str(region.task.bounding_box.name)
        ready = self.prepared(job)
        adapt = cast(AdaptClasses, ready.adapt)
        cells = []
        for draw in range(self.draws):
            task = region.draw(draw)
            assert task is not None  # nway_regions has tried
            truth = task.test_arrays[1]
            for budget in task.budgets(self.budgets):
                labelled = task.with_labels(budget)
                start = time.perf_counter()
                scores = class_scores(truth, adapt(labelled, task.seed), task.task.classes)
                cells.append(
                    NWayCell(
                        row=job.row,
                        task=region.task.id,
                        region=name,
                        survey=fold.surveys[fold.regions.index(name)],
                        fold=fold.number,
                        draw=draw,
                        spatial=True,
                        labels=budget,
                        classes=len(task.train),
                        macro_f1=scores.macro_f1,
                        accuracy=scores.overall_accuracy,
                        balanced_accuracy=scores.balanced_accuracy,
                        mean_iou=scores.mean_iou,
                        training_samples=sum(map(len, labelled.train)),
                        test_samples=len(truth),
                        distance_km=round(task.distance_km, 3),
                        seconds=round(time.perf_counter() - start, 4),
                        training_seconds=round(ready.seconds, 3),
                    )
                )
        return cells
