"""Times the classifier in evaluation mode, in series per second, checked against the twin first.

Run `python benchmarks/forward.py --help`; README.md in this folder says how to read the output.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from shutil import which

import torch
from common import (
    Timing,
    in_fresh_process,
    integers,
    machine,
    names_among,
    progress,
    table,
    time_in_rounds,
)
from meta_batch import MetaBatch, Sizes, draw
from peaks import peaks
from peers.unrolled import UnrolledClassifier
from timl import parameters, reference
from timl.nn import Classifier
from torch import Tensor, nn

TOLERANCE = 1e-4  # of the logits, float32 against the twin in float64
CHECKED = 256  # series

Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """What was measured of one contender with one size of batch."""

    name: str
    batch: int
    error: float | None
    """Relative error of the logits; None for the LSTM alone, which has none."""
    series_per_second: list[float]
    """Times of every repeat."""

    @property
    def median(self) -> float:
        """Series per second, at the median of the repeats."""
        return Timing(self.series_per_second).median


@dataclass(frozen=True)
class Report:
    """What one process measured."""

    threads: int
    machine: str
    peaks: dict[str, float]
    """Peaks by name, in operations per second."""
    rows: list[Row]


def contenders(
    numbers: MetaBatch, means: Tensor, variances: Tensor
) -> Iterator[tuple[str, Logits]]:
    """Return each way to compute one task's logits, all with the same numbers."""
    sizes = numbers.sizes
    film = parameters.unflatten(
        numbers.film[0],
        parameters.film_shapes(sizes.steps, sizes.bands, sizes.hidden, sizes.layers),
    )

    ours = Classifier(sizes.bands, sizes.steps, sizes.hidden, sizes.layers).eval()
    state = numbers.named_weights()
    state.update(film=numbers.film[0], running_mean=means, running_variance=variances)
    state["num_batches_tracked"] = torch.tensor(1)
    ours.load_state_dict(state)
    yield "timl.nn.Classifier", ours

    unrolled = UnrolledClassifier(sizes.bands, sizes.hidden, sizes.layers).eval()
    unrolled.load_flat(numbers.weights)
    for norm, mean, variance in zip(unrolled.norms, means, variances, strict=True):
        norm.load_state_dict(
            {"running_mean": mean, "running_var": variance, "num_batches_tracked": torch.tensor(1)}
        )
    yield "unrolled, a layer per gate", partial(unrolled, film=film)


def compiled_twin(numbers: MetaBatch, means: Tensor, variances: Tensor) -> tuple[str, Logits]:
    """Return the twin through torch.compile."""
    sizes = numbers.sizes

    def logits(x: Tensor) -> Tensor:
        return reference.network(
            x,
            numbers.weights,
            numbers.film[0],
            None,
            means,
            variances,
            hidden=sizes.hidden,
            layers=sizes.layers,
            batch_statistics=False,
        )[0]

    return "twin, torch.compile", torch.compile(logits)


def lstm_alone(sizes: Sizes) -> Logits:
    """Return PyTorch's LSTM without anything behind it."""
    lstm = nn.LSTM(sizes.bands, sizes.hidden, batch_first=True).eval()
    return lambda x: lstm(x)[0]


def error_of(logits: Logits, want: Tensor, x: Tensor, batch: int, name: str) -> float:
    """Return the relative error of the first logits, which must be within the tolerance."""
    got = in_batches(logits, x[: max(CHECKED, batch)], batch)[: len(want)].double()
    error = float((got - want).norm() / want.norm())
    if not error <= TOLERANCE:
        raise SystemExit(f"{name} is wrong: relative error {error:.1e} of its logits")
    return error


def in_batches(logits: Logits, x: Tensor, batch: int) -> Tensor:
    """Return the results for all series, computed `batch` at a time."""
    return torch.cat([logits(part) for part in torch.split(x, batch)])


