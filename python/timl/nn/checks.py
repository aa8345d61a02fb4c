"""Checks of arguments: sizes, rates, shapes, finite values."""

from __future__ import annotations

import torch
from torch import Tensor


def require_sizes(**sizes: int) -> None:
    """Raise ValueError unless every size is an integer of at least 1."""
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} is {size!r}: give an integer of at least 1")


def require_rate(name: str, rate: float) -> None:
    """Raise ValueError unless a dropout rate is in [0, 1)."""
    if not 0 <= rate < 1:
        raise ValueError(f"{name} is {rate}: give a number in [0, 1)")


def require_tensor(name: str, value: object, shape: tuple[int | str, ...], like: Tensor) -> Tensor:
    """Return the value if it is a tensor of this shape, of the dtype and on the device of `like`.

    A letter in the shape stands for any size. Under autocast another floating dtype than float64
    is cast to that of `like`, as PyTorch's own layers do.

    Raises
    ------
    TypeError
        If it is no tensor, or of another dtype.
    ValueError
        If it has another shape, or is on another device.
    """
    wanted = f"[{', '.join(str(size) for size in shape)}]"
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} is a {type(value).__name__}: give a tensor of shape {wanted}")
    given = list(value.shape)
    if len(given) != len(shape) or any(
        isinstance(size, int) and size != got for size, got in zip(shape, given, strict=True)
    ):
        raise ValueError(f"{name} is a tensor of shape {given}: give shape {wanted}")
    if (
        value.device == like.device
        and torch.amp.is_autocast_available(value.device.type)
        and torch.is_autocast_enabled(value.device.type)
        and value.is_floating_point()
        and value.dtype != torch.float64
        and like.dtype != torch.float64
    ):
        value = value.to(like.dtype)
    if value.dtype != like.dtype:
        raise TypeError(
            f"{name} is {value.dtype} of shape {given}, the model {like.dtype}: convert one of "
            f"them with .to()"
        )
    if value.device != like.device:
        raise ValueError(
            f"{name} is on {value.device}, of shape {given}, the model on {like.device}: move one "
            f"of them with .to()"
        )
    return value


def require_finite(name: str, tensor: Tensor) -> None:
    """Raise ValueError if the tensor has NaN or infinite values.

    Tensors whose values cannot be read pass: while compiling, under a transform of torch.func, fake
    or meta tensors. So do those on CUDA, where looking would mean waiting for the device: what is
    not finite there makes results that are not.
    """
    if (
        torch.compiler.is_compiling()
        or type(tensor) not in (Tensor, torch.nn.Parameter)
        or tensor.device.type in ("meta", "cuda")
        or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    ):
        return
    values = tensor.detach()
    # the sum is finite only if every value is, and costs one pass; it may also overflow
    if not bool(torch.isfinite(values.sum())) and not bool(torch.isfinite(values).all()):
        count = int((~torch.isfinite(values)).sum())
        raise ValueError(
            f"{name} is of shape {list(tensor.shape)} with {count} NaN or infinite values: fill or "
            f"remove them first"
        )
