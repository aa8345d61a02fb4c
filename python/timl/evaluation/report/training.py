"""Sections of the report on meta-training: learning, forgetting, embedding, hardest tasks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from timl.evaluation.plotting import SMOOTHING_WINDOW, smoothed
from timl.evaluation.report import drawings
from timl.evaluation.report.document import Picture, Section, Table, Text
from timl.evaluation.report.drawings import Line, Point
from timl.evaluation.report.inputs import ReportInputs, TaskRecord, TrainingRecord, place

_HARDEST, _FORGOTTEN = 15, 30
"""Lengths of the lists."""
_NONE = "no row of this table was meta-trained."


def learning(inputs: ReportInputs) -> Section:
    """Draw losses and AUC ROC of training and validation tasks by epoch."""
    section = Section("learning", "Learning curves")
    if not inputs.trainings:
        section.absent = _NONE
        return section
    measures: tuple[tuple[str, str, Callable[[TaskRecord], NDArray[np.float64]]], ...] = (
        ("loss", "cross entropy", lambda task: task.loss),
        ("auc", "AUC ROC", lambda task: task.auc),
    )
    for name, label, values in measures:
        for validates, kind in ((True, "validation"), (False, "training")):
            series = {
                training.title: line
                for training in inputs.trainings.values()
                if (
                    line := _smooth([values(t) for t in training.tasks if t.validates == validates])
                )
            }
            if not series:
                continue
            subject = f"{label[0].upper()}{label[1:]} of the {kind} tasks"
            last = "; ".join(f"{title} {line.y[-1]:.3f}" for title, line in series.items())
            section.blocks.append(
                Picture(
                    f"report-{kind}-{name}",
                    drawings.lines(series, "epoch", label, inputs.styles),
                    f"{subject} by epoch. At the end: {last}.",
                    f"{subject} after adaptation, mean over tasks and {SMOOTHING_WINDOW} epochs."
                    + (
                        " Forgotten tasks no longer count: what remains is harder."
                        if not validates
                        else ""
                    ),
                )
            )
    best = ", ".join(
        f"{training.title} {training.best_epoch + 1} of {training.epochs}"
        for training in inputs.trainings.values()
    )
    section.blocks.append(Text(f"Weights are those of the best epoch by validation loss: {best}."))
    return section


def forgetting(inputs: ReportInputs) -> Section:
    """Show which tasks were forgotten, when, of which crops and where."""
    section = Section("forgetting", "Forgetting over time")
    forgetful = {row: training for row, training in inputs.trainings.items() if training.forgotten}
    if not forgetful:
        section.absent = (
            "no task was forgotten in any meta-training of this table."
            if inputs.trainings
            else _NONE
        )
        return section
    remaining = {training.title: _remaining(training) for training in forgetful.values()}
    counts = "; ".join(
        f"{training.title} forgot {len(training.forgotten)} of {len(training.trained)}"
        for training in forgetful.values()
    )
    section.blocks.append(
        Picture(
            "report-remaining",
            drawings.lines(remaining, "epoch", "tasks still trained on", inputs.styles, steps=True),
            f"Number of tasks still trained on by epoch. {counts}.",
            "Tasks still trained on. A task is forgotten once it is learned: its AUC ROC, "
            f"averaged over {SMOOTHING_WINDOW} epochs, has reached the threshold.",
        )
    )
    section.blocks += _forgetting_of(
        inputs, next((c for row, c in forgetful.items() if row == "timl"), None)
        or next(iter(forgetful.values()))
    )  # fmt: skip
    return section


def _forgetting_of(inputs: ReportInputs, training: TrainingRecord) -> list[Text | Table | Picture]:
    """Show one meta-training's by class, on the map, and as lists."""
    kinds = sorted({inputs.kind(task.id) for task in training.trained})
    by_kind = {
        kind: [task for task in training.trained if inputs.kind(task.id) == kind] for kind in kinds
    }
    times = {
        kind: [float(t.forgotten + 1) for t in tasks if t.forgotten is not None]
        for kind, tasks in by_kind.items()
    }
    points = [
        Point(box.centre[1], box.centre[0], inputs.kind(task.id), _after(task.forgotten))
        for task in training.trained
        if (box := inputs.box(task.id)) is not None
    ]
    said = "; ".join(f"{kind} {len(times[kind])} of {len(by_kind[kind])}" for kind in kinds)
    spread = _spread(points)
    first = training.forgotten
    more = len(first) - _FORGOTTEN
    return [
        Picture(
            "report-forgotten-classes",
            drawings.events(times, "epoch", float(training.epochs)),
            f"When {training.title} forgot the tasks of each class. Forgotten: {said}.",
            f"{training.title}: the epochs after which tasks were forgotten, by class of crops.",
        ),
        Picture(
            "report-forgotten-map",
            drawings.values(spread, "epoch of forgetting", inputs.places),
            f"Map of the {len(training.trained)} training tasks of {training.title}; "
            f"{len(first)} forgotten ones are coloured by epoch, the others hollow. The table "
            f"below lists places.",
            f"{training.title}: where tasks were forgotten, and when (yellow is late); hollow "
            f"squares were kept. Tasks of one region stand in a ring; grey dots are labels, the "
            f"line is the coast (Natural Earth).",
        ),
        Table(
            f"{training.title}: forgotten tasks by class of crops",
            ["class", "tasks", "forgotten", "median epoch"],
            [
                [
                    kind.replace("_", " "),
                    str(len(by_kind[kind])),
                    str(len(times[kind])),
                    f"{np.median(times[kind]):.0f}" if times[kind] else "none",
                ]
                for kind in kinds
            ],
        ),
        Table(
            f"{training.title}: forgotten tasks, the first ones first"
            + (f" ({more} more are in history.json)" if more > 0 else ""),
            ["task", "class", "centre of the region", "epoch", "AUC ROC then"],
            [
                [
                    task.id,
                    inputs.kind(task.id).replace("_", " "),
                    place(inputs.box(task.id)),
                    str(_after(task.forgotten)),
                    f"{task.final_auc:.3f}",
                ]
                for task in first[:_FORGOTTEN]
            ],
        ),
    ]


