"""The engine's operators in PyTorch: `network`, differentiable twice, `meta_gradient`, and others.

The compiled module registers `torch.ops.timl.*` for the CPU and, where it was built with nvcc, for
CUDA. They get from Python what PyTorch
takes there: derivatives and the rules of torch.func and autocast (operator_rules.py), and fake
kernels for `torch.compile` and `torch.export` (here).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from timl import _core
from timl.nn.operator_checks import (
    check_adapt,
    check_describe,
    check_meta_gradient,
    check_network,
    check_strong_evaluate,
)
from timl.nn.operator_rules import carries_transform, is_differentiated, transformed
from timl.nn.recurrent.operator import film_lstm
from timl.parameters import Adapted, MetaGradient

__all__ = ["adapt", "describe", "film_lstm", "meta_gradient", "network", "strong_evaluate"]

_operators = torch.ops.timl


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
    """Compute the logits of one task's series by the engine.

    Differentiable twice by `x`, `weights` and `film`, in reverse and forward mode and by
    `torch.func`'s grad, jvp, vmap and what is made of them; a third derivative raises.
    `torch.func.vmap` calls the engine once for each entry, but in evaluation mode without
    derivatives once for all entries' series where only they differ.

    Parameters
    ----------
    x : float32 or float64 tensor of shape [B, T, F]
        Finite series; B is at least 2 with batch statistics. All tensors have the dtype of `x`.
    weights, film : tensors of shape [P] and [Phi]
        In the order of `timl.parameters`.
    mask : tensor of shape [B, H]
        Variational dropout mask; None for ones. A constant to differentiation.
    running_mean, running_variance : tensors of shape [L, H]
        Used without batch statistics.
    hidden, layers, outputs
        H, L and K.
    batch_statistics
        Normalise by the batch's own statistics (training) instead of the running ones.

    Returns
    -------
    logits : tensor of shape [B] with one output, else [B, K]
    batch_mean, batch_variance : tensors of shape [L, H]
        Not differentiable, the variance biased; of shape [0] without batch statistics.

    Raises
    ------
    RuntimeError
        If a shape, dtype or device is wrong, a value of `x` is not finite, or the mask requires a
        gradient.
    """
    if mask is not None and mask.requires_grad:
        raise RuntimeError(
            f"timl::network: mask is {list(mask.shape)} and requires a gradient, but is a constant "
            f"here: give mask.detach()"
        )
    differentiable = (x, weights, film)
    if not batch_statistics and mask is None and not is_differentiated(*differentiable):
        logits: Tensor = _operators.network_evaluate(
            x, weights, film, running_mean, running_variance, hidden, layers, outputs
        )
        empty = running_mean.new_empty(0)
        return logits, empty, empty
    statistics = (None, None) if batch_statistics else (running_mean, running_variance)
    under_transform = carries_transform(*differentiable, mask)
    call = partial(transformed, "network") if under_transform else _operators.network
    logits, mean, variance, _ = call(x, weights, film, mask, *statistics, hidden, layers, outputs)
    if not batch_statistics:
        mean, variance = mean.reshape(0), variance.reshape(0)
    return logits, mean, variance


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
    """Adapt to each task by S inner steps and differentiate the mean query loss, in the engine.

    Parameters
    ----------
    support_x, support_y : float32 or float64 tensors of shape [N, S, B, T, F] and [N, S, B]
        Series and labels, one support set for each inner step. All tensors have one dtype. Labels
        are 0 or 1 with one output, else classes 0 to K - 1; -1 for a sample that counts for
        nothing.
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
        2 exact second order; 1 first order (FOMAML); 0 losses only.
    class_weights : tensor of shape [N, 2] with one output, else [N, K]
        Weights of each task's classes, by which its losses are weighted means; None for ones.

    Returns
    -------
    MetaGradient
        Detached from every graph.

    Raises
    ------
    RuntimeError
        If a shape, dtype or device is wrong, a value is not finite, a label is no class, or a batch
        has no label that counts.
    """
    with torch.no_grad():
        return MetaGradient(
            *_in_order_of_fields(
                _operators.meta_gradient(
                    support_x,
                    support_y,
                    query_x,
                    query_y,
                    weights,
                    film,
                    support_mask,
                    query_mask,
                    class_weights,
                    step_sizes,
                    hidden,
                    layers,
                    outputs,
                    order,
                ),
                order,
            )
        )


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
    """Adapt to one task by S inner steps, in the engine: those of `meta_gradient`, to the bit.

    Parameters
    ----------
    support_x, support_y : float32 or float64 tensors of shape [S, B, T, F] and [S, B]
        Series and labels, one support set for each inner step. All tensors have one dtype. Labels
        are those of `meta_gradient`.
    weights, film : tensors of shape [P] and [Phi]
        In the order of `timl.parameters`.
    support_mask : tensor of shape [S, B, H]
        Variational dropout masks; None for no dropout.
    step_sizes : tensor of shape [S, L + 4]
        Inner step sizes: one for each inner step and parameter tensor.
    hidden, layers, outputs
        H, L and K.
    class_weights : tensor of shape [2] with one output, else [K]
        Weights of the classes, by which losses are weighted means; None for ones.

    Returns
    -------
    Adapted
        Detached from every graph.

    Raises
    ------
    RuntimeError
        If a shape, dtype or device is wrong, a value is not finite, a label is no class, or a batch
        has no label that counts.
    """
    with torch.no_grad():
        return Adapted(
            *_operators.adapt(
                *(support_x, support_y, weights, film, support_mask, class_weights, step_sizes),
                *(hidden, layers, outputs),
            )
        )


def describe(x: Tensor, bands: Tensor) -> Tensor:
    """Describe series by the engine; parameters are those of `timl.reference.describe`.

    Parameters
    ----------
    x : float32 or float64 tensor of shape [n, T, 18]
        Normalised series, at least one, T at least 4.
    bands : tensor of shape [2, 18]
        Mean and standard deviation with which they were normalised, of the dtype of `x`.

    Returns
    -------
    tensor of shape [n, D]
        Without derivatives: differentiating it raises.

    Raises
    ------
    RuntimeError
        If a shape, dtype or device is wrong, a value of `x` is not finite, or torch.func or
        forward mode differentiates it.
    """
    described: Tensor = _operators.describe(x, bands)
    return described


def strong_evaluate(x: Tensor, *arguments: Tensor | None) -> tuple[Tensor, Tensor]:
    """Compute logits and distances of a fitted classifier by the engine.

    The same series gets the same bits in any batch and on any number of threads.

    Parameters
    ----------
    x : float32 or float64 tensor of shape [B, T, 18]
        Normalised series, at least one.
    *arguments
        The other arguments of `timl.reference.strong_evaluate` in order, of the dtype of `x` but
        for the trees' int64 tensors.

    Returns
    -------
    logits, distances : tensors of shape [B]
        The logits of shape [B, K] with several outputs, the distances [0] without known points.
        Without derivatives: differentiating them raises.

    Raises
    ------
    RuntimeError
        If a shape, dtype or device is wrong, a value of `x` is not finite, the trees are none, or
        torch.func or forward mode differentiates it.
    """
    logits, distances = _operators.strong_evaluate(x, *arguments)
    return logits, distances


def _in_order_of_fields(results: tuple[Tensor, ...], order: int) -> tuple[Tensor, ...]:
    """Return the operator's results with gradients that were not asked for in shape [0]."""
    if order > 0:
        return results
    return (*results[:3], *(gradient.reshape(-1) for gradient in results[3:6]), *results[6:])


