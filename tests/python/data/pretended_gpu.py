"""A GPU that is pretended: tensors that count as CUDA's, and the errors that a real one gives.

All tensors are on the CPU and computed there; a tensor is on the pretended GPU if its storage was
moved there. So code runs with device="cuda" where there is no GPU, its results are the CPU's to
the bit, and an operation on tensors of both raises, as does NumPy's look at one of the GPU. What
PyTorch makes by itself within a call on tensors, such as zeros for a derivative that is missing, is
of either device: on a real one it would be made where it is needed. The modes are of one thread.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")

_MIXED = {
    *(torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default),
    *(torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default),
}
"""Operations that PyTorch allows on tensors of both: copies, and indices of the CPU."""


class _Storages:
    """The storages of the GPU and of either, kept so that none is given to another tensor."""

    def __init__(self) -> None:
        self.kept: dict[int, Any] = {}
        self.either: dict[int, Any] = {}
        self.within_a_call_on_tensors = False

    def hold(self, tensor: Tensor) -> bool:
        """Return whether a tensor, or what torch.func wraps in it, is the GPU's."""
        while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            tensor = torch._C._functorch.get_unwrapped(tensor)
        return tensor.untyped_storage()._cdata in self.kept

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        self.kept[storage._cdata] = storage
        self.either.pop(storage._cdata, None)

    def on_either(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self.either

    def add_to_either(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        self.either[storage._cdata] = storage

    def move(self, tensor: Tensor, place: torch.device) -> Tensor:
        """Return a tensor where it should be: itself, or a copy."""
        if self.hold(tensor) == (place.type == "cuda"):
            return tensor
        moved = tensor.clone()
        if place.type == "cuda":
            self.add(moved)
        else:
            self.kept.pop(moved.untyped_storage()._cdata, None)
        return moved


class _Operations(TorchDispatchMode):
    """Every operation: refuses tensors of both devices, and keeps results where arguments are."""

    def __init__(self, gpu: _Storages) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [v for v in tree_leaves((args, kwargs)) if isinstance(v, Tensor)]
        there = [tensor for tensor in tensors if self.gpu.hold(tensor)]
        here = [t for t in tensors if not (self.gpu.hold(t) or self.gpu.on_either(t))]
        ours = func.namespace == "timl"
        if there and func not in _MIXED and any(t.dim() > 0 or ours for t in here):
            raise RuntimeError(
                f"{func}: expected all tensors to be on the same device, and found "
                f"{[list(t.shape) for t in there]} on {GPU} and {[list(t.shape) for t in here]} on "
                f"{CPU}"
            )
        if func is torch.ops.aten.index.Tensor and there and not self.gpu.hold(args[0]):
            raise RuntimeError(f"{func}: indices on {GPU} for a tensor on {CPU}")
        found = func(*args, **(kwargs or {}))
        made = [value for value in tree_leaves(found) if isinstance(value, Tensor)]
        if there and func is not torch.ops.aten.copy_.default:
            for value in made:
                self.gpu.add(value)
        elif not (there or here) and (tensors or self.gpu.within_a_call_on_tensors):
            for value in made:
                self.gpu.add_to_either(value)
        return found


class _Names(TorchFunctionMode):
    """What names devices: attributes of tensors, moves, and tensors that are made on a device."""

    def __init__(self, gpu: _Storages) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        first = args[0] if args and isinstance(args[0], Tensor) else None
        there = first is not None and self.gpu.hold(first)
        if func == torch.Tensor.device.__get__:
            return GPU if there else CPU
        if func in (torch.Tensor.is_cuda.__get__, torch.Tensor.is_cpu.__get__):
            return there == (func == torch.Tensor.is_cuda.__get__)
        if func in (torch.Tensor.numpy, torch.Tensor.__array__) and there:
            raise TypeError(f"can't convert {GPU} device type tensor to numpy")
        if func in (torch.Tensor.cuda, torch.Tensor.cpu):
            return self.gpu.move(first, GPU if func is torch.Tensor.cuda else CPU)
        place = None
        if func is torch.Tensor.to:
            place = _place([*args[1:], *kwargs.values()], self.gpu)
            args = (first, *(_without(value) for value in args[1:]))
        elif kwargs.get("device") is not None:
            place = torch.device(kwargs["device"])
        if func in (torch.Tensor.new_tensor, torch.Tensor.__deepcopy__) and there:
            place = GPU
        kwargs = {name: _without(value) for name, value in kwargs.items()}
        before = self.gpu.within_a_call_on_tensors
        self.gpu.within_a_call_on_tensors = any(
            isinstance(value, Tensor) for value in tree_leaves((args, kwargs))
        )
        try:
            found = func(*args, **kwargs)
        finally:
            self.gpu.within_a_call_on_tensors = before
        return found if place is None else self.gpu.move(found, place)


def _place(values: list[Any], gpu: _Storages) -> torch.device | None:
    """Return the device that arguments of `Tensor.to` name, or None."""
    for value in values:
        if isinstance(value, Tensor):
            return GPU if gpu.hold(value) else CPU
        if isinstance(value, str | torch.device):
            return torch.device(value)
    return None


def _without(value: Any) -> Any:
    """Return an argument with the CPU in place of the GPU."""
    return CPU if isinstance(value, str | torch.device) and "cuda" in str(value) else value


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Let code run within the block as if there were one GPU."""
    gpu, parse = _Storages(), torch._C._nn._parse_to

    @functools.wraps(parse)
    def parsed(*args: Any, **kwargs: Any) -> Any:  # of `Module.to(tensor)`
        device, *others = parse(*args, **kwargs)
        given = [v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)]
        return (_place(given, gpu) or device, *others)

    with (
        mock.patch.multiple(
            torch.cuda, is_available=lambda: True, device_count=lambda: 1, current_device=lambda: 0
        ),
        mock.patch("timl.nn.devices.HAS_CUDA", True),
        mock.patch.object(torch._C._nn, "_parse_to", parsed),
        _Operations(gpu),
        _Names(gpu),
    ):
        yield


def to_cpu(values: Any) -> Any:
    """Return tensors, in lists and dicts too, as they are on the CPU."""
    return tree_map(lambda v: v.detach().cpu() if isinstance(v, Tensor) else v, values)
