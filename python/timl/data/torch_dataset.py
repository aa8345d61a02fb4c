"""A task's samples as a data set of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from timl.data.cropharvest_interface import Familiar


class TaskDataset(Dataset[dict[str, Tensor]]):
    """The training samples of a data set's task: see `CropHarvest.as_torch_dataset`."""

    def __init__(
        self, data: Familiar, transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    ) -> None:
        self.data = data
        self.transforms = transforms

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        series, label = self.data[index]
        sample = {"array": torch.tensor(series), "label": torch.tensor(label)}
        return sample if self.transforms is None else self.transforms(sample)