# --- fake kernels -----------------------------------------------------------------------------


def _buffers(x: Tensor, hidden: int, layers: int, outputs: int) -> tuple[Tensor, Tensor]:
    """Return an empty tape and empty adjoints, as large as the operators make them."""
    batch, steps, bands = x.shape
    row = _core.buffer_row_float64 if x.dtype == torch.float64 else _core.buffer_row_float32
    sizes = (int(steps), int(bands), int(hidden), int(layers), int(outputs))
    tape, adjoints = row(*sizes, x.device.type == "cuda")
    rows = batch + batch // _core.CHUNK_ROWS + 1
    return x.new_empty(rows * tape), x.new_empty(rows * adjoints)


def _logits(x: Tensor, outputs: int) -> Tensor:
    return x.new_empty(x.shape[0] if outputs == 1 else (x.shape[0], outputs))


def _fake_network(
    x: Tensor,
    weights: Tensor,
    film: Tensor,
    mask: Tensor | None,
    running_mean: Tensor | None,
    running_variance: Tensor | None,
    hidden: int,
    layers: int,
    outputs: int,
) -> tuple[Tensor, ...]:
    check_network(
        "timl::network",
        *(x, weights, film, mask, running_mean, running_variance, hidden, layers, outputs),
    )
    norms = layers if running_mean is None else 0
    statistics = x.new_empty(norms, hidden), x.new_empty(norms, hidden)
    return _logits(x, outputs), *statistics, _buffers(x, hidden, layers, outputs)[0]


def _fake_network_backward(
    cotangent: Tensor,
    x: Tensor,
    weights: Tensor,
    film: Tensor,
    mask: Tensor | None,
    running_mean: Tensor | None,
    running_variance: Tensor | None,
    tape: Tensor,
    hidden: int,
    layers: int,
    outputs: int,
    x_gradient: bool,
) -> tuple[Tensor, ...]:
    check = check_network(
        "timl::network_backward",
        *(x, weights, film, mask, running_mean, running_variance, hidden, layers, outputs),
    )
    kept, adjoints = _buffers(x, hidden, layers, outputs)
    check.tensor("cotangent", cotangent, tuple(_logits(x, outputs).shape))
    check.tensor("tape", tape, tuple(kept.shape))
    x_out = x.new_empty(x.shape) if x_gradient else x.new_empty(0)
    return x_out, x.new_empty(weights.shape), x.new_empty(film.shape), adjoints


