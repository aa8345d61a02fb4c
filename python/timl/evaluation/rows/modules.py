"""Rows of networks that others bring, trained as the temporal CNN."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from timl.baselines import NetworkClassifier
from timl.data import BenchmarkTask, TaskSet
from timl.evaluation.rows.given import imported
from timl.evaluation.rows.row import GivenRow, Prepared, Settings


@dataclass(frozen=True, kw_only=True)
class ModuleRow(GivenRow):
    """A network that is trained on the labels of the benchmark, from new weights in every run.

    `timl.baselines.NetworkClassifier` trains it: Adam, the mean of the cross-entropy, on one
    thread of the CPU.
    """

    module: Any
    """A function that makes a `torch.nn.Module`, or a class of modules that takes no arguments, or
    "module:name" of one. The network takes normalised series, float32 [n, 12, 18], and returns
    logits [n] or [n, 1]."""
    epochs: int = 50
    """Epochs of training."""
    batch: int = 64
    """Series in a batch."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""

    def __post_init__(self) -> None:
        make = self.module
        if isinstance(make, str):
            make = imported(self.name, "module", make)
            object.__setattr__(self, "module", make)
        if isinstance(make, nn.Module) or not callable(make):
            raise ValueError(
                f"row {self.name!r}: module is a {type(make).__name__}: give its class, or a "
                f"function that makes a new network for every run"
            )
        if self.epochs < 1 or self.batch < 2 or not self.learning_rate > 0:
            raise ValueError(
                f"row {self.name!r}: epochs is {self.epochs}, batch is {self.batch}, learning_rate "
                f"is {self.learning_rate}: give at least 1, at least 2, and a number above 0"
            )

    @property
    def given(self) -> Any:
        """The factory."""
        return self.module

    def prepare(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> Prepared:
        """Prepare nothing."""

        def adapt(benchmark: BenchmarkTask, seed: int) -> NDArray[np.float64]:
            x, y = benchmark.train_arrays()
            classifier = NetworkClassifier(
                self.module,
                seed,
                epochs=self.epochs,
                batch=self.batch,
                learning_rate=self.learning_rate,
            )
            return classifier.fit(x, y).predict_proba(benchmark.test.x)

        return Prepared(adapt)
