"""Independent jobs over processes: started anew, fed through pipes, stopped with their consumer."""

from __future__ import annotations

import io
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import FunctionType
from typing import IO, Any, NamedTuple, TypeVar, overload

Job = TypeVar("Job")
Result = TypeVar("Result")
State = TypeVar("State")

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from timl.evaluation.parallel import _work; _work()"
)
_PATIENCE = 10.0
"""Seconds that a stopped worker has for writing its checkpoint."""


def default_workers() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@overload
def run_jobs(
    function: Callable[[Job], Result], jobs: Iterable[Job], *, workers: int, prepare: None = None
) -> Iterator[tuple[int, Result]]: ...
@overload
def run_jobs(
    function: Callable[[State, Job], Result],
    jobs: Iterable[Job],
    *,
    workers: int,
    prepare: Callable[[], State],
) -> Iterator[tuple[int, Result]]: ...
def run_jobs(
    function: Callable[..., Result],
    jobs: Iterable[Job],
    *,
    workers: int,
    prepare: Callable[[], State] | None = None,
) -> Iterator[tuple[int, Result]]:
    """Run a function for every job, in this process or spread over several.

    The processes are new interpreters, not forks (OpenMP does not survive a fork), which compute
    on one thread each. They do not import the caller's main script: it needs no
    ``if __name__ == "__main__"``, and what the jobs use must be importable from a module, not
    defined in that script or in a notebook. They end when the iterator is closed or collected,
    when a job fails, and with this process, however it ends. A job that is stopped then gets a
    KeyboardInterrupt and some seconds to keep what it has.

    Processes of one thread, because that is the fastest of three ways for `timl.table1`: on two
    CPUs, four meta-trainings of 40 epochs took 1 : 0.75 : 0.62 of the time (one thread : two
    threads : two processes) and cells 1 : 1.4 : 0.6, the processes' start of about three seconds
    included (one measurement, other work on the machine). Trainings of a few epochs are faster in
    one process.

    Parameters
    ----------
    function : callable
        Called as ``function(job)``, or with `prepare` as ``function(state, job)``.
    jobs : iterable
        Are started in this order.
    workers : int
        Processes, at least 1. With one, or a single job, all is done in this process: nothing
        needs to be picklable, and PyTorch uses the threads it is set to.
    prepare : callable, optional
        Makes a process's state, once in each.

    Yields
    ------
    index, result : int, Any
        Of each job as it is finished.

    Raises
    ------
    ValueError
        `workers` is less than 1.
    pickle.PicklingError
        Function, state or a job cannot go to another process.
    RuntimeError
        A process died, as one does that is out of memory.
    Exception
        What a job raised; the traceback in its process is the cause's text.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}: give at least 1")
    listed = list(jobs)
    workers = min(workers, len(listed))
    if workers <= 1:
        return _run_here(function, listed, prepare)
    return _run_apart(to_bytes((function, prepare)), listed, workers)


def to_bytes(thing: object) -> bytes:
    """Pickle what another process shall unpickle.

    Raises
    ------
    pickle.PicklingError
        It cannot be pickled, or is defined in the main script or a notebook.
    """
    buffer = io.BytesIO()
    try:
        _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(thing)
    except pickle.PicklingError:
        raise
    except (TypeError, AttributeError) as error:
        raise pickle.PicklingError(
            f"this cannot go to another process ({error}): use functions and classes of a "
            f"module, or workers=1"
        ) from error
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, type | FunctionType) and thing.__module__ == "__main__":
            raise pickle.PicklingError(
                f"{thing.__qualname__} is defined in the main script or notebook, which other "
                f"processes do not run: move it to a module that you import, or give workers=1"
            )
        return NotImplemented


def _run_here(
    function: Callable[..., Result], jobs: Sequence[Job], prepare: Callable[[], State] | None
) -> Iterator[tuple[int, Result]]:
    state = () if prepare is None or not jobs else (prepare(),)
    for index, job in enumerate(jobs):
        yield index, function(*state, job)


class _Reply(NamedTuple):
    job: int
    result: Any = None
    error: Exception | None = None


class _WorkerError(Exception):
    """The traceback of another process, as the cause of an error that came from there."""

    def __str__(self) -> str:
        return f"in a worker process:\n\n{self.args[0]}"


def _run_apart(setup: bytes, jobs: Sequence[Job], workers: int) -> Iterator[tuple[int, Any]]:
    waiting = iter(enumerate(jobs))
    replies: queue.SimpleQueue[_Reply] = queue.SimpleQueue()
    lock = threading.Lock()
    crew: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(workers):
            process = _start()
            crew.append(process)
            arguments = (process, setup, waiting, lock, replies)
            threading.Thread(target=_feed, args=arguments, daemon=True).start()
        for _ in jobs:
            reply = replies.get()
            if reply.error is not None:
                raise reply.error
            yield reply.job, reply.result
    except BaseException:
        for process in crew:
            process.terminate()
        raise
    finally:
        _bury(crew)


def _start() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _START, json.dumps([str(path) for path in sys.path])]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **_ONE_THREAD},
    )


def _bury(crew: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait for processes that are told to end; end those that do not."""
    deadline = time.monotonic() + _PATIENCE
    try:
        for process in crew:
            process.wait(max(deadline - time.monotonic(), 0.0))
    except subprocess.TimeoutExpired:
        pass
    finally:
        for process in crew:
            process.kill()
            process.wait()


