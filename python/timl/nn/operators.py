"""The engine's operators in PyTorch: `network`, differentiable twice, `meta_gradient`, and others.

The compiled module registers `torch.ops.timl.*` for the CPU. Here they get what PyTorch takes in
Python: autograd formulas (backward is the engine's `backward`, double backward its `tangent`; a
third derivative raises; the other operators have no derivative, and say so) and fake kernels for
`torch.compile`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from timl import _core
from timl.nn.operator_checks import (
    check_describe,
    check_meta_gradient,
    check_network,
    check_strong_evaluate,
)
from timl.parameters import MetaGradient

__all__ = ["describe", "meta_gradient", "network", "strong_evaluate"]

_operators = torch.ops.timl

# arguments of torch.ops.timl.network in order: x, weights, film, mask, running_mean,
# running_variance, hidden, layers
_NETWORK_ARGUMENTS = 8
# those of network_backward: the cotangent, six tensors, the tape, hidden, layers, x_gradient
_BACKWARD_ARGUMENTS = 11


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
    batch_statistics: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the logits of one task's series by the engine.

    Differentiable twice by `x`, `weights` and `film`; a third derivative, forward-mode
    differentiation and the derivatives of `torch.func` raise. `torch.func.vmap` of the logits
    calls the engine once for each entry.

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
    hidden, layers
        H and L.
    batch_statistics
        Normalise by the batch's own statistics (training) instead of the running ones.

    Returns
    -------
    logits : tensor of shape [B]
    batch_mean, batch_variance : tensors of shape [L, H]
        Not differentiable, the variance biased; of shape [0] without batch statistics.

    Raises
    ------
    RuntimeError
        If a shape, dtype or device is wrong, a value of `x` is not finite, the mask requires a
        gradient, or an input carries a forward-mode tangent.
    """
    if mask is not None and mask.requires_grad:
        raise RuntimeError(
            f"timl::network: mask is {list(mask.shape)} and requires a gradient, but is a constant "
            f"here: give mask.detach()"
        )
    differentiable = (x, weights, film)
    _refuse_tangents("timl.network", *differentiable)
    if (
        not batch_statistics
        and mask is None
        and not (torch.is_grad_enabled() and any(t.requires_grad for t in differentiable))
    ):
        logits: Tensor = _operators.network_evaluate(
            x, weights, film, running_mean, running_variance, hidden, layers
        )
        empty = running_mean.new_empty(0)
        return logits, empty, empty
    statistics = (None, None) if batch_statistics else (running_mean, running_variance)
    logits, mean, variance, _ = _operators.network(
        x, weights, film, mask, *statistics, hidden, layers
    )
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
    order: int,
) -> MetaGradient:
    """Adapt to each task by S inner steps and differentiate the mean query loss, in the engine.

    Parameters
    ----------
    support_x, support_y : float32 or float64 tensors of shape [N, S, B, T, F] and [N, S, B]
        Series and labels 0 or 1, one support set for each inner step. All tensors have one dtype.
    query_x, query_y : tensors of shape [N, Q, T, F] and [N, Q]
    weights, film : tensors of shape [P] and [N, Phi]
        In the order of `timl.parameters`.
    support_mask, query_mask : tensors of shape [N, S, B, H] and [N, Q, H]
        Variational dropout masks; None for no dropout.
    step_sizes : tensor of shape [S, L + 4]
        Inner step sizes: one for each inner step and parameter tensor.
    hidden, layers
        H and L.
    order
        2 exact second order; 1 first order (FOMAML); 0 losses only.

    Returns
    -------
    MetaGradient
        Detached from every graph.

    Raises
    ------
    RuntimeError
        If a shape, dtype or device is wrong, a value is not finite, or a label is not 0 or 1.
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
                    step_sizes,
                    hidden,
                    layers,
                    order,
                ),
                order,
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
        If a shape, dtype or device is wrong, a value of `x` is not finite, or an input carries a
        forward-mode tangent.
    """
    _refuse_tangents("timl.describe", x, bands)
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
        The distances of shape [0] without known points. Without derivatives: differentiating them
        raises.

    Raises
    ------
    RuntimeError
        If a shape, dtype or device is wrong, a value of `x` is not finite, the trees are none, or
        an input carries a forward-mode tangent.
    """
    _refuse_tangents("timl.strong_evaluate", x, *(a for a in arguments if a is not None))
    logits, distances = _operators.strong_evaluate(x, *arguments)
    return logits, distances


def _in_order_of_fields(results: tuple[Tensor, ...], order: int) -> tuple[Tensor, ...]:
    """Return the operator's results with gradients that were not asked for in shape [0]."""
    if order > 0:
        return results
    return (*results[:3], *(gradient.reshape(-1) for gradient in results[3:6]), *results[6:])