def embedding(inputs: ReportInputs) -> Section:
    """Draw what the task encoder makes of each task, in two dimensions, beside the map."""
    section = Section("embedding", "Task embedding")
    found = _film(inputs)
    if found is None or inputs.tasks is None:
        section.absent = "no row of this table has a task encoder."
        return section
    title, film = found
    tasks = list(inputs.tasks)
    benchmarks = inputs.data.benchmarks
    # principal components of the tasks; the evaluation tasks are projected onto them
    centred = film - film[: len(tasks)].mean(axis=0)
    _, lengths, axes = np.linalg.svd(centred[: len(tasks)], full_matrices=False)
    shares = np.zeros(2)
    planar = np.zeros((len(film), 2))
    count = min(2, len(lengths))
    planar[:, :count] = centred @ axes[:count].T
    if lengths.any():
        shares[:count] = lengths[:count] ** 2 / (lengths**2).sum()
    kinds = [str(task.classification_label) for task in tasks]
    own = [Point(x, y, kind) for (x, y), kind in zip(planar, kinds, strict=False)]
    centres = [(task.bounding_box.centre[1], task.bounding_box.centre[0]) for task in tasks]
    there = _spread(
        [Point(lon, lat, kind) for (lon, lat), kind in zip(centres, kinds, strict=True)]
    )
    places = [benchmark.task.bounding_box.centre for benchmark in benchmarks]
    section.blocks += [
        Picture(
            "report-embedding",
            drawings.classes(
                own,
                [(x, y) for x, y in planar[len(tasks) :]],
                f"first component ({shares[0]:.0%})",
                f"second component ({shares[1]:.0%})",
            ),
            f"The FiLM values of {len(tasks)} tasks in their first two principal components, which "
            f"have {shares.sum():.0%} of the variance, by class of crops.",
            f"{title}: the encoder's output for each task, principal components with their shares "
            f"of the variance. Tasks that are close are modulated alike. Stars are the evaluation "
            f"tasks, which were not trained on.",
        ),
        Picture(
            "report-tasks-map",
            drawings.classes(
                there,
                [(lon, lat) for lat, lon in places],
                "longitude",
                "latitude",
                inputs.places,
            ),
            f"Map of the same {len(tasks)} tasks by class of crops, and {len(benchmarks)} "
            f"evaluation tasks.",
            "The same tasks on the map, with the same colours and markers. Tasks of one region "
            "stand in a ring; grey dots are labels, the line is the coast (Natural Earth).",
        ),
    ]
    return section