def _feed(
    process: subprocess.Popen[bytes],
    setup: bytes,
    waiting: Iterator[tuple[int, Job]],
    lock: threading.Lock,
    replies: queue.SimpleQueue[_Reply],
) -> None:
    """Hand jobs to a process, one at a time, and its replies on, until none waits."""
    assert process.stdin is not None and process.stdout is not None
    index = -1
    with process.stdin as jobs, process.stdout as answers:
        try:
            _send(jobs, setup)
            while True:
                with lock:
                    index, job = next(waiting, (-1, None))
                if index < 0:
                    return
                _send(jobs, to_bytes(job))
                result, error, text = pickle.loads(pickle.load(answers))
                if error is not None:
                    error.__cause__ = _WorkerError(text)
                replies.put(_Reply(index, result, error))
        except (OSError, EOFError, pickle.UnpicklingError):
            replies.put(_Reply(index, error=RuntimeError(_obituary(process, index))))
        except Exception as error:
            replies.put(_Reply(index, error=error))


def _send(pipe: IO[bytes], message: bytes) -> None:
    """Send a message; pickled once more, which keeps where it ends."""
    pickle.dump(message, pipe)
    pipe.flush()


def _obituary(process: subprocess.Popen[bytes], index: int) -> str:
    try:
        code = process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        return f"the worker process at job {index} closed its pipes"
    if code < 0:
        name = signal.Signals(-code).name
        return (
            f"the worker process at job {index} was killed by {name}: where that was the system, "
            f"for want of memory, give fewer workers"
        )
    return f"the worker process at job {index} ended with status {code}: its message is above"


def _work() -> None:
    """Do jobs from standard input, in a process of `run_jobs`, until it is closed."""
    # Ctrl-C reaches all processes: what it means is for the first to say
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what jobs print does not belong among the replies
        inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=_listen, args=(inbox,), daemon=True).start()
        try:
            import torch

            torch.set_num_threads(1)
            setup = inbox.get()
            state: tuple[Any, ...] | None = None
            while True:
                job = inbox.get()
                try:
                    if state is None:
                        function, prepare = pickle.loads(setup)
                        state = () if prepare is None else (prepare(),)
                    answer = to_bytes((function(*state, pickle.loads(job)), None, ""))
                except Exception as error:
                    answer = _failure(error)
                _send(answers, answer)
        except KeyboardInterrupt:
            pass
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _listen(inbox: queue.SimpleQueue[bytes]) -> None:
    """Take jobs in; end the process when there will be none, whatever it is at."""
    try:
        while True:
            inbox.put(pickle.load(sys.stdin.buffer))
    except (EOFError, OSError, pickle.UnpicklingError):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _failure(error: Exception) -> bytes:
    """Return the reply of a job that failed; of an error that cannot be sent, its text."""
    text = traceback.format_exc()
    try:
        answer = to_bytes((None, error, text))
        pickle.loads(answer)
    except Exception:
        answer = to_bytes((None, RuntimeError(f"{type(error).__name__}: {error}"), text))
    return answer
