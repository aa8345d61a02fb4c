"""Times timl.nn.FiLMLSTM beside torch.nn.LSTM and unrolled LSTMs, to the second derivative.

Run `python benchmarks/film_lstm.py --help`; README.md in this folder says how to read the output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from shutil import which
from typing import Any

import torch
from common import (
    TimedRow,
    benchmark_options,
    machine,
    names_among,
    progress,
    report_each_thread_count,
    table,
)
from meta_batch import Sizes
from peaks import PeaksReport, time_beside_peaks
from timl import reference
from timl.nn import FiLMLSTM
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

TOLERANCE = 1e-4  # relative, of all numbers of a result in float32 against the twin in float64
STEP_SIZE = 0.1  # of the inner step: without second order the result is far outside the tolerance
SIZES = Sizes()
TASKS = 4  # of MAML by torch.func and by higher


@dataclass(frozen=True)
class Contender:
    """An LSTM, and what PyTorch cannot do with it."""

    name: str
    module: Callable[..., Any]
    parameters: list[Tensor]
    lacks: frozenset[str] = frozenset()

    def states(self, x: Tensor, parameters: dict[str, Tensor] | None = None) -> Tensor:
        """Return the hidden states of every step [B, T, H], by its own or other parameters."""
        if parameters is None:
            return states_of(self.module(x))
        return states_of(functional_call(self.module, parameters, (x,)))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Work:
    """What is computed, and its cost in floating-point operations."""

    name: str
    flops: int
    call: Callable[[Contender], Tensor]
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Row(TimedRow):
    """What was measured of one contender at one work."""

    work: str
    name: str
    flops: int
    error: float
    """Relative error of the results."""


@dataclass(frozen=True)
class LstmReport(PeaksReport):
    """What one process measured."""

    first_order_distance: float
    rows: list[Row]


def states_of(found: Any) -> Tensor:
    """Return the hidden states among what an LSTM gives."""
    return found[0] if isinstance(found, tuple) else found


class Unrolled(nn.Module):
    """An LSTM unrolled in Python with the parameters' names of torch.nn.LSTM, gates fused."""

    def __init__(self, like: nn.LSTM) -> None:
        super().__init__()
        for name, values in like.named_parameters():
            self.register_parameter(name, nn.Parameter(values.detach().clone()))

    def forward(self, x: Tensor) -> Tensor:
        """Return the hidden states of every step: one product for all inputs, one for each step."""
        recurrent = self.weight_hh_l0.T
        projected = x @ self.weight_ih_l0.T + (self.bias_ih_l0 + self.bias_hh_l0)
        h = c = x.new_zeros(x.shape[0], recurrent.shape[0])
        states = []
        for t in range(x.shape[1]):
            i, f, g, o = (projected[:, t] + h @ recurrent).chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            states.append(h)
        return torch.stack(states, dim=1)


