"""Where each number of the network stands: names, shapes and order of weights and FiLM values.

The engine, its twin and the modules all read the flat vectors `weights` [P] and `film` [Phi]
in the order of these tables, row-major.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from timl import _core

Shape = tuple[int, ...]

BATCH_NORM_EPSILON = _core.BATCH_NORM_EPSILON
"""Number that every batch normalisation adds to the variance, the engine's."""
BATCH_NORM_MOMENTUM = 0.1
"""Share of a batch's statistics in the running ones after a pass."""


class MetaGradient(NamedTuple):
    """Losses and gradients of one meta-batch; all tensors detached.

    N tasks, S inner steps, Q query samples, L dense layers, H hidden units, P weights, Phi FiLM
    values. The gradients are those of the mean over tasks of the query losses; their shape is [0]
    where only losses were asked for.
    """

    loss: Tensor
    """Query losses after adaptation, [N]."""
    logits: Tensor
    """Query logits after adaptation, [N, Q] with one output, else [N, Q, K]."""
    support_loss: Tensor
    """Support losses before each inner step, [N, S]."""
    weights_gradient: Tensor
    """Gradient by the weights, [P]."""
    film_gradient: Tensor
    """Gradient by each task's FiLM values, [N, Phi]."""
    step_size_gradient: Tensor
    """Gradient by the inner step sizes, [S, L + 4]."""
    batch_mean: Tensor
    """Batch means of the support passes in order, then of the query pass, [N, S + 1, L, H]."""
    batch_variance: Tensor
    """Biased batch variances of the same passes, [N, S + 1, L, H]."""


class Adapted(NamedTuple):
    """What S inner steps on one task make of a network; all tensors detached."""

    weights: Tensor
    """Weights after the last step, [P]."""
    support_loss: Tensor
    """Support losses before each step, [S]."""
    batch_mean: Tensor
    """Batch means of the support passes in order, [S, L, H]."""
    batch_variance: Tensor
    """Biased batch variances of the same passes, [S, L, H]."""


def lstm_shapes(bands: int, hidden: int) -> dict[str, Shape]:
    """Return the shapes of an LSTM's three tensors, by name and in order.

    Their rows are the gates input, forget, candidate, output.
    """
    return {
        "input_weight": (4 * hidden, bands),
        "hidden_weight": (4 * hidden, hidden),
        "gate_bias": (4 * hidden,),
    }


def weight_shapes(bands: int, hidden: int, layers: int, outputs: int = 1) -> dict[str, Shape]:
    """Return the shapes of the classifier's L + 4 parameter tensors, by name and in order.

    Those of the LSTM come first; the rows of the last dense layer are the outputs.
    """
    shapes = lstm_shapes(bands, hidden)
    for layer in range(layers - 1):
        shapes[f"dense.{layer}.weight"] = (hidden, hidden)
    shapes[f"dense.{layers - 1}.weight"] = (outputs, hidden)
    shapes[f"dense.{layers - 1}.bias"] = (outputs,)
    return shapes


def tensor_count(layers: int) -> int:
    """Return how many parameter tensors the classifier has, each with a step size of its own."""
    return len(weight_shapes(1, 1, layers))


def film_shapes(steps: int, bands: int, hidden: int, layers: int) -> dict[str, Shape]:
    """Return the shapes of a task's FiLM values, by name and in order.

    Pair 0 modulates the input, pair l = 1 .. L the input of dense layer l.
    """
    shapes: dict[str, Shape] = {"gamma_0": (steps, bands), "beta_0": (steps, bands)}
    for layer in range(1, layers + 1):
        shapes[f"gamma_{layer}"] = (hidden,)
        shapes[f"beta_{layer}"] = (hidden,)
    return shapes


def counts(shapes: dict[str, Shape]) -> list[int]:
    """Return how many numbers each tensor of a table holds, in order."""
    return [math.prod(shape) for shape in shapes.values()]


def identity_film(
    steps: int,
    bands: int,
    hidden: int,
    layers: int,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Return the FiLM values that change nothing, [Phi]: every gamma 1, every beta 0."""
    shapes = film_shapes(steps, bands, hidden, layers)
    film = torch.zeros(sum(counts(shapes)), dtype=dtype, device=device)
    # torch.cat of tensors on meta, where checkpoints are built, would load PyTorch's compiler
    for name, piece in zip(shapes, torch.split(film, counts(shapes)), strict=True):
        piece.fill_(float(name.startswith("gamma")))
    return film


def flatten(tensors: Iterable[Tensor]) -> Tensor:
    """Return one vector of all the numbers of the tensors, in order; differentiable."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def unflatten(flat: Tensor, shapes: dict[str, Shape]) -> dict[str, Tensor]:
    """Return views of a flat vector as the tensors of a table; differentiable.

    Raises
    ------
    ValueError
        If the vector has not as many numbers as the table's tensors together.
    """
    count = sum(counts(shapes))
    if flat.shape != (count,):
        raise ValueError(f"flat is {[*flat.shape]}: give [{count}], the numbers of {shapes}")
    pieces = torch.split(flat, counts(shapes))
    return {
        name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
    }
