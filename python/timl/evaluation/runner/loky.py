"""Joblib's loky backend, whose workers may keep what they have before they are killed.

Loky itself (joblib 1.6) kills its workers by SIGKILL when a call fails or is interrupted: a
meta-training loses the epochs since its last checkpoint, up to 20. And it lets them live on when
the calling process is killed: a worker in a job of 45 s finished it and was still there after 75 s.
"""

from __future__ import annotations

import os
import time
from typing import Any

from joblib.parallel import LokyBackend

from timl.evaluation.runner.worker import PATIENCE, start_worker


def is_loky(backend: Any) -> bool:
    """Return whether a joblib backend is loky, the default one."""
    return isinstance(backend, LokyBackend)


class InterruptibleLoky(LokyBackend):  # type: ignore[misc]
    """Loky, with workers of one thread that are interrupted before they are killed.

    Parameters
    ----------
    nesting_level
        That of the backend it stands for: how deep the call is within other parallel calls.
    """

    def __init__(self, nesting_level: int | None) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=1)
        self._workers: Any = None

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        """Start the workers, or take those of the last call."""
        own = {"initializer": start_worker, "initargs": (os.getpid(),)}
        return int(super().configure(n_jobs=n_jobs, parallel=parallel, **own, **options))

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Interrupt the running jobs, give them some seconds, then kill the workers."""
        try:
            for process in list(self._workers._processes.values()):
                process.terminate()  # SIGTERM, see `start_worker`
            deadline = time.monotonic() + PATIENCE
            while self._workers._pending_work_items and time.monotonic() < deadline:
                time.sleep(0.01)
        finally:
            super().abort_everything(ensure_ready=ensure_ready)

    def stop(self) -> None:
        """Stop the workers of a call that was cut short before joblib could."""
        if self._workers is not None:
            self.abort_everything(ensure_ready=False)