def _fake_network_tangent(
    x: Tensor,
    weights: Tensor,
    film: Tensor,
    mask: Tensor | None,
    running_mean: Tensor | None,
    running_variance: Tensor | None,
    tape: Tensor,
    adjoints: Tensor,
    x_direction: Tensor | None,
    weights_direction: Tensor,
    film_direction: Tensor | None,
    hidden: int,
    layers: int,
    outputs: int,
    x_gradient: bool,
) -> tuple[Tensor, ...]:
    check = check_network(
        "timl::network_tangent",
        *(x, weights, film, mask, running_mean, running_variance, hidden, layers, outputs),
    )
    for name, given, made in zip(
        ("tape", "adjoints"), (tape, adjoints), _buffers(x, hidden, layers, outputs), strict=True
    ):
        check.tensor(name, given, tuple(made.shape))
    check.tensor("weights_direction", weights_direction, tuple(weights.shape))
    if x_direction is not None:
        check.tensor("x_direction", x_direction, tuple(x.shape))
    if film_direction is not None:
        check.tensor("film_direction", film_direction, tuple(film.shape))
    x_out = x.new_empty(x.shape) if x_gradient else x.new_empty(0)
    return _logits(x, outputs), x_out, x.new_empty(weights.shape), x.new_empty(film.shape)


def _fake_network_evaluate(
    x: Tensor,
    weights: Tensor,
    film: Tensor,
    running_mean: Tensor,
    running_variance: Tensor,
    hidden: int,
    layers: int,
    outputs: int,
) -> Tensor:
    check_network(
        "timl::network_evaluate",
        *(x, weights, film, None, running_mean, running_variance, hidden, layers, outputs),
    )
    return _logits(x, outputs)


def _fake_meta_gradient(
    support_x: Tensor,
    support_y: Tensor,
    query_x: Tensor,
    query_y: Tensor,
    weights: Tensor,
    film: Tensor,
    support_mask: Tensor | None,
    query_mask: Tensor | None,
    class_weights: Tensor | None,
    step_sizes: Tensor,
    hidden: int,
    layers: int,
    outputs: int,
    order: int,
) -> tuple[Tensor, ...]:
    check_meta_gradient(
        *(support_x, support_y, query_x, query_y, weights, film, support_mask, query_mask),
        *(class_weights, step_sizes, hidden, layers, outputs, order),
    )
    tasks, steps = support_x.shape[:2]
    wanted = order > 0
    new = support_x.new_empty
    return (
        new(tasks),
        new(query_y.shape if outputs == 1 else (*query_y.shape, outputs)),
        new(tasks, steps),
        new(weights.shape if wanted else 0),
        new(tasks if wanted else 0, film.shape[1]),
        new(steps if wanted else 0, step_sizes.shape[1]),
        new(tasks, steps + 1, layers, hidden),
        new(tasks, steps + 1, layers, hidden),
    )


def _fake_adapt(
    support_x: Tensor,
    support_y: Tensor,
    weights: Tensor,
    film: Tensor,
    support_mask: Tensor | None,
    class_weights: Tensor | None,
    step_sizes: Tensor,
    hidden: int,
    layers: int,
    outputs: int,
) -> tuple[Tensor, ...]:
    check_adapt(
        *(support_x, support_y, weights, film, support_mask, class_weights, step_sizes),
        *(hidden, layers, outputs),
    )
    steps = support_x.shape[0]
    new = support_x.new_empty
    return (
        new(weights.shape),
        new(steps),
        new(steps, layers, hidden),
        new(steps, layers, hidden),
    )


def _fake_describe(x: Tensor, bands: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], check_describe(x, bands))


def _fake_strong_evaluate(x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    check_strong_evaluate(x, *arguments)
    known, outputs = arguments[-2], arguments[-1].shape[0] - 3
    return _logits(x, outputs), x.new_empty(0 if known is None else x.shape[0])


_FAKES: dict[str, Callable[..., Any]] = {
    "network": _fake_network,
    "network_backward": _fake_network_backward,
    "network_tangent": _fake_network_tangent,
    "network_evaluate": _fake_network_evaluate,
    "meta_gradient": _fake_meta_gradient,
    "adapt": _fake_adapt,
    "describe": _fake_describe,
    "strong_evaluate": _fake_strong_evaluate,
}
for _name, _fake in _FAKES.items():
    torch.library.register_fake(f"timl::{_name}", _fake)
