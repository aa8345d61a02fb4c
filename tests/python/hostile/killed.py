"""Functions run in a child process that is killed, or that holds something meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def kill_at(call: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, which kills the process instead of being called for the n-th time."""
    left = [call]

    def counted(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    return counted


def run_apart(block: Callable[[], object]) -> bool:
    """Run a function in a fork of this process; return whether it was killed."""
    child = os.fork()
    if child == 0:
        try:
            block()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@contextmanager
def held_elsewhere(lock: Path) -> Iterator[None]:
    """Let another process hold a lock file while the block runs."""
    import fcntl

    ready, told = os.pipe()
    wait, end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(end)
        descriptor = os.open(lock, os.O_CREAT | os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(told, b".")
        os.read(wait, 1)
        os._exit(0)
    os.read(ready, 1)
    try:
        yield
    finally:
        os.close(end)
        os.waitpid(child, 0)
        for descriptor in (ready, told, wait):
            os.close(descriptor)