class Twin(FiLMLSTM):
    """timl's layer computed by its readable twin."""

    def forward(self, x: Tensor, film: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Return the hidden states of every step."""
        return reference.film_lstm(x, self.flat_weights(0), film, mask, hidden=self.hidden_size)


def contenders(skip: list[str]) -> Iterator[Contender]:
    """Return every LSTM, all with the same parameters; timl's comes first."""
    torch.manual_seed(0)
    theirs = nn.LSTM(SIZES.bands, SIZES.hidden, batch_first=True)
    ours = FiLMLSTM(SIZES.bands, SIZES.hidden)
    ours.load_state_dict(theirs.state_dict())
    yield Contender("timl.nn.FiLMLSTM", ours, list(ours.parameters()))
    yield Contender("torch.nn.LSTM", theirs, list(theirs.parameters()), frozenset({"vmap"}))
    unrolled = Unrolled(theirs)
    yield Contender("unrolled", unrolled, list(unrolled.parameters()))
    if "compile" not in skip and which("g++") is not None:
        made = torch.compile(unrolled)
        lacks = frozenset({"second order"})
        yield Contender("unrolled, torch.compile", made, list(unrolled.parameters()), lacks)


def forward(x: Tensor, contender: Contender) -> Tensor:
    """Return hidden states without derivatives."""
    with torch.no_grad():
        return contender.states(x)


def gradient(x: Tensor, cotangent: Tensor, contender: Contender) -> Tensor:
    """Return the gradients of x and of all parameters."""
    x = x.requires_grad_()
    found = torch.autograd.grad(contender.states(x), [x, *contender.parameters], cotangent)
    return torch.cat([g.reshape(-1) for g in found])


def meta_step(
    support: tuple[Tensor, Tensor], query: tuple[Tensor, Tensor], order: int, contender: Contender
) -> Tensor:
    """Return the gradient of the query loss after one inner step, through that step."""
    assert isinstance(contender.module, nn.Module)
    own = dict(contender.module.named_parameters())

    def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return (contender.states(x, parameters)[:, -1] - y).square().mean()

    inner = torch.autograd.grad(loss(own, *support), list(own.values()), create_graph=order == 2)
    adapted = {n: p - STEP_SIZE * g for (n, p), g in zip(own.items(), inner, strict=True)}
    found = torch.autograd.grad(loss(adapted, *query), list(own.values()))
    return torch.cat([g.reshape(-1) for g in found])


def maml_by_torch_func(
    support: tuple[Tensor, Tensor], query: tuple[Tensor, Tensor], contender: Contender
) -> Tensor:
    """Return the gradient of the mean query loss of tasks, [N, B, T, F], taken all at once."""
    assert isinstance(contender.module, nn.Module)
    own = {name: p.detach() for name, p in contender.module.named_parameters()}

    def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return (contender.states(x, parameters)[:, -1] - y).square().mean()

    def query_loss(parameters: dict[str, Tensor], *sets: Tensor) -> Tensor:
        inner = grad(loss)(parameters, *sets[:2])
        adapted = {name: p - STEP_SIZE * inner[name] for name, p in parameters.items()}
        return loss(adapted, *sets[2:])

    def mean_loss(parameters: dict[str, Tensor]) -> Tensor:
        losses = vmap(query_loss, in_dims=(None, 0, 0, 0, 0))
        return losses(parameters, *support, *query).mean()

    return torch.cat([g.reshape(-1) for g in grad(mean_loss)(own).values()])


def maml_by_higher(
    support: tuple[Tensor, Tensor], query: tuple[Tensor, Tensor], contender: Contender
) -> Tensor:
    """Return the same gradient by higher, one task after the other."""
    import higher

    module, tasks = contender.module, len(support[0])
    total = torch.zeros(())
    for task in range(tasks):
        optimizer = torch.optim.SGD(contender.parameters, lr=STEP_SIZE)
        with higher.innerloop_ctx(module, optimizer, copy_initial_weights=False) as (fast, inner):

            def loss(x: Tensor, y: Tensor, fast: Any = fast) -> Tensor:
                return (states_of(fast(x))[:, -1] - y).square().mean()

            inner.step(loss(support[0][task], support[1][task]))
            found = torch.autograd.grad(loss(query[0][task], query[1][task]), contender.parameters)
        total = total + torch.cat([g.reshape(-1) for g in found]) / tasks
    return total


def works(dtype: torch.dtype, batch: int) -> list[Work]:
    """Return what is timed, on the same numbers in any dtype."""
    g = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g).to(dtype)

    def series(count: int) -> Tensor:
        return normal(count, SIZES.steps, SIZES.bands)

    def batch_of(count: int) -> tuple[Tensor, Tensor]:
        return series(count), 3 * normal(count, SIZES.hidden)

    one = SIZES.forward_flops
    small, large = series(SIZES.support), series(batch)
    along = [normal(len(x), SIZES.steps, SIZES.hidden) for x in (small, large)]
    sets = batch_of(SIZES.support), batch_of(SIZES.query)
    name = f"meta-step, {SIZES.support} and {SIZES.query} series"
    tasks = [
        tuple(
            torch.stack(parts) for parts in zip(*(batch_of(n) for _ in range(TASKS)), strict=True)
        )
        for n in (SIZES.support, SIZES.query)
    ]
    second, both = frozenset({"second order"}), frozenset({"second order", "vmap"})
    flops = TASKS * SIZES.task_flops
    found = [
        Work(f"forward, {batch} series", batch * one, partial(forward, large)),
        Work(f"gradient, {batch} series", 3 * batch * one, partial(gradient, large, along[1])),
        Work(
            f"gradient, {SIZES.support} series",
            3 * SIZES.support * one,
            partial(gradient, small, along[0]),
        ),
        Work(name, SIZES.task_flops, partial(meta_step, *sets, 2), second),
        Work(f"torch.func, {TASKS} tasks", flops, partial(maml_by_torch_func, *tasks), both),
    ]
    if find_spec("higher") is not None:
        by_higher = partial(maml_by_higher, *tasks)
        found.append(Work(f"higher, {TASKS} tasks", flops, by_higher, second))
    return found