def _refuse_tangents(name: str, *tensors: Tensor) -> None:
    """Raise if a tensor carries a forward-mode tangent: it would be dropped silently."""
    if torch.compiler.is_compiling():
        return
    for tensor in tensors:
        if forward_ad._current_level < 0:
            return
        dual = forward_ad.unpack_dual(tensor)  # type: ignore[no-untyped-call]
        if dual.tangent is not None:
            raise RuntimeError(
                f"{name} has no forward-mode derivative: use reverse mode "
                f"(torch.autograd.grad with create_graph=True for second derivatives)"
            )


# --- autograd ---------------------------------------------------------------------------------


def _network_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, hidden, layers = inputs
    _, mean, variance, tape = output
    ctx.mark_non_differentiable(mean, variance, tape)
    ctx.save_for_backward(*tensors, tape)
    ctx.sizes = (hidden, layers)


def _network_backward(ctx: Any, cotangent: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, tape = ctx.saved_tensors
    wants_x = ctx.needs_input_grad[0]
    x, weights, film, _ = _operators.network_backward(
        cotangent, *tensors, tape, *ctx.sizes, wants_x
    )
    return (x if wants_x else None, weights, film, *[None] * (_NETWORK_ARGUMENTS - 3))


def _backward_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, *tensors, hidden, layers, x_gradient = inputs
    adjoints = output[3]
    ctx.mark_non_differentiable(adjoints)
    ctx.save_for_backward(*tensors, adjoints)
    ctx.sizes = (hidden, layers)
    ctx.x_gradient = x_gradient


def _double_backward(
    ctx: Any, x_direction: Tensor, weights_direction: Tensor, film_direction: Tensor, _: Tensor
) -> tuple[Tensor | None, ...]:
    # <v, gradient of (cotangent . logits)> differentiated: by the cotangent it is the logits'
    # tangent along v, by (x, weights, film) the gradient's tangent along v.
    wants_x = ctx.needs_input_grad[1]
    logits, x, weights, film = _operators.network_tangent(
        *ctx.saved_tensors,
        x_direction if ctx.x_gradient else None,
        weights_direction,
        film_direction,
        *ctx.sizes,
        wants_x,
    )
    rest = [None] * (_BACKWARD_ARGUMENTS - 4)
    return (logits, x if wants_x else None, weights, film, *rest)


def _refuse(what: str) -> Callable[..., Any]:
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise RuntimeError(what)

    return backward


torch.library.register_autograd("timl::network", _network_backward, setup_context=_network_context)
torch.library.register_autograd(
    "timl::network_backward", _double_backward, setup_context=_backward_context
)
torch.library.register_autograd(
    "timl::network_tangent",
    _refuse(
        "timl.network is differentiable twice, and a third derivative was asked for: detach the "
        "second derivatives, or use timl.reference.network"
    ),
)
torch.library.register_autograd(
    "timl::network_evaluate",
    _refuse("torch.ops.timl.network_evaluate has no gradient: use timl.nn.operators.network"),
)
torch.library.register_autograd(
    "timl::meta_gradient",
    _refuse("timl.meta_gradient's results are not differentiable: it returns the gradient itself"),
)
for _name in ("describe", "strong_evaluate"):
    torch.library.register_autograd(
        f"timl::{_name}",
        _refuse(
            f"timl.{_name} has no gradient: call it under torch.no_grad(), or differentiate "
            f"timl.reference.{_name}"
        ),
    )


# --- fake kernels -----------------------------------------------------------------------------


def _buffers(x: Tensor, hidden: int, layers: int) -> tuple[Tensor, Tensor]:
    """Return an empty tape and empty adjoints, as large as the operators make them."""
    batch, steps, bands = x.shape
    row = _core.buffer_row_float64 if x.dtype == torch.float64 else _core.buffer_row_float32
    tape, adjoints = row(int(steps), int(bands), int(hidden), int(layers))
    rows = batch + batch // _core.CHUNK_ROWS + 1
    return x.new_empty(rows * tape), x.new_empty(rows * adjoints)


def _fake_network(
    x: Tensor,
    weights: Tensor,
    film: Tensor,
    mask: Tensor | None,
    running_mean: Tensor | None,
    running_variance: Tensor | None,
    hidden: int,
    layers: int,
) -> tuple[Tensor, ...]:
    check_network(
        "timl::network",
        *(x, weights, film, mask, running_mean, running_variance, hidden, layers),
    )
    norms = layers if running_mean is None else 0
    statistics = x.new_empty(norms, hidden), x.new_empty(norms, hidden)
    return x.new_empty(x.shape[0]), *statistics, _buffers(x, hidden, layers)[0]


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
    x_gradient: bool,
) -> tuple[Tensor, ...]:
    check = check_network(
        "timl::network_backward",
        *(x, weights, film, mask, running_mean, running_variance, hidden, layers),
    )
    kept, adjoints = _buffers(x, hidden, layers)
    check.tensor("cotangent", cotangent, (x.shape[0],))
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
    x_gradient: bool,
) -> tuple[Tensor, ...]:
    check = check_network(
        "timl::network_tangent",
        *(x, weights, film, mask, running_mean, running_variance, hidden, layers),
    )
    for name, given, made in zip(
        ("tape", "adjoints"), (tape, adjoints), _buffers(x, hidden, layers), strict=True
    ):
        check.tensor(name, given, tuple(made.shape))
    check.tensor("weights_direction", weights_direction, tuple(weights.shape))
    if x_direction is not None:
        check.tensor("x_direction", x_direction, tuple(x.shape))
    if film_direction is not None:
        check.tensor("film_direction", film_direction, tuple(film.shape))
    x_out = x.new_empty(x.shape) if x_gradient else x.new_empty(0)
    return x.new_empty(x.shape[0]), x_out, x.new_empty(weights.shape), x.new_empty(film.shape)


