"""What every benchmark shares: timing in rounds, a fresh process per thread count, its report."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
ReportT = TypeVar("ReportT", bound="Report")


@dataclass(frozen=True)
class Timing:
    """Seconds of each repeat."""

    seconds: list[float]

    @property
    def median(self) -> float:
        """Median of the repeats' seconds."""
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        """Seconds of the fastest repeat."""
        return min(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile of the repeats' seconds."""
        if len(self.seconds) < 2:
            return self.best, self.best
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high


@dataclass(frozen=True)
class TimedRow:
    """What was measured of one contender: its times."""

    milliseconds: list[float] = field(default_factory=list, kw_only=True)
    """Of every repeat."""

    @property
    def timing(self) -> Timing:
        """Times of the repeats, in milliseconds."""
        return Timing(self.milliseconds)


@dataclass(frozen=True)
class SeriesRow:
    """What was measured of one contender that evaluates series."""

    name: str
    error: float | None
    """Relative error of the results; None where there is nothing to compare them with."""
    series_per_second: list[float]
    """Times of every repeat."""

    @property
    def median(self) -> float:
        """Series per second, at the median of the repeats."""
        return Timing(self.series_per_second).median

    @property
    def timing(self) -> Timing:
        """Times of the repeats, in seconds for one series."""
        return Timing([1 / rate for rate in self.series_per_second])


@dataclass(frozen=True)
class Report:
    """What one process measured."""

    threads: int
    machine: str

    def heading(self) -> list[str]:
        """Return the lines above its tables."""
        return [f"## {self.threads} thread{'s' * (self.threads > 1)}", self.machine]


def time_in_rounds(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Timing]:
    """Time every call once per round, so that background load affects all calls equally.

    Directly before it is timed, each call runs once untimed: what the other calls of the round
    left in caches and in the allocator, whose fresh pages cost most, then counts against none.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for done in range(repeats):
        progress(f"round {done + 1} of {repeats}")
        for name, call in calls.items():
            call()
            seconds[name].append(seconds_of(call)[0])
    return {name: Timing(spent) for name, spent in seconds.items()}


def seconds_of(call: Callable[[], R]) -> tuple[float, R]:
    """Return the seconds that a call took, and its result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def progress(message: str) -> None:
    """Write to a terminal's standard error what is being done, over the last such message."""
    if sys.stderr.isatty():
        print(f"\r\033[K{message}", end="", file=sys.stderr, flush=True)


# --- one process per thread count --------------------------------------------------------------


def in_fresh_process(
    threads: int,
    environment: Mapping[str, str],
    function: Callable[P, R],
    *args: P.args,
    **kwargs: P.kwargs,
) -> R:
    """Return what the function returns in a new process that has `threads` cores.

    Thread pools read the processor affinity and the environment when they start, so both are set
    before the process does.
    """
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    with (
        _environment({**limits, **environment}),
        _on_cores(threads),
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool,
    ):
        return pool.submit(function, *args, **kwargs).result()


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _on_cores(threads: int) -> Iterator[None]:
    """Bind this process and those it starts to one processor of each of `threads` cores."""
    if not hasattr(os, "sched_setaffinity"):  # not Linux: the thread pools' own limits must do
        yield
        return
    before = os.sched_getaffinity(0)
    cores = {_siblings(processor): processor for processor in sorted(before, reverse=True)}
    chosen = sorted(cores.values())[:threads]
    if len(chosen) < threads:
        raise SystemExit(f"--threads {threads}: this process may use {len(chosen)} cores")
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _siblings(processor: int) -> str:
    """Name the core that a processor belongs to by its hardware threads."""
    path = Path(f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list")
    return path.read_text() if path.exists() else str(processor)


# --- what is printed ---------------------------------------------------------------------------


def machine() -> str:
    """Name the processor and the versions that decide the speed."""
    import torch
    from timl import _core

    names = [
        line.split(":", 1)[1].strip()
        for line in _lines(Path("/proc/cpuinfo"))
        if line.startswith("model name")
    ]
    processor = names[0] if names else platform.processor() or platform.machine()
    return (
        f"{processor}, {os.cpu_count()} processors; Python {platform.python_version()}, "
        f"PyTorch {torch.__version__}; timl uses {_core.instruction_set()}"
    )


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a Markdown table; the first column is text, the others numbers."""
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rule = [
        "-" * width if not column else "-" * (width - 1) + ":"
        for column, width in enumerate(widths)
    ]
    return "\n".join([line(headers), line(rule), *map(line, rows)])


# --- the command line ---------------------------------------------------------------------------


def benchmark_options(
    description: str | None, *, repeats: int, repeated: str = "timed rounds"
) -> argparse.ArgumentParser:
    """Return a parser of the options that every benchmark has, of so many repeats by default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=repeats, help=repeated)
    parser.add_argument("--threads", type=integers, default=[1, 2], metavar="1,2")
    parser.add_argument("--isa", help="force timl's instruction set, e.g. x86-64-v3")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything here")
    return parser


def report_each_thread_count(
    given: argparse.Namespace,
    measure: Callable[[int], ReportT],
    show: Callable[[ReportT], str],
    environment: Mapping[str, str] | None = None,
) -> list[ReportT]:
    """Measure in a new process for each number of threads, and print and write what was found.

    Parameters
    ----------
    given
        What `benchmark_options` read.
    measure
        Measures everything on a number of threads; a function of a module, or a partial of one.
    show
        Lays out a report.
    environment
        Variables of the new processes.
    """
    variables = dict(environment or {})
    if given.isa:
        variables["TIML_FORCE_ISA"] = given.isa
    reports = []
    for threads in given.threads:
        reports.append(in_fresh_process(threads, variables, measure, threads))
        progress("")
        print(show(reports[-1]), end="\n\n", flush=True)
    if given.json:
        given.json.write_text(json.dumps([asdict(report) for report in reports], indent=1))
    return reports


def names_among(*known: str) -> Callable[[str], list[str]]:
    """Return a reader of options such as `compile,jax` that knows these names."""

    def read(text: str) -> list[str]:
        given = [part for part in text.split(",") if part]
        if not set(given) <= set(known):
            raise argparse.ArgumentTypeError(f"{text!r}: choose from {', '.join(known)}")
        return given

    return read


def integers(text: str) -> list[int]:
    """Read an option such as `1,2`."""
    return [int(part) for part in text.split(",")]
