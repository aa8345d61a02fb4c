"""How the compiled operators take part in differentiation, in torch.func and in autocast.

What the engine differentiates, the network and the LSTM alone, has functions of its own, each the
derivative of another: its value, the engine's `backward`, and the engine's `tangent` (Pearlmutter
1994), which is reverse mode's second derivative and forward mode's first. Their first argument is
the operator's name. Every other operator has no derivative and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = [
    "carries_transform",
    "is_differentiated",
    "transformed",
]

_operators = torch.ops.timl


def carries_transform(*tensors: Tensor | None) -> bool:
    """Return whether a tensor is one of torch.func's, or carries a forward-mode tangent."""
    if torch.compiler.is_compiling():
        return False
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    return any(t is not None and (wrapped(t) or _has_tangent(t)) for t in tensors)


def is_differentiated(*tensors: Tensor | None) -> bool:
    """Return whether reverse or forward mode or a transform of torch.func may differentiate."""
    if torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in map(_below, tensors)
    ):
        return True
    return _is_differentiated_by_transform(*tensors)


def _below(tensor: Tensor | None) -> Tensor | None:
    """Return the tensor that torch.func's transforms have wrapped, at all levels."""
    functorch = torch._C._functorch
    while (
        tensor is not None
        and not torch.compiler.is_compiling()
        and functorch.is_functorch_wrapped_tensor(tensor)
    ):
        tensor = functorch.get_unwrapped(tensor)
    return tensor


def _is_differentiated_by_transform(*tensors: Tensor | None) -> bool:
    """Return whether torch.func, at any level, or forward mode differentiates by a tensor."""
    if torch.compiler.is_compiling():
        return False
    functorch = torch._C._functorch
    for tensor in tensors:
        while tensor is not None and functorch.is_functorch_wrapped_tensor(tensor):
            if functorch.is_gradtrackingtensor(tensor):
                return True
            tensor = functorch.get_unwrapped(tensor)
        if tensor is not None and _has_tangent(tensor):
            return True
    return False


def _has_tangent(tensor: Tensor) -> bool:
    if forward_ad._current_level < 0:
        return False
    return forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]


def _below_autograd(name: str, *arguments: Any) -> Any:
    """Call an operator's compiled kernel, or what stands for it in PyTorch's compiler."""
    with torch._C._AutoDispatchBelowAutograd():
        return getattr(_operators, name)(*arguments)


def _apart(arguments: tuple[Any, ...]) -> tuple[list[Tensor | None], list[int]]:
    """Return the tensors, None among them, and the sizes and switches that stand behind them."""
    tensors = [a for a in arguments if a is None or isinstance(a, Tensor)]
    return tensors, list(arguments[len(tensors) :])


def _value_shape(name: str, x: Tensor, sizes: list[int]) -> tuple[int, ...]:
    """Return the shape of what an operator computes of series [B, T, F]."""
    batch, steps, _ = x.shape
    if name == "film_lstm":
        hidden, every_step = sizes
        return (batch, steps, hidden) if every_step else (batch, hidden)
    outputs = sizes[-1]
    return (batch,) if outputs == 1 else (batch, outputs)


