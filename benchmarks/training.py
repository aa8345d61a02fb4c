"""Times an epoch of meta-training against its meta-steps alone, and fine-tuning, on real tasks.

Run `python benchmarks/training.py --help`; README.md in this folder says how to read the output.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import timl
import torch
from common import (
    Report,
    Timing,
    benchmark_options,
    machine,
    report_each_thread_count,
    table,
    time_in_rounds,
)
from peers.unrolled import UnrolledClassifier
from timl.data import BenchmarkTask
from timl.nn import Classifier, operators
from timl.reference import mean_loss
from torch import Tensor

STEPS, K, LEARNING_RATE = 250, 10, 1e-3  # fine-tuning, as the paper
TOLERANCE = 1e-3  # of what fine-tuning changes, float32 against float32


@dataclass
class Engine:
    """Seconds that the engine spent within meta-steps, by what they were for."""

    training: float = 0.0
    validation: float = 0.0


@dataclass(frozen=True)
class TrainingReport(Report):
    """What one process measured."""

    tasks: int
    epochs: int
    seconds: float
    """Seconds from calling meta_train to its return."""
    epoch_seconds: list[float]
    """Seconds as meta_train counts them itself."""
    engine: Engine
    finetuning: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of every repeat, by who did it."""
    finetuning_error: float = 0.0


# --- meta-training ------------------------------------------------------------------------------


@contextmanager
def engine_watched() -> Iterator[Engine]:
    """Add up the seconds that meta-steps spend in the engine's operator."""
    watched = Engine()
    operator = operators.meta_gradient

    def timed(*args: Any, order: int, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = operator(*args, order=order, **kwargs)
        spent = time.perf_counter() - start
        if order == 0:
            watched.validation += spent
        else:
            watched.training += spent
        return result

    with mock.patch.object(operators, "meta_gradient", timed):
        yield watched


def train(data: timl.CropHarvest, epochs: int, threads: int) -> TrainingReport:
    """Meta-train with the default options, into a folder, with checkpoints."""
    tasks = timl.meta_tasks(data)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as warm:  # pages the data in, starts the threads
        timl.meta_train(timl.TIML(), tasks, epochs=1, kernel_steps=0, out=warm, progress=False)
    model = timl.TIML()
    with tempfile.TemporaryDirectory() as out, engine_watched() as engine:
        start = time.perf_counter()
        history = timl.meta_train(
            model,
            tasks,
            epochs=epochs,
            forgetting_threshold=None,
            kernel_steps=0,
            out=out,
            progress=False,
        )
        seconds = time.perf_counter() - start
    return TrainingReport(
        threads,
        machine(),
        len(tasks),
        epochs,
        seconds,
        [float(s) for s in history.seconds[:epochs]],
        engine,
    )


# --- fine-tuning --------------------------------------------------------------------------------


def unrolled_finetuning(start: Classifier, task: BenchmarkTask, steps: int) -> UnrolledClassifier:
    """Fine-tune the unrolled classifier as `timl.finetune` does, without dropout."""
    model = UnrolledClassifier(start.bands, start.hidden, start.layers)
    model.load_flat(start.flat_weights().detach())
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    for step in range(steps):
        x, y = (torch.as_tensor(part, dtype=torch.float32) for part in task.sample(K, 0, step))
        optimizer.zero_grad()
        mean_loss(model(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model


def finetuning(data: timl.CropHarvest, repeats: int) -> tuple[dict[str, list[float]], float]:
    """Check and time fine-tuning on the data's first benchmark task that has k of each label."""
    task = next(
        task for task in data.benchmarks if min(len(task.positives), len(task.negatives)) >= K
    )
    torch.manual_seed(0)
    start = Classifier(dropout=0.0)
    error = finetuning_error(start, task, steps=10)
    calls: dict[str, Callable[[], object]] = {
        "timl.finetune": partial(timl.finetune, start, task, steps=STEPS, k=K),
        "unrolled, a layer per gate": partial(unrolled_finetuning, start, task, STEPS),
    }
    timings = time_in_rounds(calls, repeats)
    return {name: timing.seconds for name, timing in timings.items()}, error


def finetuning_error(start: Classifier, task: BenchmarkTask, steps: int) -> float:
    """Return how far timl's change of the weights is from the unrolled classifier's."""
    before = start.flat_weights().detach()
    ours = timl.finetune(start, task, steps=steps, k=K, learning_rate=LEARNING_RATE)
    change = ours.flat_weights().detach() - before
    twin = unrolled_finetuning(start, task, steps)
    wanted: Tensor = twin.flat() - before
    error = float((change - wanted).norm() / wanted.norm())
    if not error <= TOLERANCE:
        raise SystemExit(
            f"timl.finetune is wrong: relative error {error:.1e} of the weights' change"
        )
    return error


# --- the report ---------------------------------------------------------------------------------


def measure(folder: Path, epochs: int, repeats: int, threads: int) -> TrainingReport:
    """Time everything in this process."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as cache:
        data = timl.CropHarvest(folder, cache=cache)
        report = train(data, epochs, threads)
        seconds, error = finetuning(data, repeats)
        return TrainingReport(**{**vars(report), "finetuning": seconds, "finetuning_error": error})


def show(report: TrainingReport) -> str:
    """Lay out what one process measured."""
    alone = report.engine.training / report.epochs
    cells = [
        [name, f"{1e3 * seconds:.1f}", f"{seconds / alone:.3f}"]
        for name, seconds in (
            ("meta-steps alone (the engine)", alone),
            ("validation in the engine", report.engine.validation / report.epochs),
            ("epoch", sum(report.epoch_seconds) / report.epochs),
            (
                "meta_train's whole time, checkpoints included, per epoch",
                report.seconds / report.epochs,
            ),
        )
    ]
    lines = [
        *report.heading(),
        f"{report.tasks} tasks, a tenth of them for validation, {report.epochs} epochs",
        "",
        table(["meta-training", "ms per epoch", "of the meta-steps"], cells),
        "",
        f"Checked: timl's change of the weights is within {report.finetuning_error:.0e} of the "
        f"unrolled classifier's.",
        "",
    ]
    ours = Timing(report.finetuning["timl.finetune"]).median
    cells = []
    for name, seconds in report.finetuning.items():
        timing = Timing(seconds)
        low, high = timing.quartiles
        cells.append(
            [
                name,
                f"{timing.median:.3f}",
                f"{low:.3f} to {high:.3f}",
                f"{timing.median / ours:.1f}",
            ]
        )
    headers = [f"fine-tuning, {STEPS} steps of {K} + {K}", "s", "quartiles", "times timl"]
    return "\n".join([*lines, table(headers, cells)])


def main() -> None:
    parser = benchmark_options(__doc__, repeats=10, repeated="of fine-tuning")
    found = os.environ.get("TIML_SHARED_DATA")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(found) / "realcrops" if found else None,
        help="folder in CropHarvest's layout; by default realcrops in TIML_SHARED_DATA",
    )
    parser.add_argument("--epochs", type=int, default=40)
    given = parser.parse_args()
    if given.data is None:
        parser.error("give --data, or set TIML_SHARED_DATA")
    measured = partial(measure, given.data, given.epochs, given.repeats)
    report_each_thread_count(given, measured, show)


if __name__ == "__main__":
    main()