def _fake_network_evaluate(
    x: Tensor,
    weights: Tensor,
    film: Tensor,
    running_mean: Tensor,
    running_variance: Tensor,
    hidden: int,
    layers: int,
) -> Tensor:
    check_network(
        "timl::network_evaluate",
        *(x, weights, film, None, running_mean, running_variance, hidden, layers),
    )
    return x.new_empty(x.shape[0])


def _fake_meta_gradient(
    support_x: Tensor,
    support_y: Tensor,
    query_x: Tensor,
    query_y: Tensor,
    weights: Tensor,
    film: Tensor,
    support_mask: Tensor | None,
    query_mask: Tensor | None,
    step_sizes: Tensor,
    hidden: int,
    layers: int,
    order: int,
) -> tuple[Tensor, ...]:
    check_meta_gradient(
        *(support_x, support_y, query_x, query_y, weights, film, support_mask, query_mask),
        *(step_sizes, hidden, layers, order),
    )
    tasks, steps = support_x.shape[:2]
    wanted = order > 0
    new = support_x.new_empty
    return (
        new(tasks),
        new(query_y.shape),
        new(tasks, steps),
        new(weights.shape if wanted else 0),
        new(tasks if wanted else 0, film.shape[1]),
        new(steps if wanted else 0, step_sizes.shape[1]),
        new(tasks, steps + 1, layers, hidden),
        new(tasks, steps + 1, layers, hidden),
    )


def _fake_describe(x: Tensor, bands: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], check_describe(x, bands))


def _fake_strong_evaluate(x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    check_strong_evaluate(x, *arguments)
    known = arguments[-2]
    return x.new_empty(x.shape[0]), x.new_empty(0 if known is None else x.shape[0])


_FAKES: dict[str, Callable[..., Any]] = {
    "network": _fake_network,
    "network_backward": _fake_network_backward,
    "network_tangent": _fake_network_tangent,
    "network_evaluate": _fake_network_evaluate,
    "meta_gradient": _fake_meta_gradient,
    "describe": _fake_describe,
    "strong_evaluate": _fake_strong_evaluate,
}
for _name, _fake in _FAKES.items():
    torch.library.register_fake(f"timl::{_name}", _fake)
