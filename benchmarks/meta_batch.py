"""The work that is timed: its sizes, its cost in floating-point operations and its numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from timl import parameters
from torch import Tensor


@dataclass(frozen=True)
class Sizes:
    """Sizes of one meta-step; the defaults are the paper's."""

    tasks: int = 32
    inner_steps: int = 1
    support: int = 20
    query: int = 8
    steps: int = 12
    bands: int = 18
    hidden: int = 128
    layers: int = 2
    order: int = 2

    @property
    def forward_flops(self) -> int:
        """Floating-point operations of the LSTM's products for one series, forward."""
        return 2 * self.steps * (self.bands + self.hidden) * 4 * self.hidden

    @property
    def task_flops(self) -> int:
        """Operations of one task: a gradient is three forward passes, its tangent six more."""
        per_support_series = 9 if self.order == 2 else 3
        passes = self.inner_steps * self.support * per_support_series + 3 * self.query
        return passes * self.forward_flops


@dataclass(frozen=True)
class MetaBatch:
    """The numbers of one meta-step, as `timl.nn.operators.meta_gradient` takes them."""

    sizes: Sizes
    support_x: Tensor
    """Series of the support sets, [N, S, B, T, F]."""
    support_y: Tensor
    """Labels of the support sets, [N, S, B]."""
    query_x: Tensor
    """Series of the query sets, [N, Q, T, F]."""
    query_y: Tensor
    """Labels of the query sets, [N, Q]."""
    weights: Tensor
    """Weights that the tasks share, [P]."""
    film: Tensor
    """FiLM values of each task, [N, Phi]."""

    def named_weights(self) -> dict[str, Tensor]:
        """Return the weights as named tensors, not views."""
        sizes = self.sizes
        shapes = parameters.weight_shapes(sizes.bands, sizes.hidden, sizes.layers)
        named = parameters.unflatten(self.weights, shapes)
        return {name: tensor.clone() for name, tensor in named.items()}

    def named_film(self) -> dict[str, Tensor]:
        """Return the FiLM values as named tensors, each [N, ...]."""
        sizes = self.sizes
        shapes = parameters.film_shapes(sizes.steps, sizes.bands, sizes.hidden, sizes.layers)
        pieces = torch.split(self.film, parameters.counts(shapes), dim=1)
        return {
            name: piece.reshape(sizes.tasks, *shape)
            for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
        }

    def double(self) -> MetaBatch:
        """Return the same numbers in float64."""
        return self.to(torch.float64)

    def to(self, place: torch.dtype | torch.device | str) -> MetaBatch:
        """Return the same numbers in a dtype or on a device."""
        tensors = {name: value.to(place) for name, value in vars(self).items() if name != "sizes"}
        return MetaBatch(sizes=self.sizes, **tensors)


def draw(sizes: Sizes, seed: int = 0) -> MetaBatch:
    """Return a meta-batch of random series, initial weights and FiLM values, in float32."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def labels(*shape: int) -> Tensor:
        # A third positive: with halves the last bias's gradient nearly cancels, and its relative
        # error says nothing.
        return (torch.arange(shape[-1]) % 3 == 0).float().expand(shape).contiguous()

    tasks, inner_steps = sizes.tasks, sizes.inner_steps
    shapes = parameters.weight_shapes(sizes.bands, sizes.hidden, sizes.layers)
    count = sum(parameters.counts(shapes))
    weights = (2 * torch.rand(count, generator=generator) - 1) / sizes.hidden**0.5
    film = parameters.identity_film(sizes.steps, sizes.bands, sizes.hidden, sizes.layers)
    series = (sizes.steps, sizes.bands)
    return MetaBatch(
        sizes=sizes,
        support_x=normal(tasks, inner_steps, sizes.support, *series),
        support_y=labels(tasks, inner_steps, sizes.support),
        query_x=normal(tasks, sizes.query, *series),
        query_y=labels(tasks, sizes.query),
        weights=weights,
        film=film + 0.2 * normal(tasks, film.numel()),
    )
