"""Task encoder: from what is known of a task to the FiLM values of its classifier."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from timl import random
from timl.nn.checks import require_finite, require_rate, require_sizes, require_tensor
from timl.parameters import counts, film_shapes
from timl.random import Index, Purpose

DrawKey = tuple[int, int, Index]
"""Seed, epoch, and number of each task: together they fix every draw of a training pass."""


def draw_noise(key: DrawKey, info_size: int) -> npt.NDArray[np.float32]:
    """Draw the Gaussian noise of task information: float32 [N, info_size], or [info_size]."""
    seed, epoch, tasks = key
    return random.normal(
        (info_size,), seed=seed, epoch=epoch, task=tasks, purpose=Purpose.TASK_NOISE
    )


class TaskEncoder(nn.Module):
    """Task encoder (TIML, section 4).

    Each block is a linear layer, GELU, group normalisation and dropout. One linear layer follows
    for all pairs of FiLM values: gamma_0 is 1 + sigmoid, beta_0 sigmoid, and gamma_l and beta_l are
    GELU of its outputs, with dropout on all of them. In training mode Gaussian noise is added to
    the task information.

    On the CPU the last bits of the matrix products, forward and backward, can depend on the number
    of threads; run both inside `timl.nn.one_thread` where they must not.

    Parameters
    ----------
    info_size
        How many numbers describe a task.
    sizes
        Number of outputs of each block, a multiple of `channels_per_group`.
    channels_per_group
        Number of channels that are normalised together.
    dropout, noise
        Dropout rate in [0, 1), and standard deviation of the noise. The attributes may be changed
        at any time.
    steps, bands, hidden, layers
        Sizes T, F, H and L of the classifier.

    Raises
    ------
    ValueError
        If a size, the rate or the noise is out of range.
    """

    def __init__(
        self,
        info_size: int = 13,
        sizes: Sequence[int] = (32, 64, 128),
        channels_per_group: int = 16,
        dropout: float = 0.2,
        noise: float = 0.1,
        steps: int = 12,
        bands: int = 18,
        hidden: int = 128,
        layers: int = 2,
    ) -> None:
        super().__init__()
        require_sizes(info_size=info_size, channels_per_group=channels_per_group)
        require_sizes(steps=steps, bands=bands, hidden=hidden, layers=layers)
        if not sizes or any(size < 1 or size % channels_per_group for size in sizes):
            raise ValueError(
                f"sizes is {list(sizes)}: give multiples of channels_per_group = "
                f"{channels_per_group}"
            )
        require_rate("dropout", dropout)
        if not 0 <= noise < math.inf:
            raise ValueError(f"noise is {noise}: give a standard deviation of at least 0")
        self.info_size, self.channels_per_group = info_size, channels_per_group
        self.sizes = tuple(sizes)
        self.dropout, self.noise = dropout, noise
        self.film_counts = counts(film_shapes(steps, bands, hidden, layers))

        inputs = [info_size, *sizes]
        self.linears = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(inputs))
        self.norms = nn.ModuleList(nn.GroupNorm(size // channels_per_group, size) for size in sizes)
        self.head = nn.Linear(inputs[-1], sum(self.film_counts))

    def forward(self, info: Tensor | npt.ArrayLike, key: DrawKey | None = None) -> Tensor:
        """Compute FiLM values.

        Parameters
        ----------
        info : tensor or array of shape [N, info_size] or [info_size]
            Task information; a tensor must have the parameters' dtype and device.
        key
            Seed, epoch and number of each task: an int64 array [N] or, for one task, an integer. In
            training mode the key alone then fixes noise and dropout; without it they are drawn from
            PyTorch's generator.

        Returns
        -------
        tensor of shape [N, Phi] or [Phi]
            FiLM values in the order of `timl.parameters.film_shapes`.

        Raises
        ------
        TypeError
            If `info` is a tensor of another dtype than the parameters.
        ValueError
            If `info` has another shape or device, is empty, or has NaN or infinite values; or if
            the key has another number of tasks.
        """
        like = self.head.weight
        if not isinstance(info, Tensor):
            info = torch.as_tensor(info, dtype=like.dtype, device=like.device)
        if info.ndim == 1:
            require_tensor("info", info, (self.info_size,), like)
        else:
            require_tensor("info", info, ("N", self.info_size), like)
        if info.numel() == 0:
            raise ValueError(f"info is empty, of shape {list(info.shape)}: give at least one task")
        require_finite("info", info)

        z = info.reshape(-1, self.info_size)  # [N, info_size]
        masks: Sequence[Tensor | None] = [None] * (len(self.linears) + 1)
        if self.training:
            noise, dropout = self._draw(z, info.shape[:-1], key)
            z = z + self.noise * noise
            if dropout is not None:
                masks = torch.split(dropout, [*self.sizes, sum(self.film_counts)], dim=1)
        for linear, norm, mask in zip(self.linears, self.norms, masks, strict=False):
            z = norm(functional.gelu(linear(z)))  # [N, channels]
            if mask is not None:
                z = z * mask
        gamma_0, beta_0, dense = torch.split(
            self.head(z), [*self.film_counts[:2], sum(self.film_counts[2:])], dim=1
        )
        film = torch.cat(
            [1 + torch.sigmoid(gamma_0), torch.sigmoid(beta_0), functional.gelu(dense)], dim=1
        )  # [N, Phi]
        if masks[-1] is not None:
            film = film * masks[-1]
        return film.reshape(*info.shape[:-1], -1)

    def _draw(
        self, info: Tensor, batch: torch.Size, key: DrawKey | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the noise [N, info_size], and the masks of all blocks and FiLM values in a row."""
        require_rate("dropout", self.dropout)
        units = sum(self.sizes) + sum(self.film_counts)
        if key is None:
            noise = torch.randn_like(info)
            if self.dropout == 0:
                return noise, None
            kept = 1 - self.dropout
            return noise, torch.bernoulli(info.new_full((len(info), units), kept)) / kept
        seed, epoch, tasks = key
        noise_array = draw_noise(key, self.info_size)
        if noise_array.shape[:-1] != batch:
            raise ValueError(
                f"key is of tasks of shape {list(noise_array.shape[:-1])}: give the number of each "
                f"task of info, shape {list(batch)}"
            )
        noise = torch.from_numpy(noise_array).to(info).reshape(info.shape)
        if self.dropout == 0:
            return noise, None
        mask_array = random.dropout_mask(
            (units,),
            self.dropout,
            seed=seed,
            epoch=epoch,
            task=tasks,
            purpose=Purpose.ENCODER_DROPOUT,
        )
        return noise, torch.from_numpy(mask_array).to(info).reshape(-1, units)

    def extra_repr(self) -> str:
        """Return the dropout rate and the noise as `print` shows them."""
        return f"dropout={self.dropout}, noise={self.noise}"
