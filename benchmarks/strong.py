"""Times the strong protocol's classifier in series per second, checked against its twin first.

Run `python benchmarks/strong.py --help`; README.md in this folder says how to read the output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from common import (
    SeriesRow,
    Timing,
    benchmark_options,
    integers,
    machine,
    progress,
    report_each_thread_count,
    table,
)
from meta_batch import Sizes, draw
from peaks import PeaksReport, time_beside_peaks
from sklearn.ensemble import RandomForestClassifier
from timl import reference
from timl.meta import fit_strong
from timl.meta.strong.constants import DIMENSIONS, METRIC_TRAINED, REFERENCES, WIDTH
from timl.nn import DeepKernel, StrongClassifier
from timl.nn.strong.description import describe_series, description_size, normalization_tensor
from timl.normalization import Normalization
from torch import Tensor

TOLERANCE = 1e-4  # of the logits and distances, float32 against the twin in float64
CHECKED = 256  # series
NETWORK = "network_evaluate"

NORMALIZATION: Normalization = {
    "mean": np.array([-12.0, -19, *[2000.0] * 11, 290, 0.003, 400, 3, 0.4]),
    "std": np.array([4.0, 4, *[1200.0] * 11, 10, 0.003, 400, 4, 0.3]),
    "ndvi": "true",
}


@dataclass(frozen=True)
class Row(SeriesRow):
    """What was measured of one contender."""

    flops: float | None
    """Operations of a series in matrix products; None where that says nothing."""


@dataclass(frozen=True)
class EvaluationReport(PeaksReport):
    """What one process measured."""

    rows: list[Row]


def series(count: int, seed: int) -> Tensor:
    """Return series whose months are alike, [count, 12, 18]."""
    generator = torch.Generator().manual_seed(seed)
    months = torch.randn(count, 12, 18, generator=generator)
    return 0.5 * months + torch.randn(count, 1, 18, generator=generator)


def deep_kernel() -> DeepKernel:
    """Return a deep kernel of the sizes that learning gives it, with random weights."""
    networks = len(METRIC_TRAINED)
    kernel = DeepKernel(12, networks, DIMENSIONS, WIDTH, ("crop",), REFERENCES)
    described = describe_series(series(1000, 1).numpy(), NORMALIZATION).astype(np.float64)
    kernel.mean.copy_(torch.from_numpy(described.mean(axis=0)))
    kernel.scale.copy_(torch.from_numpy(described.std(axis=0)))
    generator = torch.Generator().manual_seed(2)

    def normal(size: tuple[int, ...], deviation: float) -> Tensor:
        return deviation * torch.randn(size, generator=generator)

    features = len(kernel.mean)
    axes = normal((features, DIMENSIONS), (2 * features * DIMENSIONS) ** -0.5)
    for network, trained in zip(kernel.members, METRIC_TRAINED, strict=True):
        network.hidden_weight.copy_(normal((WIDTH, features), features**-0.5))
        network.prior_weight.copy_(normal(tuple(network.prior_weight.shape), 0.1))
        network.log_head.copy_(torch.tensor([0.6, 1.0, 5.0]).log())
        network.axes.copy_(axes)
        if trained:
            network.axes.add_(normal((features, DIMENSIONS), 0.1 * float(axes.std())))
            network.point_weight.copy_(normal((DIMENSIONS, WIDTH), 0.01))
    standard = kernel.standardize(described[:REFERENCES]).float()
    kernel.reference.copy_(standard @ axes)
    kernel.usual_distance.fill_(0.8)
    kernel.normalization = NORMALIZATION
    return kernel.eval()


def flops(labels: int, distances: bool) -> float:
    """Return the operations of a series in the classifier's matrix products.

    The networks whose metric is not trained have the same points: computed once.
    """
    networks, trained = len(METRIC_TRAINED), sum(METRIC_TRAINED)
    products = description_size(12) * (networks * WIDTH + (1 + trained) * DIMENSIONS)
    products += trained * WIDTH * DIMENSIONS + (1 + trained) * labels * DIMENSIONS
    return 2.0 * (products + distances * (REFERENCES + labels) * DIMENSIONS)


def checked(name: str, found: tuple[Tensor, ...], want: tuple[Tensor, ...]) -> float:
    """Return the largest relative error of the results, which must be within the tolerance."""
    errors = [
        float((got[: len(exact)].double() - exact).norm() / exact.norm())
        for got, exact in zip(found, want, strict=True)
    ]
    if not max(errors) <= TOLERANCE:
        raise SystemExit(f"{name} is wrong: relative errors {errors} of logits and distances")
    return max(errors)


def classifier(kernel: DeepKernel, labels: int) -> tuple[StrongClassifier, RandomForestClassifier]:
    """Return the classifier and a Random Forest on the description, fitted to as many labels."""
    x = series(labels, 3).numpy()
    noise = np.random.default_rng(4).normal(size=labels)
    season: np.ndarray = x[:, 4:8, 8].mean(axis=1)
    y = (season + 0.5 * noise > 0).astype(int)
    forest = RandomForestClassifier(100, random_state=0, n_jobs=1)
    fitted = fit_strong(kernel, x, y, normalization=NORMALIZATION, target_label="crop")
    return fitted, forest.fit(describe_series(x, NORMALIZATION), y)


@torch.no_grad()
def measure(count: int, labels: list[int], repeats: int, threads: int) -> EvaluationReport:
    """Check and time every contender in this process."""
    torch.set_num_threads(threads)
    x, kernel = series(count, 5), deep_kernel()
    bands = normalization_tensor(NORMALIZATION, x)
    calls: dict[str, Callable[[], object]] = {}
    rows: dict[str, tuple[float | None, float | None]] = {}

    def add(
        name: str, call: Callable[[], object], operations: float | None, error: float | None
    ) -> None:
        calls[name], rows[name] = call, (operations, error)

    sizes = Sizes(tasks=1)
    numbers = draw(sizes)
    means = torch.zeros(sizes.layers, sizes.hidden)
    size = (sizes.hidden, sizes.layers, 1)
    weights = (numbers.weights, numbers.film[0], means, means + 1, *size)
    add(
        NETWORK,
        partial(torch.ops.timl.network_evaluate, x, *weights),
        sizes.forward_flops,
        None,
    )
    for number in labels:
        progress(f"checking {number} labels")
        fitted, forest = classifier(kernel, number)
        forest.set_params(n_jobs=threads)
        few = x[: max(CHECKED, 64)]
        want = reference.strong_evaluate(few, *fitted.arguments(distances=True))
        both = fitted.logits_and_distances(x)
        name = f"strong, {number} labels"
        add(name, partial(fitted, x), flops(number, False), checked(name, (both[0],), want[:1]))
        name += ", distances"
        call = partial(fitted.logits_and_distances, x)
        add(name, call, flops(number, True), checked(name, both, want))

        def predict(given: RandomForestClassifier = forest, engine: bool = False) -> object:
            described = (
                describe_series(x.numpy(), NORMALIZATION)
                if engine
                else reference.describe(x, bands).numpy()
            )
            return given.predict_proba(described)

        add(f"Random Forest, {number} labels", predict, None, None)
        name = f"Random Forest, {number} labels, engine's description"
        add(name, partial(predict, engine=True), None, None)

    timings, rates = time_beside_peaks(calls, repeats, threads)
    return EvaluationReport(
        threads,
        machine(),
        rates,
        [
            Row(name, error, [count / s for s in timings[name].seconds], operations)
            for name, (operations, error) in rows.items()
        ],
    )


def show(report: EvaluationReport) -> str:
    """Lay out what one process measured."""
    network = next(row.median for row in report.rows if row.name == NETWORK)
    headers = ["evaluation", "series per second", "quartiles", f"times {NETWORK}", "GFLOP/s"]
    headers += [*report.peak_headers(), "error"]
    cells = []
    for row in report.rows:
        low, high = Timing(row.series_per_second).quartiles
        line = [row.name, f"{row.median:,.0f}", f"{low:,.0f} to {high:,.0f}"]
        line.append(f"{row.median / network:.2f}")
        if row.flops is None:
            line += [""] * (1 + len(report.peaks))
        else:
            rate = row.median * row.flops
            line += [f"{rate / 1e9:.1f}", *report.of_peaks(row.flops, row.timing)]
        cells.append([*line, "" if row.error is None else f"{row.error:.0e}"])
    return "\n".join([*report.heading(), "", table(headers, cells)])


def main() -> None:
    parser = benchmark_options(__doc__, repeats=10)
    parser.add_argument("--series", type=int, default=20_000)
    parser.add_argument("--labels", type=integers, default=[40, 1_000], metavar="40,1000")
    given = parser.parse_args()
    measured = partial(measure, given.series, given.labels, given.repeats)
    report_each_thread_count(given, measured, show)


if __name__ == "__main__":
    main()
