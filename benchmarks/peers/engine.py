"""The meta-step by timl's engine, timed as the others are."""

from __future__ import annotations

import torch
from meta_batch import MetaBatch
from timl.nn import operators
from timl.parameters import MetaGradient, tensor_count

from peers import Contender, Gradients


def contender(batch: MetaBatch) -> Contender:
    """Return the meta-step of `timl.nn.operators.meta_gradient`."""
    sizes = batch.sizes
    return Contender("timl", lambda step_size: meta_gradient(batch, step_size, sizes.order), _flat)


def meta_gradient(batch: MetaBatch, step_size: float, order: int) -> MetaGradient:
    """Take the meta-step in the meta-batch's precision, with one inner step size for all."""
    sizes = batch.sizes
    return operators.meta_gradient(
        batch.support_x,
        batch.support_y,
        batch.query_x,
        batch.query_y,
        batch.weights,
        batch.film,
        None,
        None,
        torch.full(
            (sizes.inner_steps, tensor_count(sizes.layers)),
            step_size,
            dtype=batch.weights.dtype,
            device=batch.weights.device,
        ),
        hidden=sizes.hidden,
        layers=sizes.layers,
        order=order,
    )


def _flat(result: MetaGradient) -> Gradients:
    return Gradients(result.loss, result.weights_gradient, result.film_gradient)
