"""Processes that train one model together: each has a share of every meta-batch's tasks."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from timl import _core
from timl.meta.configuration import differences
from timl.nn.devices import Device, checked_device
from timl.parameters import MetaGradient

Result = TypeVar("Result")

_WITH_GPUS = "cpu:gloo,cuda:nccl"
"""The backends of processes that have GPUs: gradients go from GPU to GPU, all else by the CPU."""

_TIMEOUT = timedelta(days=1)
"""How long a process waits for the others: the first one alone learns the deep kernel."""


class Ranks:
    """The processes of torch.distributed's default group; one, where there is none.

    All of them hold the same model and compute everything alike but the meta-steps of the tasks,
    of which each does every n-th; their gradients are exchanged and summed by all in the order of
    the tasks. The results are the bits of one process.

    Raises
    ------
    ConnectionError
        From every method that exchanges something, where another process has ended.
    """

    def __init__(self) -> None:
        joined = dist.is_available() and dist.is_initialized()
        self.count: int = dist.get_world_size() if joined else 1
        """Number of processes."""
        self.number: int = dist.get_rank() if joined else 0
        """Number of this process, from 0."""

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and shows progress."""
        return self.number == 0

    def device(self, device: Device) -> torch.device:
        """Return this process's device where all are given the same one.

        "cuda" without a number is, for each process of a machine, a GPU of its own.

        Raises
        ------
        ValueError
            If timl does not compute there (see `timl.nn.checked_device`), or the machine has fewer
            GPUs than processes.
        """
        found = checked_device(device)
        if self.count == 1 or found.type == "cpu" or torch.device(device).index is not None:
            return found
        number, count = int(os.environ.get("LOCAL_RANK", self.number)), torch.cuda.device_count()
        if number >= count:
            raise ValueError(
                f"device is 'cuda' in process {number} of this machine, counted from 0, which has "
                f"{count} GPU{'s' * (count > 1)}: start as many processes, for torchrun "
                f"--nproc-per-node {count}"
            )
        return torch.device("cuda", number)

    def require_exchange(self, device: torch.device) -> None:
        """Raise ValueError unless the processes can gather what lies on a device of each."""
        if self.count == 1 or device.type == "cpu":
            return
        backends = dist.get_backend_config()
        if "cuda:nccl" not in backends:
            raise ValueError(
                f"device is {str(device)!r} in a group of processes with the backends {backends}: "
                f"join them with init_process_group('{_WITH_GPUS}')"
            )

    def meta_gradient(self, step: Callable[[int], MetaGradient], tasks: int) -> MetaGradient:
        """Return what the engine returns for all tasks, each computed by one process.

        Parameters
        ----------
        step
            The engine's meta-step of the task of a number alone.
        tasks
            Number N of tasks.
        """
        own = [step(task) for task in range(self.number, tasks, self.count)]
        like = own[0] if own else step(0)  # more processes than tasks: for its shapes
        shapes = [field.shape for field in like]
        sizes = [field.numel() for field in like]
        rows = [torch.cat([field.flatten() for field in found]) for found in own]
        most = -(-tasks // self.count)
        sent = like.loss.new_zeros(most, sum(sizes))
        if rows:
            sent[: len(rows)] = torch.stack(rows)
        received = [torch.empty_like(sent) for _ in range(self.count)]
        self._exchange(lambda: dist.all_gather(received, sent))
        found = torch.stack(received, dim=1).flatten(0, 1)[:tasks]  # task n of rank n % count
        fields = MetaGradient(
            *(
                part.reshape(tasks, *shape)
                for part, shape in zip(torch.split(found, sizes, dim=1), shapes, strict=True)
            )
        )
        scale = torch.ones((), dtype=sent.dtype) / tasks
        return MetaGradient(
            loss=fields.loss.flatten(0, 1),
            logits=fields.logits.flatten(0, 1),
            support_loss=fields.support_loss.flatten(0, 1),
            weights_gradient=functools.reduce(torch.add, fields.weights_gradient) * scale,
            film_gradient=fields.film_gradient.flatten(0, 1) * scale,
            step_size_gradient=functools.reduce(torch.add, fields.step_size_gradient * scale),
            batch_mean=fields.batch_mean.flatten(0, 1),
            batch_variance=fields.batch_variance.flatten(0, 1),
        )

    def require_same(self, name: str, given: Mapping[str, Any]) -> None:
        """Raise ValueError unless all processes have the same of something.

        Parameters
        ----------
        name
            What it is, for the message.
        given
            Values that JSON takes, by their names.
        """
        if self.count == 1:
            return
        mine = json.dumps({**given, "instruction set": _core.instruction_set()}, sort_keys=True)
        all_of_them: list[str] = [""] * self.count
        self._exchange(lambda: dist.all_gather_object(all_of_them, mine))
        first = json.loads(all_of_them[0])
        for number, text in enumerate(all_of_them):
            other = json.loads(text)
            differing = differences(first, other)
            if differing:
                values = ", ".join(f"{k} = {a!r} and {b!r}" for k, (a, b) in differing.items())
                raise ValueError(
                    f"{name} of processes 0 and {number} differ: {values}: start all with the same "
                    f"arguments and data, on processors of one kind"
                )

    def require_same_bits(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise RuntimeError unless all processes hold the same bits."""
        if self.count == 1:
            return
        digest = hashlib.sha256()
        for tensor in tensors.values():
            digest.update(tensor.detach().cpu().numpy().tobytes())
        mine = torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)
        received = [torch.empty_like(mine) for _ in range(self.count)]
        self._exchange(lambda: dist.all_gather(received, mine))
        for number, other in enumerate(received):
            if not torch.equal(other, received[0]):
                raise RuntimeError(
                    f"processes 0 and {number} hold other weights after the same epoch: train on "
                    f"processors of one kind, with one version of PyTorch"
                )

    def of_first(self, make: Callable[[], Result]) -> Result:
        """Return in every process what a function returns that the first one alone calls."""
        made = [make() if self.first else None]
        self._exchange(lambda: dist.broadcast_object_list(made, src=0))
        return cast(Result, made[0])

    def in_turn(self, make: Callable[[], Result]) -> Result:
        """Return what a function returns that the first process calls before all others.

        For what leaves files that the others read.
        """
        if not self.first:
            self._exchange(self._wait)
        made = make()
        if self.first and self.count > 1:
            self._exchange(self._wait)
        return made

    @staticmethod
    def _wait() -> None:
        dist.barrier()

    def _exchange(self, collective: Callable[[], Any]) -> None:
        if self.count == 1:
            return
        try:
            collective()
        except RuntimeError as error:
            raise ConnectionError(
                f"process {self.number} of {self.count} has lost another one of the run: start all "
                f"of them again with the same arguments, they go on from the last checkpoint"
            ) from error


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Join the processes that torchrun has started, and leave them in the end.

    What torchrun tells its processes is in the environment: without RANK and WORLD_SIZE this
    process is alone, and a group that has been joined before is left as it is.
    """
    started = int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ
    if not started or dist.is_initialized():
        yield Ranks()
        return
    gpus = torch.cuda.is_available() and dist.is_nccl_available()
    dist.init_process_group(_WITH_GPUS if gpus else "gloo", timeout=_TIMEOUT)
    try:
        yield Ranks()
    finally:
        dist.destroy_process_group()
