"""Changes of a batch's descriptions in training: other seasons, blank bands, noise and dropout."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timl import random
from timl.bands import BANDS
from timl.crop_classes import CLASSES
from timl.meta.strong.constants import (
    BLANKED,
    DROPOUT,
    MOST_BANDS,
    MOST_MONTHS,
    NAME_DROPPED,
    NOISE,
    NOISE_TABLE,
    SHIFTED,
    WIDTH,
)
from timl.nn import DeepKernel
from timl.nn.strong.description import description_columns
from timl.random import Purpose
from timl.reference.strong import MOST_DEVIATIONS


class _Choices(NamedTuple):
    """Uniform numbers in [0, 1) by which the series of a task are changed."""

    name: float
    shifted: float
    earlier: float
    blanked: float
    bands: float
    amount: float
    noise: float


class Augmentation:
    """Changes of the inputs of one network's training: those of a task's series are alike.

    Parameters
    ----------
    kernel
        Deep kernel that standardises the descriptions.
    seed, network
        Seed and network of the draws.
    """

    def __init__(self, kernel: DeepKernel, seed: int, network: int) -> None:
        self._mean, self._scale = kernel.mean, kernel.scale
        self._steps, self._seed, self._network = kernel.steps, seed, network
        self._columns = description_columns(kernel.steps)
        self._rolled = {by: torch.from_numpy(self._roll(by)) for by in (-1, 1)}
        drawn = random.normal(
            (NOISE_TABLE,), seed=seed, epoch=network, purpose=Purpose.KERNEL_NOISE
        )
        self._noise = NOISE * torch.from_numpy(drawn)

    def __call__(self, x: Tensor, task: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Change a batch in a step of training.

        Parameters
        ----------
        x : float32 tensor of shape [B, n, D]
            Standardised descriptions.
        task : float32 tensor of shape [B, O]
            Numbers that describe the tasks.
        step
            Number of the step.

        Returns
        -------
        x : float32 tensor of shape [B, n, D]
        task : float32 tensor of shape [B, O]
        mask : float32 tensor of shape [B, n, W]
            Dropout mask of the hidden units.
        """
        batch = np.arange(len(x))
        drawn = random.uniform(
            (len(_Choices._fields),),
            seed=self._seed,
            task=batch,
            epoch=self._network,
            step=step,
            purpose=Purpose.KERNEL_AUGMENTATION,
        )
        choices = [_Choices(*numbers) for numbers in drawn.tolist()]
        kept = random.dropout_mask(
            x.shape[2:],
            DROPOUT,
            seed=self._seed,
            task=batch,
            epoch=self._network,
            step=step,
            purpose=Purpose.KERNEL_INPUT_DROPOUT,
        )
        for number, chosen in enumerate(choices):
            if chosen.blanked < BLANKED:
                kept[number, self._blank(chosen, number, step)] = 0
        shifted = torch.stack([self._shift(x[i], chosen) for i, chosen in enumerate(choices)])
        hidden = random.dropout_mask(
            (x.shape[1], WIDTH),
            DROPOUT,
            seed=self._seed,
            task=batch,
            epoch=self._network,
            step=step,
            purpose=Purpose.KERNEL_HIDDEN_DROPOUT,
        )
        told = torch.tensor([chosen.name >= NAME_DROPPED for chosen in choices])
        task = task.clone()
        task[:, len(CLASSES) :] *= told.unsqueeze(1)
        changed = (shifted + self._table_noise(x, choices[0])) * torch.from_numpy(kept).unsqueeze(1)
        return changed, task, torch.from_numpy(hidden)

    def _shift(self, x: Tensor, chosen: _Choices) -> Tensor:
        """Return the descriptions [n, D] of series a month earlier or later, or as they are."""
        if chosen.shifted >= SHIFTED:
            return x
        columns = self._rolled[-1 if chosen.earlier < 0.5 else 1]
        moved = x[:, columns] * self._scale[columns] + self._mean[columns]
        return ((moved - self._mean) / self._scale).clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS)

    def _table_noise(self, x: Tensor, chosen: _Choices) -> Tensor:
        """Return noise for a batch, a part of the table: drawing it anew would take longest."""
        start = int(chosen.noise * (len(self._noise) - x.numel()))
        return self._noise[start : start + x.numel()].view(x.shape)

    def _blank(self, chosen: _Choices, number: int, step: int) -> NDArray[np.bool_]:
        """Return which columns of a task are blank, [D]: some bands and indices, or some months."""
        origin, options, most = self._columns.month, self._steps, MOST_MONTHS
        if chosen.bands < 0.5:
            origin, options, most = (
                self._columns.band,
                int(self._columns.band.max()) + 1,
                MOST_BANDS,
            )
        order = random.permutation(
            options,
            seed=self._seed,
            task=number,
            epoch=self._network,
            step=step,
            purpose=Purpose.KERNEL_BLANKS,
        )
        return np.isin(origin, order[: 1 + int(chosen.amount * most)])

    def _roll(self, by: int) -> NDArray[np.int64]:
        """Return the columns that describe series rolled by so many steps, int64 [D].

        The statistics of the year stay: only the change from the last to the first step differs.
        """
        columns = np.arange(len(self._columns.month))
        for part in (self._columns.band < len(BANDS), self._columns.band >= len(BANDS)):
            monthly = part & (self._columns.month >= 0)
            own = columns[monthly].reshape(self._steps, -1)
            columns[monthly] = np.roll(own, by, axis=0).ravel()
        return columns
