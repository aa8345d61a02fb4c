"""Times the second-order meta-step: timl and the other ways to take it, each checked first.

Run `python benchmarks/meta_step.py --help`; README.md in this folder says how to read the output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from shutil import which

import torch
from common import (
    TimedRow,
    Timing,
    benchmark_options,
    machine,
    names_among,
    progress,
    report_each_thread_count,
    seconds_of,
    table,
    time_in_rounds,
)
from meta_batch import MetaBatch, Sizes, draw
from peaks import PeaksReport, time_beside_peaks
from peers import Contender, Gradients, engine, module_cloning, torch_func
from timl import parameters, reference
from torch import Tensor

# In the check the inner step is so large that a gradient without its second-order part, or with
# a wrong one, is far outside the tolerances.
CHECK_STEP_SIZE = 0.1
STEP_SIZE = 1e-3
PEER_TOLERANCE = 1e-3  # float32 peer against timl float64
TIML_TOLERANCE = 1e-4  # timl float32 against timl float64
TWIN_TOLERANCE = 1e-9  # timl float64 against the twin's automatic differentiation, float64

SKIPPABLE = ("compile", "jax", "maml")
VARIATIONS: dict[str, dict[str, int]] = {
    "31 bands": {"bands": 31},
    "64 hidden": {"hidden": 64},
    "256 hidden": {"hidden": 256},
    "1 time step": {"steps": 1},
    "3 inner steps": {"inner_steps": 3},
    "first order": {"order": 1},
    "1 task": {"tasks": 1},
    "8 tasks": {"tasks": 8},
    "32 tasks": {"tasks": 32},
    "128 tasks": {"tasks": 128},
}


@dataclass(frozen=True)
class Options:
    """Options of the command line."""

    tasks: int
    repeats: int
    skip: list[str]
    sizes: bool


@dataclass(frozen=True)
class Row(TimedRow):
    """One line of a table: what was measured of one contender."""

    name: str
    error: float = 0.0
    """Largest relative error of a block of gradients."""
    worst_block: str = ""
    first_call_seconds: float | None = None
    """Seconds of the first step, where the contender compiles in it."""
    task_flops: int = 0
    not_timed: str = ""
    """Why there are no timings."""
    wrong: bool = False
    """Whether its gradients are wrong, which is then the reason."""

    @property
    def flops_rate(self) -> float:
        """Operations per second by the cost model, at the median."""
        return self.task_flops / (self.timing.median * 1e-3)


@dataclass(frozen=True)
class MetaStepReport(PeaksReport):
    """What one process measured."""

    twin_error: float
    first_order_distance: float
    rows: list[Row]
    variations: list[Row]


class WrongGradientError(Exception):
    """A gradient is outside its tolerance."""


# --- the check ----------------------------------------------------------------------------------


def block_errors(got: Gradients, want: Gradients, sizes: Sizes) -> Iterator[tuple[str, float]]:
    """Return the relative error of the losses and of each block of the gradients, by name."""
    yield "loss", _relative(got.loss, want.loss)
    weight_shapes = parameters.weight_shapes(sizes.bands, sizes.hidden, sizes.layers)
    film_shapes = parameters.film_shapes(sizes.steps, sizes.bands, sizes.hidden, sizes.layers)
    for shapes, ours, theirs in (
        (weight_shapes, got.weights, want.weights),
        (film_shapes, got.film, want.film),
    ):
        counts = parameters.counts(shapes)
        for name, a, b in zip(
            shapes,
            torch.split(ours, counts, dim=-1),
            torch.split(theirs, counts, dim=-1),
            strict=True,
        ):
            yield name, _relative(a, b)


def _relative(got: Tensor, want: Tensor) -> float:
    """Return the relative error; of a block that is to be all zeros, 0 or infinity."""
    want = want.double()
    difference = (got.double() - want).norm()
    return float(difference / want.norm()) if difference != 0 else 0.0


def worst(got: Gradients, want: Gradients, sizes: Sizes) -> tuple[str, float]:
    """Return the block with the largest error, NaN counting as the largest of all."""
    errors = dict(block_errors(got, want, sizes))
    block = max(errors, key=lambda name: (errors[name] != errors[name], errors[name]))
    return block, errors[block]


def require(who: str, found: tuple[str, float], tolerance: float) -> None:
    """Raise WrongGradientError unless the error is within the tolerance."""
    block, error = found
    if not error <= tolerance:
        raise WrongGradientError(
            f"{who}: relative error {error:.1e} in {block} exceeds {tolerance:.0e}"
        )


def exact(batch: MetaBatch) -> Gradients:
    """Return the gradients by timl in float64, at the check's step size."""
    contender = engine.contender(batch.double())
    return contender.gradients(contender.step(CHECK_STEP_SIZE))


