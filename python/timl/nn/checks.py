"""Checks of the modules' arguments, with messages that show what was given and what is wanted."""

from __future__ import annotations

import torch
from torch import Tensor


def require_sizes(**sizes: int) -> None:
    """Raise ValueError unless every size is an integer of at least 1."""
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} must be an integer of at least 1, but is {size!r}")


def require_rate(name: str, rate: float) -> None:
    """Raise ValueError unless a dropout rate is in [0, 1)."""
    if not 0 <= rate < 1:
        raise ValueError(f"{name} must be in [0, 1), but is {rate}")


def require_tensor(name: str, value: object, shape: tuple[int | str, ...], like: Tensor) -> Tensor:
    """Return the value if it is a tensor of this shape, of the type and on the device of `like`.

    A letter in the shape stands for any size.

    Raises
    ------
    TypeError
        It is no tensor, or of another dtype.
    ValueError
        It has another shape, or is on another device.
    """
    wanted = f"[{', '.join(str(size) for size in shape)}]"
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor {wanted}, but is a {type(value).__name__}")
    given = list(value.shape)
    if len(given) != len(shape) or any(
        isinstance(size, int) and size != got for size, got in zip(shape, given, strict=True)
    ):
        raise ValueError(f"{name} must have shape {wanted}, but has {given}")
    if value.dtype != like.dtype:
        raise TypeError(
            f"{name} {given} is {value.dtype}, the model {like.dtype}: "
            f"convert one of them with .to()"
        )
    if value.device != like.device:
        raise ValueError(
            f"{name} {given} is on {value.device}, the model on {like.device}: "
            f"move one of them with .to()"
        )
    return value


def require_finite(name: str, tensor: Tensor) -> None:
    """Raise ValueError if the tensor holds NaN or infinite values.

    Tensors without values of their own to look at (while compiling, under a transform of
    torch.func, fake or meta tensors) pass.
    """
    if (
        torch.compiler.is_compiling()
        or type(tensor) not in (Tensor, torch.nn.Parameter)
        or tensor.is_meta
        or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    ):
        return
    values = tensor.detach()
    # the sum is finite only if every value is, and costs one pass; it may also overflow
    if not bool(torch.isfinite(values.sum())) and not bool(torch.isfinite(values).all()):
        count = int((~torch.isfinite(values)).sum())
        raise ValueError(
            f"{name} {list(tensor.shape)} holds {count} NaN or infinite values: "
            f"fill or remove them first"
        )