def exact(like: Contender, batch: int) -> tuple[list[Tensor], float]:
    """Return the results by the twin in float64, and how far a first-order meta-step is."""
    twin = Twin(SIZES.bands, SIZES.hidden, dtype=torch.float64)
    assert isinstance(like.module, nn.Module)
    twin.load_state_dict(like.module.state_dict())
    contender = Contender("twin", twin, list(twin.parameters()))
    every = works(torch.float64, batch)
    results = [work.call(contender).detach() for work in every]
    place = next(i for i, work in enumerate(every) if work.needs)
    call: Any = every[place].call
    first, second = meta_step(*call.args[:2], 1, contender), results[place]
    return results, float((first - second).norm() / second.norm())


def checked(name: str, found: Tensor, want: Tensor) -> float:
    """Return the relative error of a result, which must be within the tolerance."""
    error = float((found.detach().double() - want).norm() / want.norm())
    if not error <= TOLERANCE:
        raise SystemExit(f"{name} is wrong: relative error {error:.1e}")
    return error


def measure(batch: int, repeats: int, skip: list[str], threads: int) -> LstmReport:
    """Check and time everything in this process."""
    torch.set_num_threads(threads)
    every = list(contenders(skip))
    want, distance = exact(every[0], batch)
    if distance < 10 * TOLERANCE:
        raise SystemExit(f"the check cannot tell first order, {distance:.1e} away, from second")
    errors: dict[tuple[str, str], float] = {}
    calls: dict[str, Callable[[], object]] = {}
    costs: dict[str, int] = {}
    for work, right in zip(works(torch.float32, batch), want, strict=True):
        costs[work.name] = work.flops
        for contender in every:
            if work.needs & contender.lacks:
                continue
            progress(f"checking {contender.name}: {work.name}")
            key = (work.name, contender.name)
            errors[key] = checked(" ".join(key), work.call(contender), right)
            calls["\n".join(key)] = partial(work.call, contender)

    timings, rates = time_beside_peaks(calls, repeats, threads)
    return LstmReport(
        threads,
        machine(),
        rates,
        distance,
        [
            Row(
                *(work, name),
                costs[work],
                error,
                milliseconds=[1e3 * s for s in timings[f"{work}\n{name}"].seconds],
            )
            for (work, name), error in errors.items()
        ],
    )


def show(report: LstmReport) -> str:
    """Lay out what one process measured."""
    headers = ["work", "LSTM", "ms", "quartiles", "times timl", "GFLOP/s"]
    headers += [*report.peak_headers(), "error"]
    ours = {row.work: row.timing.median for row in report.rows if "timl" in row.name}
    cells = []
    for row in report.rows:
        median, (low, high) = row.timing.median, row.timing.quartiles
        rate = row.flops / (median * 1e-3)
        line = [row.work, row.name, f"{median:.2f}", f"{low:.2f} to {high:.2f}"]
        line += [f"{median / ours[row.work]:.2f}", f"{rate / 1e9:.1f}"]
        cells.append([*line, *report.of_peaks(1e3 * row.flops, row.timing), f"{row.error:.0e}"])
    lines = [
        *report.heading(),
        f"Checked against the twin in float64; a first-order meta-step would be "
        f"{report.first_order_distance:.0e} away.",
    ]
    return "\n".join([*lines, "", table(headers, cells)])


def main() -> None:
    parser = benchmark_options(__doc__, repeats=30)
    parser.add_argument("--batch", type=int, default=256, help="series of the large batch")
    parser.add_argument("--skip", type=names_among("compile"), default=[], metavar="compile")
    given = parser.parse_args()
    report_each_thread_count(given, partial(measure, given.batch, given.repeats, given.skip), show)


if __name__ == "__main__":
    main()