def check_timl(batch: MetaBatch, want: Gradients) -> tuple[float, float]:
    """Check timl's float64 against the twin; return its error, and how far first order is."""
    sizes, double = batch.sizes, batch.double()
    step_sizes = torch.full(
        (sizes.inner_steps, parameters.tensor_count(sizes.layers)),
        CHECK_STEP_SIZE,
        dtype=torch.float64,
    )
    twin = reference.meta_gradient(
        double.support_x,
        double.support_y,
        double.query_x,
        double.query_y,
        double.weights,
        double.film,
        None,
        None,
        step_sizes,
        hidden=sizes.hidden,
        layers=sizes.layers,
        order=sizes.order,
    )
    of_twin = Gradients(twin.loss, twin.weights_gradient, twin.film_gradient)
    found = worst(want, of_twin, sizes)
    require("timl float64 against its twin", found, TWIN_TOLERANCE)
    first = engine.meta_gradient(double, CHECK_STEP_SIZE, order=1)
    distance = _relative(first.weights_gradient, want.weights)
    if distance < 10 * PEER_TOLERANCE:
        raise WrongGradientError(
            f"the check cannot tell first order ({distance:.1e} away) from second order"
        )
    return found[1], distance


def checked(contender: Contender, want: Gradients, sizes: Sizes, tolerance: float) -> Row:
    """Take the contender's first step, compare it, and return its line without timings."""
    progress(f"checking {contender.name}")
    seconds, result = seconds_of(lambda: contender.step(CHECK_STEP_SIZE))
    block, error = found = worst(contender.gradients(result), want, sizes)
    require(contender.name, found, tolerance)
    return Row(
        contender.name,
        error,
        block,
        first_call_seconds=seconds if contender.compiles else None,
        task_flops=sizes.task_flops,
    )


# --- the measurement ----------------------------------------------------------------------------


def contenders(batch: MetaBatch, skip: list[str]) -> Iterator[Contender | Row]:
    """Return every way to take the meta-step, or a line that says why one is left out."""
    yield engine.contender(batch)
    yield torch_func.contender(batch, compiled=False)
    if "compile" not in skip:
        if which("g++") is None:
            yield Row("torch.func, torch.compile", not_timed="needs g++")
        else:
            yield torch_func.contender(batch, compiled=True)
    if "jax" not in skip:
        if find_spec("jax") is None:
            yield Row("JAX, jit(vmap), lax.scan", not_timed="JAX is not installed")
        else:
            from peers import jax_scan

            yield jax_scan.contender(batch)
    if "maml" not in skip:
        yield module_cloning.contender(batch)


def measure(options: Options, threads: int) -> MetaStepReport:
    """Check and time everything in this process."""
    torch.set_num_threads(threads)
    batch = draw(Sizes(tasks=options.tasks))
    want = exact(batch)
    twin_error, first_order_distance = check_timl(batch, want)

    rows: dict[str, Row] = {}
    calls: dict[str, Callable[[], object]] = {}
    for contender in contenders(batch, options.skip):
        if isinstance(contender, Row):
            rows[contender.name] = contender
            continue
        tolerance = TIML_TOLERANCE if contender.name == "timl" else PEER_TOLERANCE
        try:
            rows[contender.name] = checked(contender, want, batch.sizes, tolerance)
        except WrongGradientError as wrong:
            if contender.name == "timl":
                raise
            rows[contender.name] = Row(contender.name, not_timed=str(wrong), wrong=True)
        else:
            calls[contender.name] = partial(contender.step, STEP_SIZE)

    timings, rates = time_beside_peaks(calls, options.repeats, threads)
    return MetaStepReport(
        threads,
        machine(),
        rates,
        twin_error,
        first_order_distance,
        [timed(row, timings.get(row.name), batch.sizes) for row in rows.values()],
        measure_variations(options.repeats) if options.sizes else [],
    )


