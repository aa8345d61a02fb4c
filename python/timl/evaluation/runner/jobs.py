"""Independent jobs over processes, through joblib: its loky workers, or a cluster's."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Generator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

import cloudpickle
import joblib
from joblib.parallel import get_active_backend

from timl.evaluation.runner.loky import InterruptibleLoky, is_loky
from timl.evaluation.runner.worker import Reply, do_job

Job = TypeVar("Job")
Result = TypeVar("Result")


_JOBS = ".jobs-"
"""Beginning of the names of the files that functions are sent in."""


def remove_sent_functions(folder: Path) -> None:
    """Remove the functions that killed processes left in a folder, which no other may use."""
    for file in folder.glob(f"{_JOBS}*.pickle"):
        file.unlink(missing_ok=True)


def worker_count(workers: int | None) -> int:
    """Return the number of processes that a `workers` argument means.

    Parameters
    ----------
    workers
        A number of at least 1. None means those of the active `joblib.parallel_config`, or as
        many as there are CPUs for this process where none is active. A cluster always uses all
        its workers, except with 1, which means this process.

    Raises
    ------
    ValueError
        If the number is below 1, or the active joblib backend cannot serve.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}: give at least 1")
    if workers == 1:
        return 1
    backend, configured = get_active_backend()
    if is_loky(backend) and configured is None:
        return workers or int(joblib.cpu_count())
    count = int(joblib.effective_n_jobs(configured if workers is None else workers))
    if count > 1 and not is_loky(backend):
        _require_processes(backend)
    return count


class Workers(Generic[Job, Result]):
    """Processes that call one function for many jobs.

    By default they are loky's: new interpreters, not forks (OpenMP does not survive a fork), whose
    thread pools have one thread. Inside `joblib.parallel_config(backend="dask")` they are
    those of the Dask cluster. Functions and classes of a script or a notebook go to them too, by
    value. The function is written to a file in `folder` once and read once by every process.

    When a job fails, a process dies, the caller is interrupted or the results are closed, loky's
    processes are stopped: a job that is running gets a KeyboardInterrupt and some seconds to keep
    what it has. They also end with the calling process, however it ends. After a success they
    stay idle for the next call, as joblib keeps them: at most five minutes. Processes of a
    cluster belong to the cluster: they finish the job that they are at.

    Parameters
    ----------
    function
        Is called with one job.
    folder
        An existing folder that every process can read; on a cluster, one that all machines share.
    workers
        Number of processes, as of `worker_count`. With one, or for a single job, all is done in
        this process: nothing needs to be picklable, and PyTorch uses the threads it is set to.
    """

    def __init__(self, function: Callable[[Job], Result], folder: Path, workers: int) -> None:
        self.function, self.workers = function, workers
        # absolute: workers of a cluster have working directories of their own
        self._file = folder.resolve() / f"{_JOBS}{uuid.uuid4().hex}.pickle"

    def __enter__(self) -> Workers[Job, Result]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.unlink(missing_ok=True)

    def run(self, jobs: Sequence[Job]) -> Generator[tuple[int, Result], None, None]:
        """Do jobs, started in their order.

        Yields
        ------
        number, result
            The number of a job and what came of it, as it is finished.

        Raises
        ------
        ValueError
            If the function cannot be sent to other processes.
        RuntimeError
            If a process dies, as one does that is out of memory.
        Exception
            What a job raised; the traceback in its process is the text of the cause.
        """
        workers = min(self.workers, len(jobs))
        if workers > 1:
            yield from self._run_apart(jobs, workers)
        else:
            for number, job in enumerate(jobs):
                yield number, self.function(job)

    def _run_apart(
        self, jobs: Sequence[Job], workers: int
    ) -> Generator[tuple[int, Result], None, None]:
        self._send_function()
        active, _ = get_active_backend()
        loky = InterruptibleLoky(active.nesting_level) if is_loky(active) else None
        parallel = joblib.Parallel(
            n_jobs=workers,
            backend=loky or active,
            return_as="generator_unordered",
            batch_size=1,  # a cell is kept as soon as it is finished
        )
        replies: Generator[Reply, None, None] | None = None
        finished = False
        try:
            replies = parallel(
                joblib.delayed(do_job)(str(self._file), number, job)
                for number, job in enumerate(jobs)
            )
            for reply in replies:
                if reply.error is not None:
                    raise reply.error from WorkerError(reply.traceback)
                yield reply.number, reply.result
            finished = True
        except BrokenProcessPool as error:
            raise RuntimeError(
                f"a worker process died: where the system killed it for want of memory, give "
                f"fewer workers ({' '.join(str(error).split())})"
            ) from error
        finally:
            if replies is not None:
                with warnings.catch_warnings():  # joblib warns of results that nobody took
                    warnings.simplefilter("ignore")
                    replies.close()
            if loky is not None and not finished:
                loky.stop()

    def _send_function(self) -> None:
        """Write the function where the processes read it."""
        if self._file.exists():
            return
        try:
            content = cloudpickle.dumps(self.function)
        except Exception as error:
            raise ValueError(
                f"workers is {self.workers}, but what the jobs need cannot be sent to another "
                f"process ({type(error).__name__}: {error}): give workers=1, or objects that can "
                f"be pickled"
            ) from error
        self._file.write_bytes(content)


class WorkerError(Exception):
    """The traceback of another process, as the cause of an error that came from there."""

    def __str__(self) -> str:
        return f"in a worker process:\n\n{self.args[0]}"


def _require_processes(backend: Any) -> None:
    """Raise unless a joblib backend computes in processes and hands out results one by one."""
    if getattr(backend, "uses_threads", False) or not backend.supports_return_generator:
        raise ValueError(
            f"the active joblib backend is {type(backend).__name__}: give one that computes in "
            f'processes and returns each result when it is finished, "loky" or "dask", or '
            f"workers=1"
        )
