"""The meta-step in JAX: jit(vmap) over the tasks, lax.scan over the time steps."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from meta_batch import MetaBatch
from timl import parameters
from torch import Tensor

from peers import Contender, Gradients

Arrays = dict[str, Any]


def contender(batch: MetaBatch) -> Contender:
    """Return the meta-step, compiled at its first call."""
    weights = {name: _to_jax(tensor) for name, tensor in batch.named_weights().items()}
    film = {name: _to_jax(tensor) for name, tensor in batch.named_film().items()}
    tensors = (batch.support_x, batch.support_y, batch.query_x, batch.query_y)
    data = tuple(map(_to_jax, tensors))
    function = jax.jit(_meta_step)

    def step(step_size: float) -> Any:
        return jax.block_until_ready(function(weights, film, *data, jnp.float32(step_size)))

    def gradients(result: Any) -> Gradients:
        (_, losses), (of_weights, of_film) = result
        flat_film = [_to_torch(of_film[name]).flatten(1) for name in film]
        flat_weights = parameters.flatten(_to_torch(of_weights[name]) for name in weights)
        return Gradients(_to_torch(losses), flat_weights, torch.cat(flat_film, dim=1))

    return Contender("JAX, jit(vmap), lax.scan", step, gradients, compiles=True)


def _to_jax(tensor: Tensor) -> Any:
    return jnp.asarray(tensor.cpu().numpy())


def _to_torch(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array))


def _meta_step(
    weights: Arrays,
    film: Arrays,
    support_x: Any,
    support_y: Any,
    query_x: Any,
    query_y: Any,
    step_size: Any,
) -> Any:
    def mean_loss(weights: Arrays, film: Arrays) -> tuple[Any, Any]:
        losses = jax.vmap(_query_loss, in_axes=(None, 0, 0, 0, 0, 0, None))(
            weights, film, support_x, support_y, query_x, query_y, step_size
        )
        return losses.mean(), losses

    return jax.value_and_grad(mean_loss, argnums=(0, 1), has_aux=True)(weights, film)


def _query_loss(
    weights: Arrays,
    film: Arrays,
    support_x: Any,
    support_y: Any,
    query_x: Any,
    query_y: Any,
    step_size: Any,
) -> Any:
    """Adapt to one task and return its query loss; support [S, B, T, F], query [Q, T, F]."""
    for s in range(support_x.shape[0]):
        inner = jax.grad(_loss)(weights, film, support_x[s], support_y[s])
        weights = {name: array - step_size * inner[name] for name, array in weights.items()}
    return _loss(weights, film, query_x, query_y)


def _loss(weights: Arrays, film: Arrays, x: Any, y: Any) -> Any:
    """Return the mean binary cross entropy of one task's series, [B, T, F]."""
    hidden_weight = weights["hidden_weight"].T
    modulated = x * film["gamma_0"] + film["beta_0"]
    projected = modulated @ weights["input_weight"].T + weights["gate_bias"]  # [B, T, 4H]

    def advance(state: tuple[Any, Any], projected_t: Any) -> tuple[tuple[Any, Any], None]:
        h, c = state
        i, f, g, o = jnp.split(projected_t + h @ hidden_weight, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    zeros = jnp.zeros((x.shape[0], hidden_weight.shape[0]), x.dtype)
    (h, _), _ = jax.lax.scan(advance, (zeros, zeros), projected.swapaxes(0, 1))
    z = _normalise(h)
    layers = len(film) // 2 - 1
    for layer in range(1, layers + 1):
        z = z * film[f"gamma_{layer}"] + film[f"beta_{layer}"]
        z = z @ weights[f"dense.{layer - 1}.weight"].T
        if layer < layers:
            z = _normalise(jax.nn.gelu(z, approximate=False))
    logits = z[:, 0] + weights[f"dense.{layers - 1}.bias"]
    return (jax.nn.softplus(logits) - y * logits).mean()


def _normalise(z: Any) -> Any:
    centred = z - z.mean(axis=0)
    variance = (centred * centred).mean(axis=0)
    return centred * jax.lax.rsqrt(variance + parameters.BATCH_NORM_EPSILON)