def timed(row: Row, timing: Timing | None, sizes: Sizes) -> Row:
    if timing is None:
        return row
    return replace(row, milliseconds=[1e3 * s / sizes.tasks for s in timing.seconds])


def measure_variations(repeats: int) -> list[Row]:
    """Check and time timl at other sizes, one after the other to keep few meta-batches alive."""
    rows = []
    for name, change in VARIATIONS.items():
        batch = draw(replace(Sizes(), **change))
        contender = replace(engine.contender(batch), name=name)
        try:
            row = checked(contender, exact(batch), batch.sizes, TIML_TOLERANCE)
        except WrongGradientError as wrong:
            rows.append(Row(name, not_timed=str(wrong), wrong=True))
            continue
        timing = time_in_rounds({name: partial(contender.step, STEP_SIZE)}, repeats)[name]
        rows.append(timed(row, timing, batch.sizes))
    return rows


# --- what is printed ----------------------------------------------------------------------------


def show(report: MetaStepReport) -> str:
    """Lay out what one process measured."""
    lines = [
        *report.heading(),
        f"Checked: timl float64 is within {report.twin_error:.0e} of its twin; first order would "
        f"be {report.first_order_distance:.0e} away. Errors below: largest of any block against "
        f"timl float64.",
        "",
        show_rows(report.rows, report, "meta-step"),
    ]
    if report.variations:
        lines += ["", show_rows(report.variations, report, "timl at other sizes")]
    return "\n".join(lines)


def show_rows(rows: list[Row], report: MetaStepReport, title: str) -> str:
    compared = rows is report.rows
    headers = [title, "ms per task", "quartiles", "GFLOP/s"]
    headers += [*report.peak_headers(), "error"]
    if compared:
        headers += ["times timl", "first call, s"]
    cells = []
    for row in rows:
        if row.not_timed:
            cells.append([row.name, row.not_timed] + [""] * (len(headers) - 2))
            continue
        low, high = row.timing.quartiles
        line = [row.name, f"{row.timing.median:.2f}", f"{low:.2f} to {high:.2f}"]
        line += [f"{row.flops_rate / 1e9:.1f}"]
        line += [*report.of_peaks(1e3 * row.task_flops, row.timing), f"{row.error:.0e}"]
        if compared:
            first = row.first_call_seconds
            line += [f"{row.timing.median / rows[0].timing.median:.1f}"]
            line += ["" if first is None else f"{first:.1f}"]
        cells.append(line)
    return table(headers, cells)


def show_scaling(reports: list[MetaStepReport]) -> str:
    """Return lines that say how much faster each contender is on more threads."""
    base = reports[0]
    headers = ["speed-up"] + [f"{report.threads} threads" for report in reports[1:]]
    cells = []
    for index, row in enumerate(base.rows):
        if not row.not_timed:
            others = [report.rows[index].timing.median for report in reports[1:]]
            cells.append([row.name] + [f"{row.timing.median / other:.2f}" for other in others])
    return table(headers, cells)


def main() -> None:
    parser = benchmark_options(__doc__, repeats=30)
    parser.add_argument("--tasks", type=int, default=32, help="tasks in the meta-batch")
    parser.add_argument(
        "--skip", type=names_among(*SKIPPABLE), default=[], metavar=",".join(SKIPPABLE)
    )
    parser.add_argument("--no-sizes", action="store_true", help="leave out the table of sizes")
    given = parser.parse_args()
    options = Options(given.tasks, given.repeats, given.skip, not given.no_sizes)
    environment = {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}  # so that compiling is compiling
    reports = report_each_thread_count(given, partial(measure, options), show, environment)
    if len(reports) > 1:
        print(show_scaling(reports))
    if any(row.wrong for report in reports for row in report.rows + report.variations):
        raise SystemExit("wrong gradients were not timed")


if __name__ == "__main__":
    main()
