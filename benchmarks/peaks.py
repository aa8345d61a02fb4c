"""The peaks that speeds are compared with: a register-resident FMA loop, and a large product."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from common import Report, Timing, seconds_of, time_in_rounds

_SECONDS = 0.02  # of one run of the FMA loop
_FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC")


@dataclass(frozen=True)
class Peak:
    """A call that does a known number of float32 operations on `threads` cores."""

    flops: float
    call: Callable[[], object]

    def rate(self, timing: Timing) -> float:
        """Operations per second, at the best of the repeats: it is a peak."""
        return self.flops / timing.best


@dataclass(frozen=True)
class PeaksReport(Report):
    """What one process measured, and the peaks beside it."""

    peaks: dict[str, float]
    """Peaks by name, in operations per second."""

    def heading(self) -> list[str]:
        """Return the lines above its tables."""
        rates = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in self.peaks.items())
        return [*super().heading(), f"Measured peaks, GFLOP/s: {rates}"]

    def peak_headers(self) -> list[str]:
        """Return the headings of the columns of `of_peaks`."""
        return [f"of {name} peak (at best)" for name in self.peaks]

    def of_peaks(self, flops: float, timing: Timing) -> list[str]:
        """Return the part of each peak reached at the median, and in the fastest repeat.

        A peak is the best of its repeats, so only the latter compares like with like; the former
        holds what others on the machine took besides.
        """
        return [
            f"{flops / timing.median / peak:.0%} ({flops / timing.best / peak:.0%})"
            for peak in self.peaks.values()
        ]


def time_beside_peaks(
    calls: Mapping[str, Callable[[], object]], repeats: int, threads: int
) -> tuple[dict[str, Timing], dict[str, float]]:
    """Time calls in rounds with the peaks; return what they took, and the peaks' rates."""
    references = peaks(threads)
    timings = time_in_rounds(
        {**calls, **{name: peak.call for name, peak in references.items()}}, repeats
    )
    return timings, {name: peak.rate(timings[name]) for name, peak in references.items()}


def peaks(threads: int) -> dict[str, Peak]:
    """Return the peaks that can be measured here: "FMA" needs a C compiler, "sgemm" nothing."""
    found = {"sgemm": _sgemm()}
    compiler = shutil.which("cc")
    if compiler is not None:
        found["FMA"] = _fma(compiler, threads)
    return found


def _sgemm(size: int = 2048) -> Peak:
    a, b = torch.randn(size, size), torch.randn(size, size)
    out = torch.empty(size, size)
    return Peak(2.0 * size**3, lambda: torch.matmul(a, b, out=out))


def _fma(compiler: str, threads: int) -> Peak:
    source = Path(__file__).with_name("fma_peak.c")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "fma_peak.so"
        subprocess.run(
            [compiler, *_FLAGS, "-o", str(library), str(source)],
            check=True,
        )
        loaded = ctypes.CDLL(str(library))
    loaded.operations_per_round.restype = ctypes.c_long
    loaded.multiply_add.restype = ctypes.c_float
    loaded.multiply_add.argtypes = [ctypes.c_long, ctypes.c_float, ctypes.c_float]
    operations = loaded.operations_per_round()

    def loop(rounds: int) -> object:  # without Python's lock: ctypes gives it up
        return loaded.multiply_add(rounds, 0.999, 0.001)

    trial = 1_000_000
    loop(trial)
    rounds = int(trial * _SECONDS / seconds_of(lambda: loop(trial))[0])
    pool = ThreadPoolExecutor(threads)
    return Peak(
        float(operations) * rounds * threads, lambda: list(pool.map(loop, [rounds] * threads))
    )