def hardest_tasks(inputs: ReportInputs) -> Section:
    """List the tasks with the lowest final AUC ROC, by their mean over the meta-trainings."""
    section = Section("hardest", "Hardest tasks")
    if not inputs.trainings:
        section.absent = _NONE
        return section
    trainings = list(inputs.trainings.values())
    final = [{task.id: task for task in training.tasks} for training in trainings]
    means = {}
    for name in dict.fromkeys(task.id for training in trainings for task in training.tasks):
        known = [known[name].final_auc for known in final if name in known]
        if np.isfinite(known).any():
            means[name] = float(np.nanmean(known))
    lowest = sorted(means, key=lambda name: (means[name], name))[:_HARDEST]
    section.blocks.append(
        Table(
            f"The {len(lowest)} tasks with the lowest AUC ROC on their query sets after "
            f"adaptation, mean of the last {SMOOTHING_WINDOW} epochs that each had (v: a "
            f"validation task)",
            ["task", "class", "centre of the region", *(c.title for c in trainings), "mean"],
            [
                [
                    name,
                    inputs.kind(name).replace("_", " "),
                    place(inputs.box(name)),
                    *(
                        f"{known[name].final_auc:.3f}{' v' if known[name].validates else ''}"
                        if name in known
                        else ""
                        for known in final
                    ),
                    f"{means[name]:.3f}",
                ]
                for name in lowest
            ],
        )
    )
    return section


def _smooth(values: list[NDArray[np.float64]]) -> Line | None:
    """Average over the tasks that an epoch has, then over a window of epochs."""
    if not values:
        return None
    stacked = np.stack(values)  # [N, E]
    known = np.isfinite(stacked)
    epochs = np.flatnonzero(known.any(axis=0))
    if not len(epochs):
        return None
    mean = np.where(known, stacked, 0).sum(axis=0)[epochs] / known.sum(axis=0)[epochs]
    smooth = smoothed(mean)
    return Line(list(epochs[-len(smooth) :] + 1), list(smooth))


def _remaining(training: TrainingRecord) -> Line:
    count = len(training.trained)
    x, y = [0.0], [float(count)]
    for number, task in enumerate(training.forgotten, start=1):
        assert task.forgotten is not None
        x.append(task.forgotten + 1.0)
        y.append(float(count - number))
    return Line([*x, float(training.epochs)], [*y, y[-1]])


def _after(epoch: int | None) -> int | None:
    """Count epochs from 1, as people do."""
    return None if epoch is None else epoch + 1


def _film(inputs: ReportInputs) -> tuple[str, NDArray[np.float64]] | None:
    """Return FiLM values of all tasks, then of the benchmarks, of the first row with an encoder.

    Float64 [tasks + benchmarks, Phi].
    """
    import torch

    from timl.nn import TIML

    if inputs.tasks is None:
        return None
    rows = sorted(inputs.trainings, key=lambda row: row != "timl")
    for row in rows:
        folder = inputs.folder / row
        if not (folder / "config.json").is_file():
            continue
        encoder = TIML.from_pretrained(folder).encoder
        if encoder is None:
            continue
        info = np.concatenate(
            [inputs.tasks.info, [benchmark.info for benchmark in inputs.data.benchmarks]]
        )
        with torch.no_grad():
            film = encoder(info)
        return inputs.result.titles[row], film.double().numpy()
    return None


def _spread(points: list[Point]) -> list[Point]:
    """Move points of one place apart, onto a ring whose size is that of the map."""
    if not points:
        return points
    size = max(np.ptp([point.x for point in points]), np.ptp([point.y for point in points]), 1.0)
    together: dict[tuple[float, float], list[int]] = {}
    for i, point in enumerate(points):
        together.setdefault((point.x, point.y), []).append(i)
    moved = list(points)
    for group in together.values():
        for number, i in enumerate(group if len(group) > 1 else []):
            angle = 2 * np.pi * number / len(group)
            x = points[i].x + 0.018 * size * np.cos(angle)
            moved[i] = points[i]._replace(x=x, y=points[i].y + 0.018 * size * np.sin(angle))
    return moved
