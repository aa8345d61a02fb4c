"""The network of one task, in plain PyTorch; docs/explanation/meta-step.md has its formulas."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from timl.parameters import (
    BATCH_NORM_EPSILON,
    counts,
    film_shapes,
    lstm_shapes,
    unflatten,
    weight_shapes,
)
from timl.reference.film_lstm import film_lstm


def unflatten_weights(
    weights: Tensor, bands: int, hidden: int, layers: int, outputs: int = 1
) -> dict[str, Tensor]:
    """Return the classifier's named parameters as views of `weights` [P]; differentiable."""
    return unflatten(weights, weight_shapes(bands, hidden, layers, outputs))


def unflatten_film(
    film: Tensor, steps: int, bands: int, hidden: int, layers: int
) -> dict[str, Tensor]:
    """Return the named FiLM values of one task as views of `film` [Phi]; differentiable."""
    return unflatten(film, film_shapes(steps, bands, hidden, layers))


def network(
    x: Tensor,
    weights: Tensor,
    film: Tensor,
    mask: Tensor | None,
    running_mean: Tensor,
    running_variance: Tensor,
    *,
    hidden: int,
    layers: int,
    outputs: int = 1,
    batch_statistics: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the logits of a batch; differentiable to any order, in any floating type.

    Parameters
    ----------
    x : floating tensor of shape [B, T, F]
        Input series. All tensors have its dtype.
    weights : tensor of shape [P]
        In the order of `timl.parameters.weight_shapes`.
    film : tensor of shape [Phi]
        FiLM values of the task, in the order of `timl.parameters.film_shapes`.
    mask : tensor of shape [B, H]
        Variational dropout mask of 0 and 1 / (1 - rate); None for no dropout.
    running_mean, running_variance : tensors of shape [L, H]
        Used where `batch_statistics` is false.
    hidden, layers, outputs
        H, L and K.
    batch_statistics
        Normalise by the batch's own mean and variance rather than by the running ones.

    Returns
    -------
    logits : tensor of shape [B] with one output, else [B, K]
    batch_mean, batch_variance : tensors of shape [L, H]
        Statistics before each of the L normalisations, detached, the variance biased; of shape [0]
        where `batch_statistics` is false.
    """
    _, steps, bands = x.shape
    w = unflatten_weights(weights, bands, hidden, layers, outputs)
    phi = unflatten_film(film, steps, bands, hidden, layers)
    means: list[Tensor] = []
    variances: list[Tensor] = []

    def normalise(z: Tensor) -> Tensor:  # [B, H], the next batch normalisation in order
        layer = len(means)
        if batch_statistics:
            mean, variance = z.mean(dim=0), z.var(dim=0, unbiased=False)
        else:
            mean, variance = running_mean[layer], running_variance[layer]
        means.append(mean.detach())
        variances.append(variance.detach())
        return (z - mean) / torch.sqrt(variance + BATCH_NORM_EPSILON)

    lstm = weights[: sum(counts(lstm_shapes(bands, hidden)))]
    pair = torch.stack([phi["gamma_0"], phi["beta_0"]])  # [2, T, F]
    hd = film_lstm(x, lstm, pair, mask, hidden=hidden, every_step=False)  # [B, H]

    z = normalise(hd)
    for layer in range(1, layers + 1):
        z = z * phi[f"gamma_{layer}"] + phi[f"beta_{layer}"]  # [B, H]
        z = z @ w[f"dense.{layer - 1}.weight"].T  # [B, H], in the last layer [B, K]
        if layer < layers:
            z = normalise(functional.gelu(z))
    logits = z + w[f"dense.{layers - 1}.bias"]
    if outputs == 1:
        logits = logits.squeeze(1)

    if not batch_statistics:
        return logits, x.new_empty(0), x.new_empty(0)
    return logits, torch.stack(means), torch.stack(variances)
