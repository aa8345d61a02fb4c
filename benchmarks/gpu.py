"""Times meta-step, evaluation and LSTM layer on a GPU, beside PyTorch's and JAX's, once checked.

Run `python benchmarks/gpu.py --help`; README.md in this folder says how to read the output. (The
name is not cuda.py, which would hide NVIDIA's package of that name from PyTorch.)
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import film_lstm
import forward
import meta_step
import numpy as np
import torch
from common import Timing, names_among, progress, table, time_in_rounds
from meta_batch import MetaBatch, Sizes, draw
from meta_step import CHECK_STEP_SIZE, PEER_TOLERANCE, STEP_SIZE, TIML_TOLERANCE
from peers import Contender, Gradients, engine, torch_func
from timl import TIML, Episodes, meta_gradient
from torch import Tensor
from torch.utils._pytree import tree_map

SKIPPABLE = ("compile", "jax", "epoch", "evaluation", "layer")
LAYER_WORKS = 4  # of film_lstm.py's: forward, two gradients, and a meta-step


@dataclass(frozen=True)
class Row:
    """What was measured of one contender."""

    name: str
    error: float | None
    """Largest relative error against timl on the CPU; None where nothing is compared."""
    milliseconds: list[float] = field(default_factory=list)
    """Milliseconds of each repeat."""
    count: int = 1
    """Tasks, or series, of one call."""
    not_timed: str = ""
    """Why there are no timings."""


def waited(call: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """Return a call that ends when the device has done what it was given."""

    def done() -> object:
        result = call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return result

    return done


def captured(batch: MetaBatch, step_size: float) -> Callable[[], Any]:
    """Return timl's meta-step as a CUDA graph, which is replayed."""
    graph, sizes = torch.cuda.CUDAGraph(), batch.sizes
    step = partial(engine.meta_gradient, batch, step_size, sizes.order)
    with torch.cuda.stream(torch.cuda.Stream()):
        step()  # memory is allocated before
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        result = step()

    def replay() -> Any:
        graph.replay()
        return result

    return replay


def contenders(batch: MetaBatch, skip: list[str]) -> Iterator[Contender | Row]:
    """Return every way to take the meta-step, or a line that says why one is left out."""
    yield engine.contender(batch)
    if batch.weights.is_cuda:
        replays = {size: captured(batch, size) for size in (CHECK_STEP_SIZE, STEP_SIZE)}
        flat = engine.contender(batch).gradients
        yield Contender("timl, CUDA graph", lambda size: replays[size](), flat)
    yield torch_func.contender(batch, compiled=False)
    if "compile" not in skip:
        yield torch_func.contender(batch, compiled=True)
    if "jax" not in skip:
        if find_spec("jax") is None:
            yield Row("JAX, jit(vmap), lax.scan", None, not_timed="JAX is not installed")
        else:
            from peers import jax_scan

            yield jax_scan.contender(batch)


def meta_steps(device: torch.device, tasks: int, repeats: int, skip: list[str]) -> list[Row]:
    """Check and time the meta-step of a meta-batch."""
    sizes = Sizes(tasks=tasks)
    here = draw(sizes)
    want, batch = meta_step.exact(here), here.to(device)
    rows: list[Row] = []
    calls: dict[str, Callable[[], object]] = {}
    for contender in contenders(batch, skip):
        if isinstance(contender, Row):
            rows.append(contender)
            continue
        progress(f"checking {contender.name}")
        ours = contender.name.startswith("timl")
        found = Gradients(*(t.cpu() for t in contender.gradients(contender.step(CHECK_STEP_SIZE))))
        block, error = meta_step.worst(found, want, sizes)
        if not error <= (TIML_TOLERANCE if ours else PEER_TOLERANCE):
            wrong = f"relative error {error:.1e} in {block}"
            if ours:
                raise SystemExit(f"{contender.name} is wrong: {wrong}")
            rows.append(Row(contender.name, error, not_timed=wrong))
            continue
        rows.append(Row(contender.name, error, count=tasks))
        calls[contender.name] = waited(partial(contender.step, STEP_SIZE), device)
    return timed(rows, calls, repeats)


def training_step(device: torch.device, tasks: int, repeats: int) -> list[Row]:
    """Time a step of training: encoder, meta-step with dropout drawn on the CPU, Adam."""
    sizes, batch = Sizes(tasks=tasks), draw(Sizes(tasks=tasks))
    torch.manual_seed(0)
    model = TIML().to(device)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    series = (batch.support_x, batch.support_y, batch.query_x, batch.query_y)
    episodes = Episodes(torch.randn(tasks, 13), *series)

    def step(epoch: int = 0) -> object:
        optimizer.zero_grad()
        losses = meta_gradient(model, episodes, STEP_SIZE, key=(0, epoch, np.arange(sizes.tasks)))
        optimizer.step()
        return losses

    name = "timl, training step"
    return timed([Row(name, None, count=tasks)], {name: waited(step, device)}, repeats)


