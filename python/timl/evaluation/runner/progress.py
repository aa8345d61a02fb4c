"""A progress bar, and an estimate of the time, on the error stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from timl.text import printable


@contextmanager
def progress_bar(title: str, total: int, show: bool) -> Iterator[Callable[[], None]]:
    """Show a bar while the block runs, and yield the function that advances it by one."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not (show and total)) as bar:
        task = bar.add_task(escape(printable(title)), total=total)
        yield lambda: bar.advance(task)


def show_estimate(seconds: float, trainings: int, jobs: int, workers: int) -> None:
    """Print about how long an experiment will take.

    Parameters
    ----------
    seconds
        Seconds of one process that the trainings and jobs take.
    trainings, jobs
        Their numbers.
    workers
        Number of processes.
    """
    from rich.console import Console

    minutes = seconds / min(workers, trainings + jobs) / 60
    text = f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
    what = f"{jobs:,} jobs" + (f" and {trainings} trainings" if trainings else "")
    Console(stderr=True, soft_wrap=True).print(
        f"about {text if minutes >= 1 else 'a minute'} for {what} in {workers} "
        f"process{'es' if workers > 1 else ''}, by a short trial of each method"
    )