@torch.no_grad()
def measure(series: int, batches: list[int], repeats: int, skip: list[str], threads: int) -> Report:
    """Check and time every contender in this process."""
    torch.set_num_threads(threads)
    sizes = Sizes(tasks=1)
    numbers = draw(sizes)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(series, sizes.steps, sizes.bands, generator=generator)
    means = 0.1 * torch.randn(sizes.layers, sizes.hidden, generator=generator)
    variances = 0.5 + torch.rand(sizes.layers, sizes.hidden, generator=generator)
    want = reference.network(
        x[:CHECKED].double(),
        numbers.weights.double(),
        numbers.film[0].double(),
        None,
        means.double(),
        variances.double(),
        hidden=sizes.hidden,
        layers=sizes.layers,
        batch_statistics=False,
    )[0]

    found = dict(contenders(numbers, means, variances))
    if "compile" not in skip and which("g++") is not None:
        found.update([compiled_twin(numbers, means, variances)])
    errors: dict[tuple[str, int], float | None] = {}
    calls: dict[str, Callable[[], object]] = {}
    for batch in batches:
        for name, logits in found.items():
            progress(f"checking {name}, batches of {batch}")
            errors[name, batch] = error_of(logits, want, x, batch, name)
            calls[f"{name} {batch}"] = partial(in_batches, logits, x, batch)
        errors["nn.LSTM alone", batch] = None
        calls[f"nn.LSTM alone {batch}"] = partial(in_batches, lstm_alone(sizes), x, batch)

    references = peaks(threads)
    calls.update({name: peak.call for name, peak in references.items()})
    timings = time_in_rounds(calls, repeats)
    return Report(
        threads,
        machine(),
        {name: peak.rate(timings[name]) for name, peak in references.items()},
        [
            Row(name, batch, error, [series / s for s in timings[f"{name} {batch}"].seconds])
            for (name, batch), error in errors.items()
        ],
    )


def show(report: Report) -> str:
    """Lay out what one process measured, the fastest size of batch of each contender."""
    best: dict[str, Row] = {}
    for row in report.rows:
        if row.name not in best or row.median > best[row.name].median:
            best[row.name] = row
    headers = ["evaluation mode", "series per second", "quartiles", "GFLOP/s"]
    headers += [*(f"of {name} peak" for name in report.peaks), "batches of", "error"]
    cells = []
    for row in best.values():
        low, high = Timing(row.series_per_second).quartiles
        rate = row.median * Sizes().forward_flops
        line = [row.name, f"{row.median:,.0f}", f"{low:,.0f} to {high:,.0f}", f"{rate / 1e9:.1f}"]
        line += [f"{rate / peak:.0%}" for peak in report.peaks.values()]
        line += [str(row.batch), "" if row.error is None else f"{row.error:.0e}"]
        cells.append(line)
    rates = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in report.peaks.items())
    lines = [f"## {report.threads} thread{'s' * (report.threads > 1)}", report.machine]
    return "\n".join([*lines, f"Measured peaks, GFLOP/s: {rates}", "", table(headers, cells)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=20_000)
    parser.add_argument("--batches", type=integers, default=[250, 2_000, 20_000], metavar="250,..")
    parser.add_argument("--repeats", type=int, default=10, help="timed rounds")
    parser.add_argument("--threads", type=integers, default=[1, 2], metavar="1,2")
    parser.add_argument("--skip", type=names_among("compile"), default=[], metavar="compile")
    parser.add_argument("--isa", help="force timl's instruction set, e.g. x86-64-v3")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything here")
    given = parser.parse_args()
    environment = {"TIML_FORCE_ISA": given.isa} if given.isa else {}

    reports = []
    for threads in given.threads:
        arguments = (given.series, given.batches, given.repeats, given.skip, threads)
        reports.append(in_fresh_process(threads, environment, measure, *arguments))
        progress("")
        print(show(reports[-1]), end="\n\n", flush=True)
    if given.json:
        given.json.write_text(json.dumps([asdict(report) for report in reports], indent=1))


if __name__ == "__main__":
    main()