@torch.no_grad()
def evaluation(device: torch.device, series: int, repeats: int, skip: list[str]) -> list[Row]:
    """Check and time one task's logits of many series."""
    numbers = draw(Sizes(tasks=1))
    sizes = numbers.sizes
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(series, sizes.steps, sizes.bands, generator=generator)
    means = 0.1 * torch.randn(sizes.layers, sizes.hidden, generator=generator)
    variances = 0.5 + torch.rand(sizes.layers, sizes.hidden, generator=generator)
    want = dict(forward.contenders(numbers, means, variances))["timl.nn.Classifier"](x).double()
    there = [t.to(device) for t in (x, means, variances)]
    found = dict(forward.contenders(numbers.to(device), *there[1:]))
    if "compile" not in skip:
        found.update([forward.compiled_twin(numbers.to(device), *there[1:])])
    rows, calls = [], {}
    for name, logits in found.items():
        if isinstance(logits, torch.nn.Module):
            logits.to(device)
        elif isinstance(logits, partial):
            logits.func.to(device)  # type: ignore[attr-defined]
        progress(f"checking {name}")
        error = _relative(logits(there[0]), want)
        if not error <= forward.TOLERANCE:
            raise SystemExit(f"{name} is wrong: relative error {error:.1e} of its logits")
        rows.append(Row(name, error, count=series))
        calls[name] = waited(partial(logits, there[0]), device)
    return timed(rows, calls, repeats)


def layer(device: torch.device, batch: int, repeats: int, skip: list[str]) -> dict[str, list[Row]]:
    """Check and time the LSTM layer beside torch.nn.LSTM, which is cuDNN's on CUDA."""
    every = list(film_lstm.contenders(skip))
    wanted, _ = film_lstm.exact(every[0], batch)  # on the CPU
    works = film_lstm.works(torch.float32, batch)[:LAYER_WORKS]
    for contender in every:
        assert isinstance(contender.module, torch.nn.Module)
        contender.module.to(device)
    found = {}
    for work, want in zip(works, wanted, strict=False):
        assert isinstance(work.call, partial)
        call = partial(work.call.func, *tree_map(partial(_on, device), work.call.args))
        rows, calls = [], {}
        for contender in every:
            name = contender.name
            if work.needs & _lacks(contender, device):
                rows.append(Row(name, None, not_timed="it has no second derivatives"))
                continue
            progress(f"checking {name}: {work.name}")
            error = _relative(call(contender), want)
            if not error <= film_lstm.TOLERANCE:
                if contender is every[0]:
                    raise SystemExit(f"{name} is wrong: relative error {error:.1e}, {work.name}")
                rows.append(Row(name, error, not_timed=f"relative error {error:.1e}"))
                continue
            rows.append(Row(name, error))
            calls[name] = waited(partial(call, contender), device)
        found[f"LSTM layer: {work.name}"] = timed(rows, calls, repeats)
    return found


def _lacks(contender: film_lstm.Contender, device: torch.device) -> frozenset[str]:
    """Return what PyTorch cannot do with an LSTM on a device."""
    on_cudnn = isinstance(contender.module, torch.nn.LSTM) and device.type == "cuda"
    return contender.lacks | (frozenset({"second order"}) if on_cudnn else frozenset())


def _on(device: torch.device, value: Any) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


def _relative(found: Tensor, want: Tensor) -> float:
    return float((found.detach().cpu().double() - want).norm() / want.norm())


def timed(rows: list[Row], calls: dict[str, Callable[[], object]], repeats: int) -> list[Row]:
    """Return the rows with their times."""
    times = time_in_rounds(calls, repeats) if calls else {}
    return [
        replace(row, milliseconds=[1e3 * s for s in times[row.name].seconds])
        if row.name in times
        else row
        for row in rows
    ]


def show(title: str, rows: list[Row]) -> str:
    """Lay out rows as a table."""
    headers = [title, "ms", "quartiles", "a second", "error", "times the first"]
    cells, first = [], None
    for row in rows:
        if not row.milliseconds:
            cells.append([row.name, row.not_timed, "", "", "", ""])
            continue
        timing = Timing(row.milliseconds)
        first = first or timing.median
        low, high = timing.quartiles
        cells.append(
            [
                row.name,
                f"{timing.median:.3g}",
                f"{low:.3g} to {high:.3g}",
                f"{1e3 * row.count / timing.median:,.0f}",
                "" if row.error is None else f"{row.error:.0e}",
                f"{timing.median / first:.2g}",
            ]
        )
    return table(headers, cells)


def main(arguments: list[str] | None = None) -> None:
    """Check, time and print everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda", help="where it runs; cpu to try the program")
    parser.add_argument("--tasks", type=int, default=32, help="tasks of a meta-batch")
    parser.add_argument("--series", type=int, default=65536, help="series that are evaluated")
    parser.add_argument("--batch", type=int, default=4096, help="series of the LSTM layer")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--skip", type=names_among(*SKIPPABLE), default=[])
    parser.add_argument("--json", type=Path, help="file for every repeat")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU: PyTorch finds none; --device cpu tries the program without one")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    print(f"On {name}, PyTorch {torch.__version__}; TF32 is off. Medians of {options.repeats}.\n")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    found = {
        f"meta-batch of {options.tasks} tasks": meta_steps(
            device, options.tasks, options.repeats, options.skip
        )
    }
    if "epoch" not in options.skip:
        title = f"training step on {options.tasks} tasks"
        found[title] = training_step(device, options.tasks, options.repeats)
    if "evaluation" not in options.skip:
        rows = evaluation(device, options.series, options.repeats, options.skip)
        found[f"evaluation of {options.series:,} series"] = rows
    if "layer" not in options.skip:
        found.update(layer(device, options.batch, options.repeats, options.skip))
    for title, rows in found.items():
        print(show(title, rows) + "\n")
    if options.json:
        report = {title: [asdict(row) for row in rows] for title, rows in found.items()}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
