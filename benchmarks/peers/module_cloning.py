"""MAML as module-cloning libraries do it: clone the modules, adapt the clone within the graph."""

from __future__ import annotations

import copy

import torch
from meta_batch import MetaBatch
from timl import parameters
from timl.reference import mean_loss
from torch import Tensor, nn

from peers import Contender, Gradients
from peers.unrolled import UnrolledClassifier


def contender(batch: MetaBatch) -> Contender:
    """Return the meta-step: a loop over tasks, each with a clone of the unrolled classifier."""
    sizes = batch.sizes
    model = UnrolledClassifier(sizes.bands, sizes.hidden, sizes.layers)
    model.load_flat(batch.weights)
    film_shapes = parameters.film_shapes(sizes.steps, sizes.bands, sizes.hidden, sizes.layers)
    films = batch.film.clone().requires_grad_()

    def step(step_size: float) -> Tensor:
        model.zero_grad()
        films.grad = None
        losses = []
        for n in range(sizes.tasks):
            film = parameters.unflatten(films[n], film_shapes)
            learner = _clone(model)
            for s in range(sizes.inner_steps):
                logits = learner(batch.support_x[n, s], film)
                inner_loss = mean_loss(logits, batch.support_y[n, s])
                _adapt(learner, inner_loss, step_size)
            loss = mean_loss(learner(batch.query_x[n], film), batch.query_y[n])
            torch.autograd.backward(loss / sizes.tasks)
            losses.append(loss.detach())
        return torch.stack(losses)

    def gradients(losses: Tensor) -> Gradients:
        assert films.grad is not None
        return Gradients(losses, model.flat_gradients(), films.grad.clone())

    return Contender("module-cloning MAML", step, gradients)


def _clone(module: nn.Module) -> nn.Module:
    """Copy a module so that the copy's parameters are functions of the original's."""
    twin = copy.copy(module)
    twin._parameters = {
        name: None if tensor is None else tensor.clone()  # type: ignore[misc]
        for name, tensor in module._parameters.items()
    }
    twin._buffers = {
        name: None if tensor is None else tensor.clone() for name, tensor in module._buffers.items()
    }
    twin._modules = {
        name: None if child is None else _clone(child) for name, child in module._modules.items()
    }
    return twin


def _adapt(learner: nn.Module, loss: Tensor, step_size: float) -> None:
    """Take one gradient step, kept in the graph."""
    places = [
        (module, name, tensor)
        for module in learner.modules()
        for name, tensor in module._parameters.items()
        if tensor is not None
    ]
    gradients = torch.autograd.grad(loss, [tensor for *_, tensor in places], create_graph=True)
    for (module, name, tensor), gradient in zip(places, gradients, strict=True):
        module._parameters[name] = tensor - step_size * gradient  # type: ignore[assignment]
