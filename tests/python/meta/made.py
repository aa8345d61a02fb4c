"""A made data set of a few tasks and a small model, for meta-training and fine-tuning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from timl.data import BBox, Task, TaskSet
from timl.nn import TIML

SAMPLES = 24
"""Of each class and task."""


class MadeData:
    """Stands in for CropHarvest: in the first regions crops are easy to tell, elsewhere not."""

    def __init__(self, regions: int, easy: int) -> None:
        rng = np.random.default_rng(0)
        rows = []
        self.mean, self.std, self.ndvi = np.arange(18.0), np.ones(18), "true"
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

    def series(self, positions: Any, normalize: bool = True) -> np.ndarray:
        return self.x[np.asarray(positions)]


def made_task(region: int) -> Task:
    return Task(BBox(region, region + 1.0, 0.0, 1.0, f"region {region}"))


def made_tasks(regions: int = 7, easy: int = 0) -> TaskSet:
    data: Any = MadeData(regions, easy)
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
    return TIML(**{"hidden": 16, "encoder_sizes": (16, 32)} | arguments)


def state_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(t, other[n]) for n, t in one.items())
