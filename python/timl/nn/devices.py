"""Where models compute: on a device, or on one thread of the CPU."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias, TypeVar

import torch
from torch import nn

from timl._core import HAS_CUDA

Device: TypeAlias = str | torch.device
"""Name of a device as PyTorch has it, "cpu", "cuda" or "cuda:1", or the device itself."""

Module = TypeVar("Module", bound=nn.Module)


def checked_device(device: Device) -> torch.device:
    """Return a device on which timl computes, "cuda" with the number of PyTorch's current one.

    Raises
    ------
    ValueError
        If it is no device's name, of another kind than CPU and CUDA, or CUDA where this build of
        timl, this PyTorch or this machine has none.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"device is {device!r}: give 'cpu', 'cuda' or 'cuda:1'") from None
    if found.type == "cpu":
        return torch.device("cpu")
    if found.type != "cuda":
        raise ValueError(
            f"device is {str(found)!r}, where timl does not compute: give 'cpu' or 'cuda'"
        )
    given = f"device is {str(found)!r}"
    if not HAS_CUDA:
        raise ValueError(
            f"{given}, and this timl was built without CUDA: install one that was built where nvcc "
            f"is, or give 'cpu'"
        )
    if not torch.cuda.is_available():
        why = (
            "PyTorch finds no GPU: see nvidia-smi"
            if torch.backends.cuda.is_built()  # type: ignore[no-untyped-call]
            else f"PyTorch {torch.__version__} was built without CUDA: install one that has it"
        )
        raise ValueError(f"{given}, and {why}, or give 'cpu'")
    count = torch.cuda.device_count()
    number = torch.cuda.current_device() if found.index is None else found.index
    if number >= count:
        there, which = (
            ("is 1 GPU", "'cuda:0'")
            if count == 1
            else (f"are {count} GPUs", f"'cuda:0' to 'cuda:{count - 1}'")
        )
        raise ValueError(f"{given}, and there {there}: give {which}")
    return torch.device("cuda", number)


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a model: that of its first parameter or buffer."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


def on_device(module: Module, device: Device | None) -> Module:
    """Return a model where it is to compute: itself where it is there already, else a copy.

    Raises
    ------
    ValueError
        If timl does not compute there, see `checked_device`.
    """
    if device is None or device_of(module) == (place := checked_device(device)):
        return module
    return copy.deepcopy(module).to(place)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch's CPU operations within the block use one thread, so that all bits are fixed.

    The task encoder's matrix products are small; the BLAS behind PyTorch splits some of them by the
    number of threads and then rounds differently. Switching costs under a microsecond. The number
    of threads belongs to the whole process: other Python threads see it too.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
