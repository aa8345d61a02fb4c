"""What a worker process does: one job at a time, until its caller stops it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle

from timl.nn import one_thread

PATIENCE = 10.0
"""Seconds that a stopped job has for writing its checkpoint."""


class Reply(NamedTuple):
    """What came of a job."""

    number: int
    """Number of the job."""
    result: Any = None
    error: Exception | None = None
    traceback: str = ""
    """Where the error came from, as text."""


class _State:
    """State of this process."""

    function: tuple[str, Callable[[Any], Any]] | None = None
    """The function that was last called, and the file that it was read from."""
    busy = False
    """Whether a job is running."""
    stopping = False
    """Whether the caller has told this process to stop."""
    one_at_a_time = threading.Lock()
    """Held by the running job: seeds and thread counts belong to the whole process."""


def start_worker(caller: int) -> None:
    """Let a process of loky stop on SIGTERM, leave Ctrl-C to its caller, and end with it.

    Parameters
    ----------
    caller
        Id of the process that started this one.
    """
    # Ctrl-C reaches all processes of a terminal: what it means is for the caller to say
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_end_with, args=(caller,), daemon=True).start()


def do_job(file: str, number: int, job: Any) -> Reply:
    """Do one job of the function in a file, which this process reads once."""
    with _State.one_at_a_time:
        if _State.stopping:
            return Reply(number)
        try:
            _State.busy = True
            return Reply(number, _function(file)(job))
        except Exception as error:
            return Reply(number, error=_sendable(error), traceback=traceback.format_exc())
        except KeyboardInterrupt:  # of `_stop`: nobody waits for the reply
            return Reply(number)
        finally:
            _State.busy = False


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Let PyTorch, BLAS, OpenMP and joblib use one thread in the block.

    Results then never depend on the number of threads: a BLAS splits sums by it.
    """
    from joblib import parallel_config
    from threadpoolctl import threadpool_limits

    with parallel_config("sequential", n_jobs=1), threadpool_limits(1), one_thread():
        yield


def _function(file: str) -> Callable[[Any], Any]:
    if _State.function is None or _State.function[0] != file:
        _State.function = None  # before the next one takes memory
        _State.function = file, cloudpickle.loads(Path(file).read_bytes())
    return _State.function[1]


def _sendable(error: Exception) -> Exception:
    """Return the error, or of one that cannot be pickled and read back its text."""
    try:
        cloudpickle.loads(cloudpickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _stop(number: int, frame: object) -> None:
    _State.stopping = True
    if _State.busy:
        raise KeyboardInterrupt


def _end_with(caller: int) -> None:
    """End this process some seconds after its caller, however that ends."""
    while os.getppid() == caller:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    while _State.busy and time.monotonic() < deadline:
        time.sleep(0.01)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