def _or_zeros(direction: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if direction is None else direction


class _Function(torch.autograd.Function):
    """A function whose vmap calls it once for each entry, since every entry has its own weights."""

    @classmethod
    def call(cls, *arguments: Any) -> Any:
        """Call the function so that PyTorch sees its derivatives, where it looks for them."""
        tensors = [a for a in arguments if isinstance(a, Tensor)]
        if not torch.is_grad_enabled() and not carries_transform(*tensors):
            return cls.forward(*arguments)
        return cls.apply(*arguments)  # type: ignore[no-untyped-call]

    @classmethod
    def of_entries(cls, size: int, in_dims: Any, arguments: tuple[Any, ...]) -> Any:
        """Call the function for each entry of a batch of torch.func.vmap, and stack the results."""
        return _stack_entries(cls.call, size, in_dims, arguments)


def _stack_entries(
    function: Callable[..., Any], size: int, in_dims: Any, arguments: tuple[Any, ...]
) -> tuple[Any, Any]:
    entries = [
        function(
            *(
                value if dim is None else value.select(dim, entry)
                for value, dim in zip(arguments, in_dims, strict=True)
            )
        )
        for entry in range(size)
    ]
    if isinstance(entries[0], Tensor):
        return torch.stack(entries), 0
    return tuple(torch.stack(parts) for parts in zip(*entries, strict=True)), (0,) * len(entries[0])


class _Value(_Function):
    """What an operator computes: its value, parts without derivative, and last the tape.

    `torch.ops.timl.network` has logits, batch mean, batch variance and tape, `film_lstm` hidden
    states and tape. Both take x, weights and film, which are differentiated, then constants and
    sizes; the film of `film_lstm` may be None.
    """

    @staticmethod
    def forward(name: str, *arguments: Any) -> Any:
        return _below_autograd(name, *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.name, *arguments = inputs
        tensors, ctx.sizes = _apart(tuple(arguments))
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)  # zeros as large as the tape would be made otherwise
        ctx.save_for_backward(*tensors, output[-1])
        ctx.save_for_forward(*tensors, output[-1])
        ctx.constants, ctx.others = len(arguments) - 3, len(output) - 1

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if cotangent is None:
            return (*[None] * 4, *[None] * ctx.constants)
        tensors, wants_x = ctx.saved_tensors, ctx.needs_input_grad[1]
        x, weights, film, _ = _Gradient.call(ctx.name, cotangent, *tensors, *ctx.sizes, wants_x)
        return (
            None,
            x if wants_x else None,
            weights,
            None if tensors[2] is None else film,
            *[None] * ctx.constants,
        )

    @staticmethod
    def jvp(
        ctx: Any, _: None, x: Tensor | None, weights: Tensor | None, film: Tensor | None, *rest: Any
    ) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        directions = (x, _or_zeros(weights, tensors[1]), film)
        value = _ValueTangent.call(ctx.name, *tensors, *directions, *ctx.sizes)
        return (value, *[None] * ctx.others)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        return _Value.of_entries(info.batch_size, in_dims, arguments)


class _Gradient(_Function):
    """Gradients of x ([0] unless wanted), weights and film ([0] where it is None), and adjoints.

    Takes the cotangent of the value, the tensors of `_Value`, the tape, the sizes, and whether the
    gradient of x is wanted.
    """

    @staticmethod
    def forward(name: str, *arguments: Any) -> Any:
        return _below_autograd(f"{name}_backward", *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.name, *arguments = inputs
        tensors, (*ctx.sizes, ctx.x_gradient) = _apart(tuple(arguments))
        ctx.mark_non_differentiable(output[3])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, output[3])
        ctx.save_for_forward(*tensors, output[3])
        ctx.constants = len(arguments) - 4

    @staticmethod
    def backward(
        ctx: Any,
        x_direction: Tensor | None,
        weights_direction: Tensor | None,
        film_direction: Tensor | None,
        _: None,
    ) -> tuple[Tensor | None, ...]:
        # <v, gradient of (cotangent . value)> differentiated: by the cotangent it is the value's
        # tangent along v, by (x, weights, film) the gradient's tangent along v.
        wants_x = ctx.needs_input_grad[2]
        has_film = ctx.saved_tensors[3] is not None
        value, x, weights, film = _SecondOrder.call(
            ctx.name,
            *ctx.saved_tensors[1:],
            x_direction if ctx.x_gradient else None,
            _or_zeros(weights_direction, ctx.saved_tensors[2]),
            film_direction if has_film else None,
            *ctx.sizes,
            wants_x,
        )
        rest = [None] * ctx.constants
        return (None, value, x if wants_x else None, weights, film if has_film else None, *rest)

    @staticmethod
    def jvp(
        ctx: Any,
        _: None,
        cotangent: Tensor | None,
        x: Tensor | None,
        weights: Tensor | None,
        film: Tensor | None,
        *rest: Any,
    ) -> tuple[Tensor | None, ...]:
        *tensors, adjoints = ctx.saved_tensors
        sizes = (*ctx.sizes, ctx.x_gradient)
        directions = (x, _or_zeros(weights, tensors[2]), film)
        along = _SecondOrder.call(ctx.name, *tensors[1:], adjoints, *directions, *sizes)[1:]
        if cotangent is not None:  # the gradient is linear in it
            more = _Gradient.call(ctx.name, cotangent, *tensors[1:], *sizes)[:3]
            along = [a + b for a, b in zip(along, more, strict=True)]
        return (*along, None)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        return _Gradient.of_entries(info.batch_size, in_dims, arguments)


class _ValueTangent(_Function):
    """Tangent of the value along a direction in x, weights and film.

    Takes the tensors of `_Value`, the tape, the three directions and the sizes.
    """

    @staticmethod
    def forward(name: str, *arguments: Any) -> Any:
        (*tensors, x, weights_direction, film), sizes = _apart(arguments)
        series: Tensor = arguments[0]
        # `tangent` reads adjoints for the tangent of the gradient, which nobody asks for here
        nothing = series.new_zeros(_value_shape(name, series, sizes))
        adjoints = _below_autograd(f"{name}_backward", nothing, *tensors, *sizes, False)[3]
        given = (*tensors, adjoints, x, weights_direction, film, *sizes, False)
        return _below_autograd(f"{name}_tangent", *given)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.name, *arguments = inputs
        tensors, ctx.sizes = _apart(tuple(arguments))
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        # u . (J v) differentiated: by v it is u . J, the gradient of (u . value), and by what J
        # depends on that gradient's tangent along v
        *tensors, x, weights, film = ctx.saved_tensors
        sizes = (*ctx.sizes, True)
        *gradients, adjoints = _Gradient.call(ctx.name, cotangent, *tensors, *sizes)
        given = (*tensors, adjoints, x, weights, film, *sizes)
        second = [
            None if t is None else g
            for t, g in zip(tensors[:3], _SecondOrder.call(ctx.name, *given)[1:], strict=True)
        ]
        directions = [
            None if v is None else g for v, g in zip((x, weights, film), gradients, strict=True)
        ]
        constants = [None] * (len(tensors) - 3)
        return (None, *second, *constants, *directions, *[None] * len(ctx.sizes))

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> Any:
        raise RuntimeError(
            f"timl.{ctx.name} has no forward-mode derivative of a forward-mode derivative: take "
            f"one of the two in reverse mode (torch.func.grad), or use timl.reference.{ctx.name}"
        )

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        return _ValueTangent.of_entries(info.batch_size, in_dims, arguments)


def transformed(name: str, *arguments: Any) -> Any:
    """Call `torch.ops.timl.network` or `film_lstm` under torch.func or forward mode."""
    return _Value.call(name, *arguments)


class _SecondOrder(_Function):
    """Tangents of the value and of the gradients of x ([0] unless wanted), weights and film.

    Takes the tensors of `_Value`, the tape, the adjoints, the three directions, the sizes, and
    whether the gradient of x is wanted.
    """

    @staticmethod
    def forward(name: str, *arguments: Any) -> Any:
        return _below_autograd(f"{name}_tangent", *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.name = inputs[0]

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise RuntimeError(_THIRD.format(ctx.name))

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> Any:
        raise RuntimeError(_THIRD.format(ctx.name))

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        return _SecondOrder.of_entries(info.batch_size, in_dims, arguments)


_THIRD = (
    "timl.{0} is differentiable twice, and a third derivative was asked for: detach the second "
    "derivatives, or use timl.reference.{0}"
)


def _without_derivative(name: str, told: str) -> Callable[..., Any]:
    """Return a call of an operator that can be neither differentiated nor pushed forward."""

    def refuse(ctx: Any, *_: Any) -> Any:
        raise RuntimeError(told)

    members = {
        "forward": staticmethod(lambda *arguments: _below_autograd(name, *arguments)),
        "setup_context": staticmethod(lambda ctx, inputs, output: None),
        "backward": staticmethod(refuse),
    }
    made: type[_Function] = type(f"Undifferentiable_{name}", (_Function,), members)
    return made.call


_NO_GRADIENT = (
    "timl.{0} has no gradient: call it under torch.no_grad(), or differentiate timl.reference.{0}"
)
_CALLS: dict[str, Callable[..., Any]] = {
    **{
        f"{name}{part}": call
        for name in ("network", "film_lstm")
        for part, call in (
            ("", partial(_Value.call, name)),
            ("_backward", partial(_Gradient.call, name)),
            ("_tangent", partial(_SecondOrder.call, name)),
            (
                "_evaluate",
                _without_derivative(
                    f"{name}_evaluate",
                    f"torch.ops.timl.{name}_evaluate has no gradient: use timl.nn.operators.{name}",
                ),
            ),
        )
    },
    "meta_gradient": _without_derivative(
        "meta_gradient",
        "timl.meta_gradient's results are not differentiable: it returns the gradient itself",
    ),
    "adapt": _without_derivative("adapt", _NO_GRADIENT.format("adapt")),
    "describe": _without_derivative("describe", _NO_GRADIENT.format("describe")),
    "strong_evaluate": _without_derivative(
        "strong_evaluate", _NO_GRADIENT.format("strong_evaluate")
    ),
}
_ALTERNATIVES = {
    **{
        f"{name}{part}": f"timl.nn.operators.{name}"
        for name in ("network", "film_lstm")
        for part in ("", "_backward", "_tangent", "_evaluate")
    },
    "meta_gradient": "timl.reference.meta_gradient",
    "adapt": "timl.reference.adapt",
    "describe": "timl.reference.describe",
    "strong_evaluate": "timl.reference.strong_evaluate",
}
"""What torch.func and forward mode differentiate in place of each operator."""


def _autograd_kernel(name: str) -> Callable[..., Any]:
    """Return what PyTorch's autograd runs for an operator."""
    call = _CALLS[name]

    def kernel(*arguments: Any) -> Any:
        tensors = [a for a in arguments if isinstance(a, Tensor)]
        if _is_differentiated_by_transform(*tensors):
            raise RuntimeError(
                f"torch.ops.timl.{name} has no derivative in torch.func and in forward mode: use "
                f"{_ALTERNATIVES[name]}"
            )
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            return call(*arguments)
        return _below_autograd(name, *arguments)

    return kernel


_BY_ROWS = ("network_evaluate", "film_lstm_evaluate", "describe", "strong_evaluate")
"""Operators that treat series one by one."""
_MASK = 3
"""Place of the mask among the arguments of `film_lstm_evaluate`."""


def _rows_together(name: str) -> Callable[..., Any]:
    """Return the vmap of an operator of `_BY_ROWS`: one call if only series differ."""

    def rule(info: Any, in_dims: Any, x: Tensor, *rest: Any) -> tuple[Any, Any]:
        operator = getattr(_operators, name)
        if (
            x.dim() != 4
            or in_dims[0] is None
            or any(dim is not None for dim in in_dims[1:])
            or (
                name == "film_lstm_evaluate" and rest[_MASK - 1] is not None
            )  # a row for each series
        ):
            return _stack_entries(operator, info.batch_size, in_dims, (x, *rest))
        stacked = x.movedim(in_dims[0], 0)
        found = operator(stacked.flatten(0, 1), *rest)

        def apart(result: Tensor) -> Tensor:  # [0] where there are no distances
            first = stacked.shape[:2] if len(result) else (info.batch_size, 0)
            return result.reshape(*first, *result.shape[1:])

        if isinstance(found, Tensor):
            return apart(found), 0
        return tuple(map(apart, found)), (0,) * len(found)

    return rule


def _one_by_one(name: str) -> Callable[..., Any]:
    """Return the vmap of an operator whose entries are calls of their own."""

    def rule(info: Any, in_dims: Any, *arguments: Any) -> tuple[Any, Any]:
        return _stack_entries(getattr(_operators, name), info.batch_size, in_dims, arguments)

    return rule


_library = torch.library.Library("timl", "IMPL")  # type: ignore[no-untyped-call]
for _name in _CALLS:
    _library.impl(_name, _autograd_kernel(_name), "Autograd")  # type: ignore[no-untyped-call]
    _rule = _rows_together if _name in _BY_ROWS else _one_by_one
    torch.library.register_vmap(f"timl::{_name}", _rule(_name))
    # as PyTorch's own layers that need float32; float64 stays what it is
    for _device in ("cpu", "cuda"):
        torch.library.register_autocast(f"timl::{_name}", _device, torch.float32)
