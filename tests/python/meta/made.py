"""A made data set of a few tasks and a small model, for meta-training and fine-tuning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from timl.data import BBox, BenchmarkTask, LabelledData, Task, TaskSet, TestInstance
from timl.nn import TIML

SAMPLES = 24
"""Of each class and task."""


class MadeData:
    """A labelled data set: in the first regions crops are easy to tell, elsewhere not."""

    regions: None = None
    benchmarks: tuple[BenchmarkTask, ...] = ()
    ndvi = "true"

    def __init__(self, regions: int, easy: int) -> None:
        rng = np.random.default_rng(0)
        rows = []
        self.mean, self.std = np.arange(18.0), np.ones(18)
        self.x = rng.normal(size=(regions * 2 * SAMPLES, 12, 18)).astype(np.float32)
        for position in range(len(self.x)):
            region, is_crop = position // (2 * SAMPLES), position % 2
            if region < easy:
                self.x[position] += 4 * is_crop - 2
            rows.append(
                {
                    "lat": region + 0.5,
                    "lon": 0.5,
                    "is_crop": is_crop,
                    "label": None,
                    "classification_label": None,
                    "is_test": 0,
                    "position": position,
                }
            )
        self.labels = pd.DataFrame(rows)
        self.checksum = f"{regions} regions, {easy} easy"

    def __len__(self) -> int:
        return len(self.x)

    def series(self, positions: ArrayLike, normalize: bool = True) -> NDArray[np.float32]:
        """The series, normalised; as measured they are mean + std * these."""
        x: NDArray[np.float32] = self.x[np.asarray(positions)]
        return x if normalize else (x * self.std + self.mean).astype(np.float32)

    def test_instance(self, identifier: str, normalize: bool = True) -> TestInstance:
        raise FileNotFoundError(f"there is no test set {identifier}")


def made_task(region: int) -> Task:
    return Task(BBox(region, region + 1.0, 0.0, 1.0, f"region {region}"))


def made_tasks(regions: int = 7, easy: int = 0) -> TaskSet:
    data: LabelledData = MadeData(regions, easy)
    position = np.arange(2 * SAMPLES * regions).reshape(regions, SAMPLES, 2)
    return TaskSet(
        data,
        tuple(made_task(region) for region in range(regions)),
        tuple(position[..., 1]),
        tuple(position[..., 0]),
        np.arange(regions),
    )


def small_model(**arguments: Any) -> TIML:
    torch.manual_seed(0)
    small: dict[str, Any] = {"hidden": 16, "encoder_sizes": (16, 32)}
    return TIML(**small | arguments)


def state_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(t, other[n]) for n, t in one.items())
