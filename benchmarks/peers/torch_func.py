"""The meta-step by torch.func: vmap over the tasks, gradient of gradient, fused gates."""

from __future__ import annotations

from typing import Any

import torch
from meta_batch import MetaBatch
from timl import parameters
from timl.reference import mean_loss
from torch import Tensor
from torch.func import grad, vmap
from torch.nn import functional

from peers import Contender, Gradients

Tensors = dict[str, Tensor]


def contender(batch: MetaBatch, *, compiled: bool) -> Contender:
    """Return the meta-step, eager or through torch.compile, on a GPU with CUDA graphs."""
    weights, film = batch.named_weights(), batch.named_film()
    mode = "reduce-overhead" if batch.weights.is_cuda else None
    function: Any = torch.compile(_meta_step, mode=mode) if compiled else _meta_step

    def step(step_size: float) -> tuple[tuple[Tensors, Tensors], Tensor]:
        data = (batch.support_x, batch.support_y, batch.query_x, batch.query_y)
        result: tuple[tuple[Tensors, Tensors], Tensor] = function(
            weights, film, *data, torch.tensor(step_size, device=batch.weights.device)
        )
        return result

    def gradients(result: tuple[tuple[Tensors, Tensors], Tensor]) -> Gradients:
        (of_weights, of_film), losses = result
        flat_film = [tensor.flatten(1) for tensor in of_film.values()]
        return Gradients(
            losses, parameters.flatten(of_weights.values()), torch.cat(flat_film, dim=1)
        )

    name = "torch.func, torch.compile" if compiled else "torch.func, eager"
    return Contender(name, step, gradients, compiles=compiled)


def _meta_step(
    weights: Tensors,
    film: Tensors,
    support_x: Tensor,
    support_y: Tensor,
    query_x: Tensor,
    query_y: Tensor,
    step_size: Tensor,
) -> tuple[tuple[Tensors, Tensors], Tensor]:
    def mean_loss(weights: Tensors, film: Tensors) -> tuple[Tensor, Tensor]:
        losses = vmap(_query_loss, in_dims=(None, 0, 0, 0, 0, 0, None))(
            weights, film, support_x, support_y, query_x, query_y, step_size
        )
        return losses.mean(), losses.detach()

    result: tuple[tuple[Tensors, Tensors], Tensor] = grad(mean_loss, argnums=(0, 1), has_aux=True)(
        weights, film
    )
    return result


def _query_loss(
    weights: Tensors,
    film: Tensors,
    support_x: Tensor,
    support_y: Tensor,
    query_x: Tensor,
    query_y: Tensor,
    step_size: Tensor,
) -> Tensor:
    """Adapt to one task and return its query loss; support [S, B, T, F], query [Q, T, F]."""
    for s in range(support_x.shape[0]):
        inner = grad(_loss)(weights, film, support_x[s], support_y[s])
        weights = {name: tensor - step_size * inner[name] for name, tensor in weights.items()}
    return _loss(weights, film, query_x, query_y)


def _loss(weights: Tensors, film: Tensors, x: Tensor, y: Tensor) -> Tensor:
    """Return the mean loss of one task's series, [B, T, F]."""
    hidden_weight = weights["hidden_weight"].T
    modulated = x * film["gamma_0"] + film["beta_0"]
    projected = modulated @ weights["input_weight"].T + weights["gate_bias"]  # [B, T, 4H]
    h = c = x.new_zeros(x.shape[0], hidden_weight.shape[0])
    for t in range(x.shape[1]):
        i, f, g, o = (projected[:, t] + h @ hidden_weight).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
    z = _normalise(h)
    layers = len(film) // 2 - 1
    for layer in range(1, layers + 1):
        z = z * film[f"gamma_{layer}"] + film[f"beta_{layer}"]
        z = z @ weights[f"dense.{layer - 1}.weight"].T
        if layer < layers:
            z = _normalise(functional.gelu(z))
    logits = z[:, 0] + weights[f"dense.{layers - 1}.bias"]
    return mean_loss(logits, y)


def _normalise(z: Tensor) -> Tensor:
    centred = z - z.mean(dim=0)
    variance = (centred * centred).mean(dim=0)
    return centred * torch.rsqrt(variance + parameters.BATCH_NORM_EPSILON)
