"""Description of a training run: its options, its model's sizes and its data."""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from timl.data import NWayTaskSet, TaskSet
from timl.meta.checks import require_count, require_positive, require_rates
from timl.nn import TIML
from timl.nn.devices import device_of
from timl.version import __version__


@dataclass(frozen=True)
class Options:
    """Options that decide a run's weights, checked; `meta_train` says what they mean.

    Raises
    ------
    TypeError, ValueError
        If an option is of another kind or out of range.
    """

    epochs: int
    meta_batch: int
    k: int
    query: int
    inner_lr: float | tuple[float, ...]
    inner_steps: int
    first_order: bool
    meta_lr: float
    min_meta_lr: float
    validation: float
    forgetting_threshold: float | None
    forgetting_window: int
    best_window: int
    seed: int
    first_batch_of_one: bool
    validation_moves_statistics: bool

    def __post_init__(self) -> None:
        for name in ("epochs", "meta_batch", "k", "query", "inner_steps"):
            require_count(name, getattr(self, name))
        for name in ("forgetting_window", "best_window"):
            require_count(name, getattr(self, name))
        require_rates("inner_lr", self.inner_lr)
        require_positive("meta_lr", self.meta_lr)
        if not 0 <= self.min_meta_lr <= self.meta_lr:
            raise ValueError(
                f"min_meta_lr is {self.min_meta_lr}: give a number from 0 to meta_lr = "
                f"{self.meta_lr}"
            )
        if not 0 <= self.validation < 1:
            raise ValueError(
                f"validation is {self.validation}: give the share of validation tasks, in [0, 1)"
            )
        threshold = self.forgetting_threshold
        if threshold is not None and not 0 < threshold <= 1:
            raise ValueError(
                f"forgetting_threshold is {threshold}: give an AUC ROC in (0, 1], or None to "
                f"forget no task"
            )
        require_count("seed", self.seed, least=0)
        if self.seed >= 2**64:
            raise ValueError(f"seed is {self.seed}: give a number below 2**64")

    def learning_rate(self, epoch: int) -> float:
        """Return the outer learning rate of an epoch: a cosine from meta_lr to min_meta_lr."""
        height = (1 + math.cos(math.pi * epoch / self.epochs)) / 2
        return self.min_meta_lr + (self.meta_lr - self.min_meta_lr) * height


def describe_run(model: TIML, tasks: TaskSet | NWayTaskSet, options: Options) -> dict[str, Any]:
    """Return everything that must agree for a run to be resumed, as JSON takes it."""
    described: dict[str, Any] = asdict(options)
    described |= {f"model.{name}": value for name, value in model.configuration().items()}
    described["model.dtype"] = str(model.classifier.input_weight.dtype).removeprefix("torch.")
    device = device_of(model).type
    if device != "cpu":  # a run that another device goes on with would have the bits of neither
        described["device"] = device
    described["model.trainable"] = [n for n, p in model.named_parameters() if p.requires_grad]
    described["tasks"] = len(tasks)
    if isinstance(tasks, NWayTaskSet):
        described["ways"] = tasks.ways
    described["data"] = checksum(tasks)
    return described


def differences(first: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the values, of either, of the names at which two descriptions differ."""
    pairs = {name: (first.get(name), other.get(name)) for name in {**first, **other}}
    return {name: (one, two) for name, (one, two) in pairs.items() if one != two}


def checksum(tasks: TaskSet | NWayTaskSet) -> str:
    """Return the SHA-256 of the tasks and of their samples' normalised series."""
    digest = hashlib.sha256()
    for index, number in enumerate(tasks.numbers):
        task, samples = tasks[index], tasks.samples(index)
        sizes = " ".join(str(len(positions)) for positions in samples)
        digest.update(f"{task.id} {number} {sizes}\n".encode())
        digest.update(task.info.astype("<f4").tobytes())
        for positions in samples:
            digest.update(positions.astype("<i8").tobytes())
    used = np.unique(np.concatenate([s for i in range(len(tasks)) for s in tasks.samples(i)]))
    for chunk in np.array_split(used, len(used) // 4096 + 1):
        digest.update(tasks.data.series(chunk).astype("<f4", copy=False).tobytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of timl, PyTorch, NumPy and Python."""
    return {
        "timl": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
