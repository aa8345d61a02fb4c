"""The operator of the LSTM alone, differentiable twice, and its fake kernels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from timl import _core
from timl.nn.operator_checks import check_film_lstm
from timl.nn.operator_rules import carries_transform, is_differentiated, transformed

_operators = torch.ops.timl


def film_lstm(
    x: Tensor,
    weights: Tensor,
    film: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    hidden: int,
    every_step: bool = True,
) -> Tensor:
    """Compute the hidden states of an LSTM by the engine.

    Differentiable twice by `x`, `weights` and `film`, in reverse and forward mode and by
    `torch.func`'s grad, jvp, vmap and what is made of them; a third derivative raises.
    `torch.func.vmap` calls the engine once for each entry, but without derivatives and mask once
    for all entries' series where only they differ.

    Parameters
    ----------
    x : float32 or float64 tensor of shape [B, T, F]
        Finite series. All tensors have the dtype of `x`.
    weights : tensor of shape [W]
        In the order of `timl.parameters.lstm_shapes`.
    film : tensor of shape [2, T, F]
        Factors gamma and summands beta of the input; None for the input as it is.
    mask : tensor of shape [B, H]
        Variational dropout mask of 0 and 1 / (1 - rate), by which the hidden state of every step is
        multiplied; None for no dropout. A constant to differentiation.
    hidden
        H.
    every_step
        Return the hidden states of every step, or of the last alone.

    Returns
    -------
    tensor of shape [B, T, H], of the last step alone [B, H]
        The state before the first step is zero.

    Raises
    ------
    RuntimeError
        If a shape, dtype or device is wrong, a value of `x` is not finite, or the mask requires a
        gradient.
    """
    if mask is not None and mask.requires_grad:
        raise RuntimeError(
            f"timl::film_lstm: mask is {list(mask.shape)} and requires a gradient, but is a "
            f"constant here: give mask.detach()"
        )
    states: Tensor
    given = (x, weights, film, mask, hidden, every_step)
    if not is_differentiated(x, weights, film):
        states = _operators.film_lstm_evaluate(*given)
        return states
    under_transform = carries_transform(x, weights, film, mask)
    call = partial(transformed, "film_lstm") if under_transform else _operators.film_lstm
    states, _ = call(*given)
    return states


# --- fake kernels -----------------------------------------------------------------------------


def _states(x: Tensor, hidden: int, every_step: bool) -> Tensor:
    batch, steps, _ = x.shape
    return x.new_empty((batch, steps, hidden) if every_step else (batch, hidden))


def _buffers(x: Tensor, hidden: int) -> tuple[Tensor, Tensor]:
    """Return an empty tape and empty adjoints, as large as the operators make them."""
    batch, steps, bands = x.shape
    row = (
        _core.film_lstm_buffer_row_float64
        if x.dtype == torch.float64
        else _core.film_lstm_buffer_row_float32
    )
    tape, adjoints = row(int(steps), int(bands), int(hidden), x.device.type == "cuda")
    rows = batch + batch // _core.CHUNK_ROWS + 1
    return x.new_empty(rows * tape), x.new_empty(rows * adjoints)


def _gradients(
    x: Tensor, weights: Tensor, film: Tensor | None, x_gradient: bool
) -> tuple[Tensor, ...]:
    return (
        x.new_empty(x.shape if x_gradient else 0),
        x.new_empty(weights.shape),
        x.new_empty(0 if film is None else film.shape),
    )


def _fake_film_lstm(
    x: Tensor,
    weights: Tensor,
    film: Tensor | None,
    mask: Tensor | None,
    hidden: int,
    every_step: bool,
) -> tuple[Tensor, ...]:
    check_film_lstm("timl::film_lstm", x, weights, film, mask, hidden)
    return _states(x, hidden, every_step), _buffers(x, hidden)[0]


def _fake_film_lstm_backward(
    cotangent: Tensor,
    x: Tensor,
    weights: Tensor,
    film: Tensor | None,
    mask: Tensor | None,
    tape: Tensor,
    hidden: int,
    every_step: bool,
    x_gradient: bool,
) -> tuple[Tensor, ...]:
    check = check_film_lstm("timl::film_lstm_backward", x, weights, film, mask, hidden)
    kept, adjoints = _buffers(x, hidden)
    check.tensor("cotangent", cotangent, tuple(_states(x, hidden, every_step).shape))
    check.tensor("tape", tape, tuple(kept.shape))
    return *_gradients(x, weights, film, x_gradient), adjoints


def _fake_film_lstm_tangent(
    x: Tensor,
    weights: Tensor,
    film: Tensor | None,
    mask: Tensor | None,
    tape: Tensor,
    adjoints: Tensor,
    x_direction: Tensor | None,
    weights_direction: Tensor,
    film_direction: Tensor | None,
    hidden: int,
    every_step: bool,
    x_gradient: bool,
) -> tuple[Tensor, ...]:
    check = check_film_lstm("timl::film_lstm_tangent", x, weights, film, mask, hidden)
    for name, given, made in zip(
        ("tape", "adjoints"), (tape, adjoints), _buffers(x, hidden), strict=True
    ):
        check.tensor(name, given, tuple(made.shape))
    check.tensor("weights_direction", weights_direction, tuple(weights.shape))
    if x_direction is not None:
        check.tensor("x_direction", x_direction, tuple(x.shape))
    if film_direction is not None:
        check.tensor("film_direction", film_direction, (2, *x.shape[1:]))
    return _states(x, hidden, every_step), *_gradients(x, weights, film, x_gradient)


def _fake_film_lstm_evaluate(
    x: Tensor,
    weights: Tensor,
    film: Tensor | None,
    mask: Tensor | None,
    hidden: int,
    every_step: bool,
) -> Tensor:
    check_film_lstm("timl::film_lstm_evaluate", x, weights, film, mask, hidden)
    return _states(x, hidden, every_step)


_FAKES: dict[str, Callable[..., Any]] = {
    "film_lstm": _fake_film_lstm,
    "film_lstm_backward": _fake_film_lstm_backward,
    "film_lstm_tangent": _fake_film_lstm_tangent,
    "film_lstm_evaluate": _fake_film_lstm_evaluate,
}
for _name, _fake in _FAKES.items():
    torch.library.register_fake(f"timl::{_name}", _fake)
