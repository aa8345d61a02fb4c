"""A progress bar on the error stream."""

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
