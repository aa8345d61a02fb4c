"""Inner steps, and the meta-gradient by automatic differentiation through them unrolled."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from timl import parameters
from timl.parameters import Adapted, MetaGradient
from timl.reference.loss import mean_loss
from timl.reference.network import network


def adapt(
    support_x: Tensor,
    support_y: Tensor,
    weights: Tensor,
    film: Tensor,
    support_mask: Tensor | None,
    step_sizes: Tensor,
    *,
    hidden: int,
    layers: int,
    outputs: int = 1,
    class_weights: Tensor | None = None,
) -> Adapted:
    """Adapt to one task by S inner steps, the first order of `meta_gradient` without a query.

    Parameters
    ----------
    support_x, support_y : floating tensors of shape [S, B, T, F] and [S, B]
        Series and labels, one support set for each inner step. All tensors have one dtype. Labels
        are those of `mean_loss`.
    weights, film : tensors of shape [P] and [Phi]
        In the order of `timl.parameters`.
    support_mask : tensor of shape [S, B, H]
        Variational dropout masks; None for no dropout.
    step_sizes : tensor of shape [S, L + 4]
        Inner step sizes: one for each inner step and parameter tensor.
    hidden, layers, outputs
        H, L and K.
    class_weights : tensor of shape [2] or [K]
        Weights of the classes; None for ones.

    Returns
    -------
    Adapted
        Detached from every graph.
    """
    sizes = _tensor_sizes(support_x.shape[-1], hidden, layers, outputs, weights.device)
    forward = _training_pass(weights, hidden, layers, outputs)
    w = weights.detach()
    losses, means, variances = [], [], []
    for s in range(support_x.shape[0]):
        w.requires_grad_()
        mask = None if support_mask is None else support_mask[s]
        logits, mean, variance = forward(support_x[s], w, film, mask)
        loss = mean_loss(logits, support_y[s], class_weights)
        (gradient,) = torch.autograd.grad(loss, w)
        w = (w - step_sizes[s].repeat_interleave(sizes) * gradient).detach()
        losses.append(loss.detach())
        means.append(mean)
        variances.append(variance)
    return Adapted(w, torch.stack(losses), torch.stack(means), torch.stack(variances))


def meta_gradient(
    support_x: Tensor,
    support_y: Tensor,
    query_x: Tensor,
    query_y: Tensor,
    weights: Tensor,
    film: Tensor,
    support_mask: Tensor | None,
    query_mask: Tensor | None,
    step_sizes: Tensor,
    *,
    hidden: int,
    layers: int,
    outputs: int = 1,
    order: int,
    class_weights: Tensor | None = None,
) -> MetaGradient:
    """Adapt to each task by S inner steps and differentiate the mean query loss.

    Every pass normalises with its batch's own statistics.

    Parameters
    ----------
    support_x, support_y : floating tensors of shape [N, S, B, T, F] and [N, S, B]
        Series and labels, one support set for each inner step. All tensors have one dtype. Labels
        are those of `mean_loss`.
    query_x, query_y : tensors of shape [N, Q, T, F] and [N, Q]
    weights, film : tensors of shape [P] and [N, Phi]
        In the order of `timl.parameters`.
    support_mask, query_mask : tensors of shape [N, S, B, H] and [N, Q, H]
        Variational dropout masks; None for no dropout.
    step_sizes : tensor of shape [S, L + 4]
        Inner step sizes: one for each inner step and parameter tensor.
    hidden, layers, outputs
        H, L and K.
    order
        2 exact; 1 first order (the inner gradients are taken as constants, as in FOMAML); 0 losses
        only.
    class_weights : tensor of shape [N, 2] or [N, K]
        Weights of each task's classes; None for ones.

    Returns
    -------
    MetaGradient
        Detached from every graph.
    """
    tasks, steps, _, _, bands = support_x.shape
    counts = _tensor_sizes(bands, hidden, layers, outputs, weights.device)
    forward = _training_pass(weights, hidden, layers, outputs)

    w0 = weights.detach().requires_grad_()
    phis = film.detach().requires_grad_()
    alphas = step_sizes.detach().requires_grad_()
    gradients = [torch.zeros_like(wanted) for wanted in (w0, phis, alphas)]
    losses, logits, support_losses, means, variances = [], [], [], [], []

    for n in range(tasks):
        w, of_classes = w0, None if class_weights is None else class_weights[n]
        for s in range(steps):
            mask = None if support_mask is None else support_mask[n, s]
            support_logits, mean, variance = forward(support_x[n, s], w, phis[n], mask)
            support_loss = mean_loss(support_logits, support_y[n, s], of_classes)
            (inner_gradient,) = torch.autograd.grad(support_loss, w, create_graph=order == 2)
            w = w - alphas[s].repeat_interleave(counts) * inner_gradient
            support_losses.append(support_loss.detach())
            means.append(mean)
            variances.append(variance)
        mask = None if query_mask is None else query_mask[n]
        query_logits, mean, variance = forward(query_x[n], w, phis[n], mask)
        loss = mean_loss(query_logits, query_y[n], of_classes)
        if order > 0:
            of_task = torch.autograd.grad(loss / tasks, (w0, phis, alphas))
            gradients = [total + part for total, part in zip(gradients, of_task, strict=True)]
        losses.append(loss.detach())
        logits.append(query_logits.detach())
        means.append(mean)
        variances.append(variance)

    if order == 0:
        gradients = [weights.new_empty(0) for _ in gradients]
    of_weights, of_film, of_step_sizes = gradients
    statistics = (tasks, steps + 1, layers, hidden)
    return MetaGradient(
        torch.stack(losses),
        torch.stack(logits),
        torch.stack(support_losses).reshape(tasks, steps),
        of_weights,
        of_film,
        of_step_sizes,
        torch.stack(means).reshape(statistics),
        torch.stack(variances).reshape(statistics),
    )


def _tensor_sizes(
    bands: int, hidden: int, layers: int, outputs: int, device: torch.device
) -> Tensor:
    """Return the number of weights in each parameter tensor, [L + 4]."""
    shapes = parameters.weight_shapes(bands, hidden, layers, outputs)
    return torch.tensor(parameters.counts(shapes), device=device)


def _training_pass(
    weights: Tensor, hidden: int, layers: int, outputs: int
) -> Callable[..., tuple[Tensor, ...]]:
    """Return the network with its batch's own statistics, of series, weights, FiLM and mask."""
    unused = weights.new_zeros(layers, hidden)  # running statistics do not enter a training pass

    def forward(x: Tensor, w: Tensor, film: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
        return network(
            *(x, w, film, mask, unused, unused),
            hidden=hidden,
            layers=layers,
            outputs=outputs,
            batch_statistics=True,
        )

    return forward
