"""Rows of the strong protocol: with all that is learned elsewhere, part of it, or nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from timl.data import BenchmarkTask, TaskSet
from timl.defaults import KERNEL_STEPS
from timl.evaluation.rows.row import Prepared, Row, Settings, TaskLearningRow
from timl.files import read_json
from timl.meta import finetune, learn_deep_kernel, learn_metric_kernel, unlearned_kernel
from timl.meta.strong.constants import constants
from timl.meta.strong.learning import RECORD
from timl.nn import Classifier, DeepKernel, StrongClassifier
from timl.normalization import normalization_of


@dataclass(frozen=True, kw_only=True)
class StrongRow(TaskLearningRow):
    """The strong protocol with a deep kernel of the meta-training tasks, and no other network."""

    learned: str = "networks"
    """What is learned elsewhere: "networks", the "metric" alone, or "nothing"."""
    kernel_steps: int = KERNEL_STEPS
    """Steps of learning each of the networks."""

    def __post_init__(self) -> None:
        if self.learned not in _KERNELS:
            raise ValueError(
                f"row {self.name!r}: learned is {self.learned!r}: choose of {', '.join(_KERNELS)}"
            )

    @property
    def zero_shot(self) -> bool:
        """Whether the row can be scored without labels."""
        return False

    def training_steps(self, settings: Settings) -> int:
        """Return the steps of learning each network; 0 where none is learned."""
        return self.kernel_steps if self.learned == "networks" else 0

    def with_training_steps(self, settings: Settings, steps: int) -> tuple[Row, Settings]:
        """Return the row with so many steps, and the settings."""
        return dataclasses.replace(self, kernel_steps=steps), settings

    def configuration(self, settings: Settings, tasks: TaskSet | None) -> dict[str, Any]:
        """Return the row, the seed, the tasks and all constants of the protocol."""
        return {
            **super().configuration(settings, tasks),
            "constants": constants(),
            **settings.on_device,
        }

    def prepare(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> Prepared:
        """Learn the deep kernel, or read it."""
        kernel, seconds = self.kernel(settings, tasks, folder, progress)

        def adapt(benchmark: BenchmarkTask, seed: int) -> Classifier | StrongClassifier:
            return finetune(kernel, benchmark, seed=seed, device=settings.device)

        return Prepared(adapt, seconds)

    def kernel(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> tuple[DeepKernel, float]:
        """Learn the deep kernel, or read it; return it and the seconds that learning took."""
        assert tasks is not None
        kernel = _KERNELS[self.learned](tasks, self.kernel_steps, settings.seed, folder, progress)
        if kernel is None:
            raise ValueError(
                f"row {self.name!r}: no region of the meta-training has two labels of 5 samples: "
                f"give more regions"
            )
        record, seconds = folder / RECORD, 0.0
        if self.learned == "networks":
            seconds = float(read_json(record, "remove it to learn anew")["seconds"])
        return kernel, seconds


def _networks(
    tasks: TaskSet, steps: int, seed: int, folder: Path, progress: bool
) -> DeepKernel | None:
    return learn_deep_kernel(tasks, steps=steps, seed=seed, out=folder, progress=progress)


def _metric(
    tasks: TaskSet, steps: int, seed: int, folder: Path, progress: bool
) -> DeepKernel | None:
    return learn_metric_kernel(tasks)


def _nothing(
    tasks: TaskSet, steps: int, seed: int, folder: Path, progress: bool
) -> DeepKernel | None:
    """Return plain distances, each number standardised on the meta-training's series."""
    used = np.unique(np.concatenate([*tasks.positives, *tasks.negatives]))
    return unlearned_kernel(tasks.data.series(used), normalization_of(tasks.data))


_KERNELS: dict[str, Callable[[TaskSet, int, int, Path, bool], DeepKernel | None]] = {
    "networks": _networks,
    "metric": _metric,
    "nothing": _nothing,
}
