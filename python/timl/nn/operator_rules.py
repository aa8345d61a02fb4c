"""How the compiled operators take part in differentiation, in torch.func and in autocast.

The network's derivatives are functions of their own, each the derivative of another: its logits,
the engine's `backward`, and the engine's `tangent` (Pearlmutter 1994), which is reverse mode's
second derivative and forward mode's first. Every other operator has no derivative and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["carries_transform", "is_differentiated_by_transform", "network_function"]

_operators = torch.ops.timl

# arguments of torch.ops.timl.network in order: x, weights, film, mask, running_mean,
# running_variance, hidden, layers, outputs
_NETWORK_ARGUMENTS = 9
# those of network_backward: the cotangent, six tensors, the tape, hidden, layers, outputs,
# x_gradient
_BACKWARD_ARGUMENTS = 12


def carries_transform(*tensors: Tensor | None) -> bool:
    """Return whether a tensor is one of torch.func's, or carries a forward-mode tangent."""
    if torch.compiler.is_compiling():
        return False
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    return any(t is not None and (wrapped(t) or _has_tangent(t)) for t in tensors)


def is_differentiated_by_transform(*tensors: Tensor | None) -> bool:
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


def _or_zeros(direction: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if direction is None else direction


class _Function(torch.autograd.Function):
    """A function whose vmap calls it once for each entry, since every entry has its own weights."""

    @classmethod
    def call(cls, *arguments: Any) -> Any:
        """Call the function so that PyTorch sees its derivatives."""
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


class _Network(_Function):
    """Logits [B] or [B, K], batch mean and variance [L, H], tape of `torch.ops.timl.network`."""

    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _below_autograd("network", *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, hidden, layers, outputs = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*tensors, output[3])
        ctx.save_for_forward(*tensors, output[3])
        ctx.sizes = (hidden, layers, outputs)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, tape = ctx.saved_tensors
        wants_x = ctx.needs_input_grad[0]
        x, weights, film, _ = _NetworkBackward.call(cotangent, *tensors, tape, *ctx.sizes, wants_x)
        return (x if wants_x else None, weights, film, *[None] * (_NETWORK_ARGUMENTS - 3))

    @staticmethod
    def jvp(
        ctx: Any, x: Tensor | None, weights: Tensor | None, film: Tensor | None, *_: Any
    ) -> tuple[Tensor | None, ...]:
        *tensors, tape = ctx.saved_tensors
        logits = _LogitsTangent.call(
            *tensors, tape, x, _or_zeros(weights, tensors[1]), film, *ctx.sizes
        )
        return logits, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        return _Network.of_entries(info.batch_size, in_dims, arguments)


class _NetworkBackward(_Function):
    """Gradients of x ([0] unless wanted), weights and film, and the adjoints."""

    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _below_autograd("network_backward", *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, hidden, layers, outputs, x_gradient = (
            inputs  # the cotangent, those of _Network, the tape
        )
        ctx.mark_non_differentiable(output[3])
        ctx.save_for_backward(*tensors, output[3])
        ctx.save_for_forward(*tensors, output[3])
        ctx.sizes = (hidden, layers, outputs)
        ctx.x_gradient = x_gradient

    @staticmethod
    def backward(
        ctx: Any, x_direction: Tensor, weights_direction: Tensor, film_direction: Tensor, _: Any
    ) -> tuple[Tensor | None, ...]:
        # <v, gradient of (cotangent . logits)> differentiated: by the cotangent it is the logits'
        # tangent along v, by (x, weights, film) the gradient's tangent along v.
        wants_x = ctx.needs_input_grad[1]
        logits, x, weights, film = _NetworkTangent.call(
            *ctx.saved_tensors[1:],
            x_direction if ctx.x_gradient else None,
            weights_direction,
            film_direction,
            *ctx.sizes,
            wants_x,
        )
        rest = [None] * (_BACKWARD_ARGUMENTS - 4)
        return (logits, x if wants_x else None, weights, film, *rest)

    @staticmethod
    def jvp(
        ctx: Any,
        cotangent: Tensor | None,
        x: Tensor | None,
        weights: Tensor | None,
        film: Tensor | None,
        *_: Any,
    ) -> tuple[Tensor | None, ...]:
        *tensors, adjoints = ctx.saved_tensors
        sizes = (*ctx.sizes, ctx.x_gradient)
        weights = _or_zeros(weights, tensors[2])
        along = _NetworkTangent.call(*tensors[1:], adjoints, x, weights, film, *sizes)[1:]
        if cotangent is not None:  # the gradient is linear in it
            more = _NetworkBackward.call(cotangent, *tensors[1:], *sizes)[:3]
            along = [a + b for a, b in zip(along, more, strict=True)]
        return (*along, None)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        return _NetworkBackward.of_entries(info.batch_size, in_dims, arguments)


class _LogitsTangent(_Function):
    """Tangent of the logits along a direction in x, weights and film."""

    @staticmethod
    def forward(*arguments: Any) -> Any:
        *tensors, tape, x, weights, film, hidden, layers, outputs = arguments
        # `tangent` reads adjoints for the tangent of the gradient, which nobody asks for here
        batch = len(tensors[0])
        nothing = tensors[0].new_zeros(batch if outputs == 1 else (batch, outputs))
        sizes = (hidden, layers, outputs, False)
        adjoints = _below_autograd("network_backward", nothing, *tensors, tape, *sizes)[3]
        directions = (x, weights, film)
        return _below_autograd("network_tangent", *tensors, tape, adjoints, *directions, *sizes)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, hidden, layers, outputs = inputs
        ctx.save_for_backward(*tensors)
        ctx.sizes = (hidden, layers, outputs)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        # u . (J v) differentiated: by v it is u . J, the gradient of (u . logits), and by what J
        # depends on that gradient's tangent along v
        *tensors, x, weights, film = ctx.saved_tensors
        sizes = (*ctx.sizes, True)
        *gradients, adjoints = _NetworkBackward.call(cotangent, *tensors, *sizes)
        second = _NetworkTangent.call(*tensors, adjoints, x, weights, film, *sizes)[1:]
        directions = [
            None if v is None else g for v, g in zip((x, weights, film), gradients, strict=True)
        ]
        return (*second, None, None, None, None, *directions, None, None, None)

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> Any:
        raise RuntimeError(
            "timl.network has no forward-mode derivative of a forward-mode derivative: take one of "
            "the two in reverse mode (torch.func.grad), or use timl.reference.network"
        )

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        return _LogitsTangent.of_entries(info.batch_size, in_dims, arguments)


def network_function(*arguments: Any) -> Any:
    """Call `torch.ops.timl.network`, with those arguments, under torch.func or forward mode."""
    return _Network.call(*arguments)


_THIRD = (
    "timl.network is differentiable twice, and a third derivative was asked for: detach the second "
    "derivatives, or use timl.reference.network"
)


class _NetworkTangent(_Function):
    """Tangents of the logits and of the gradients of x ([0] unless wanted), weights and film."""

    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _below_autograd("network_tangent", *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise RuntimeError(_THIRD)

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> Any:
        raise RuntimeError(_THIRD)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        return _NetworkTangent.of_entries(info.batch_size, in_dims, arguments)


def _without_derivative(name: str, told: str) -> type[_Function]:
    """Return an operator as a function that can be neither differentiated nor pushed forward."""

    def refuse(ctx: Any, *_: Any) -> Any:
        raise RuntimeError(told)

    members = {
        "forward": staticmethod(lambda *arguments: _below_autograd(name, *arguments)),
        "setup_context": staticmethod(lambda ctx, inputs, output: None),
        "backward": staticmethod(refuse),
    }
    return type(f"Undifferentiable_{name}", (_Function,), members)


_NO_GRADIENT = (
    "timl.{0} has no gradient: call it under torch.no_grad(), or differentiate timl.reference.{0}"
)
_FUNCTIONS: dict[str, type[_Function]] = {
    "network": _Network,
    "network_backward": _NetworkBackward,
    "network_tangent": _NetworkTangent,
    "network_evaluate": _without_derivative(
        "network_evaluate",
        "torch.ops.timl.network_evaluate has no gradient: use timl.nn.operators.network",
    ),
    "meta_gradient": _without_derivative(
        "meta_gradient",
        "timl.meta_gradient's results are not differentiable: it returns the gradient itself",
    ),
    "describe": _without_derivative("describe", _NO_GRADIENT.format("describe")),
    "strong_evaluate": _without_derivative(
        "strong_evaluate", _NO_GRADIENT.format("strong_evaluate")
    ),
}
_ALTERNATIVES = {
    "network": "timl.nn.operators.network",
    "network_backward": "timl.nn.operators.network",
    "network_tangent": "timl.nn.operators.network",
    "network_evaluate": "timl.nn.operators.network",
    "meta_gradient": "timl.reference.meta_gradient",
    "describe": "timl.reference.describe",
    "strong_evaluate": "timl.reference.strong_evaluate",
}
"""What torch.func and forward mode differentiate in place of each operator."""


def _autograd_kernel(name: str) -> Callable[..., Any]:
    """Return what PyTorch's autograd runs for an operator."""
    function = _FUNCTIONS[name]

    def kernel(*arguments: Any) -> Any:
        tensors = [a for a in arguments if isinstance(a, Tensor)]
        if is_differentiated_by_transform(*tensors):
            raise RuntimeError(
                f"torch.ops.timl.{name} has no derivative in torch.func and in forward mode: use "
                f"{_ALTERNATIVES[name]}"
            )
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            return function.call(*arguments)
        return _below_autograd(name, *arguments)

    return kernel


def _rows_together(name: str) -> Callable[..., Any]:
    """Return the vmap of an operator that treats series one by one: one call for all of them."""

    def rule(info: Any, in_dims: Any, x: Tensor, *rest: Any) -> tuple[Any, Any]:
        operator = getattr(_operators, name)
        if x.dim() != 4 or in_dims[0] is None or any(dim is not None for dim in in_dims[1:]):
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
for _name in _FUNCTIONS:
    _library.impl(_name, _autograd_kernel(_name), "Autograd")  # type: ignore[no-untyped-call]
    _rule = _rows_together if _name in ("network_evaluate", "describe", "strong_evaluate") else None
    torch.library.register_vmap(f"timl::{_name}", (_rule or _one_by_one)(_name))
    # as PyTorch's own layers that need float32; float64 stays what it is
    for _device in ("cpu", "cuda"):
        torch.library.register_autocast(f"timl::{_name}", _device, torch.float32)
