"""Times the classifier in evaluation mode, in series per second, checked against the twin first.

Run `python benchmarks/forward.py --help`; README.md in this folder says how to read the output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from shutil import which

import torch
from common import (
    SeriesRow,
    Timing,
    benchmark_options,
    integers,
    machine,
    names_among,
    progress,
    report_each_thread_count,
    table,
)
from meta_batch import MetaBatch, Sizes, draw
from peaks import PeaksReport, time_beside_peaks
from peers.unrolled import UnrolledClassifier
from timl import parameters, reference
from timl.nn import Classifier
from torch import Tensor, nn

TOLERANCE = 1e-4  # of the logits, float32 against the twin in float64
CHECKED = 256  # series

Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Row(SeriesRow):
    """What was measured of one contender with one size of batch."""

    batch: int


@dataclass(frozen=True)
class EvaluationReport(PeaksReport):
    """What one process measured."""

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
def measure(
    series: int, batches: list[int], repeats: int, skip: list[str], threads: int
) -> EvaluationReport:
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

    timings, rates = time_beside_peaks(calls, repeats, threads)
    return EvaluationReport(
        threads,
        machine(),
        rates,
        [
            Row(name, error, [series / s for s in timings[f"{name} {batch}"].seconds], batch)
            for (name, batch), error in errors.items()
        ],
    )


def show(report: EvaluationReport) -> str:
    """Lay out what one process measured, the fastest size of batch of each contender."""
    best: dict[str, Row] = {}
    for row in report.rows:
        if row.name not in best or row.median > best[row.name].median:
            best[row.name] = row
    headers = ["evaluation mode", "series per second", "quartiles", "GFLOP/s"]
    headers += [*report.peak_headers(), "batches of", "error"]
    cells = []
    for row in best.values():
        low, high = Timing(row.series_per_second).quartiles
        rate = row.median * Sizes().forward_flops
        line = [row.name, f"{row.median:,.0f}", f"{low:,.0f} to {high:,.0f}", f"{rate / 1e9:.1f}"]
        line += report.of_peaks(Sizes().forward_flops, row.timing)
        line += [str(row.batch), "" if row.error is None else f"{row.error:.0e}"]
        cells.append(line)
    return "\n".join([*report.heading(), "", table(headers, cells)])


def main() -> None:
    parser = benchmark_options(__doc__, repeats=10)
    parser.add_argument("--series", type=int, default=20_000)
    parser.add_argument("--batches", type=integers, default=[250, 2_000, 20_000], metavar="250,..")
    parser.add_argument("--skip", type=names_among("compile"), default=[], metavar="compile")
    given = parser.parse_args()
    measured = partial(measure, given.series, given.batches, given.repeats, given.skip)
    report_each_thread_count(given, measured, show)


if __name__ == "__main__":
    main()
