"""Calls of the engine of any size, for processes that are interrupted, forked, short of memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timl import parameters
from timl.nn import operators
from torch import Tensor

T, F, H, L = 12, 18, 128, 2
SIZES = {"hidden": H, "layers": L}


def network_arguments(batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return series, weights and FiLM values."""
    g = torch.Generator().manual_seed(0)
    weights = sum(parameters.counts(parameters.weight_shapes(F, H, L)))
    film = sum(parameters.counts(parameters.film_shapes(T, F, H, L)))
    x = torch.randn(batch, T, F, generator=g)
    return x, torch.randn(weights, generator=g) / 10, torch.rand(film, generator=g)


def evaluation(batch: int) -> Callable[[], Any]:
    """Return a call of the network in evaluation mode."""
    running = torch.zeros(L, H), torch.ones(L, H)
    x, weights, film = network_arguments(batch)
    return lambda: operators.network(
        x, weights, film, None, *running, batch_statistics=False, **SIZES
    )


def passes(batch: int, count: int) -> Callable[[], Any]:
    """Return a call of the network's training pass and its gradients, `count` times."""
    running = torch.zeros(L, H), torch.ones(L, H)
    inputs = [t.requires_grad_() for t in network_arguments(batch)]

    def call() -> None:
        for _ in range(count):
            logits = operators.network(*inputs, None, *running, batch_statistics=True, **SIZES)[0]
            torch.autograd.grad(logits.sum(), inputs)

    return call


def meta_gradient(tasks: int, steps: int) -> Callable[[], Any]:
    """Return a call of the second-order meta-gradient, with ten series a batch."""
    _, weights, film = network_arguments(1)
    g = torch.Generator().manual_seed(0)
    arguments = (
        torch.randn(tasks, steps, 10, T, F, generator=g),
        torch.ones(tasks, steps, 10),
        torch.randn(tasks, 10, T, F, generator=g),
        torch.ones(tasks, 10),
        weights,
        film.repeat(tasks, 1),
        None,
        None,
        torch.full((steps, parameters.tensor_count(L)), 1e-3),
    )
    return lambda: operators.meta_gradient(*arguments, order=2, **SIZES)


def adaptation(steps: int) -> Callable[[], Any]:
    """Return a call of one task's inner steps, with ten series a batch."""
    _, weights, film = network_arguments(1)
    x = torch.randn(steps, 10, T, F, generator=torch.Generator().manual_seed(0))
    step_sizes = torch.full((steps, parameters.tensor_count(L)), 1e-3)
    labels = torch.ones(steps, 10)
    return lambda: operators.adapt(x, labels, weights, film, None, step_sizes, **SIZES)


def description(batch: int) -> Callable[[], Any]:
    """Return a call of the description of series."""
    x, bands = network_arguments(batch)[0], torch.ones(2, F)
    return lambda: operators.describe(x, bands)


def strong_evaluation(batch: int) -> Callable[[], Any]:
    """Return a call of the strong protocol's classifier, of the sizes that are learned."""
    x, features = network_arguments(batch)[0], 459
    networks, dimensions, width, labels, trees = 4, 64, 128, 200, 500
    nodes = torch.arange(trees)
    arguments = (
        torch.ones(2, F),
        torch.ones(2, features),
        torch.ones(networks, features, dimensions),
        torch.ones(networks, width, features),
        torch.ones(networks, 4, width),
        torch.ones(networks, dimensions, width),
        torch.ones(networks, 3),
        torch.ones(networks, labels, dimensions),
        torch.ones(networks, labels),
        *[nodes] * 3,
        torch.zeros(trees, dtype=torch.int64),
        torch.zeros(trees),
        torch.zeros(trees),
        torch.ones(2000, dimensions),
        torch.ones(4),
    )
    return lambda: operators.strong_evaluate(x, *arguments)
