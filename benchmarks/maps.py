"""Times maps in pixels per second, from the file to the file, checked against a plain loop first.

Run `python benchmarks/maps.py --help`; README.md in this folder says how to read the output.
"""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import timl
import torch
from common import (
    Report,
    Timing,
    benchmark_options,
    machine,
    progress,
    report_each_thread_count,
    table,
    time_in_rounds,
)
from rasterio.windows import Window
from sklearn.ensemble import RandomForestClassifier
from strong import NORMALIZATION, deep_kernel, series
from timl.data.own.exports import fill_missing, series_of_bands
from timl.maps import predict as predict_module
from timl.meta import fit_strong
from timl.nn import StrongClassifier
from timl.nn.strong.description import describe_series

LABELS = 50
LOOP = 4  # times smaller is the export of the loops over batches of 64
ENGINE = "the operator alone, series in memory"


@dataclass(frozen=True)
class Row:
    """What was measured of one contender."""

    name: str
    pixels_per_second: list[float]
    """Rates of every repeat."""


@dataclass(frozen=True)
class MapsReport(Report):
    """What one process measured."""

    peak_mib: float
    """Greatest memory of the process, MiB."""
    rows: list[Row]


def write_export(path: Path, size: int, compress: str) -> None:
    """Write an export of size x size pixels in blocks of 256, as Earth Engine writes them."""
    tile = 64
    measured = (
        series(tile * tile, 7).double().numpy() * NORMALIZATION["std"] + NORMALIZATION["mean"]
    )
    raw = np.empty((206, tile, tile))
    kept = [0, 1, *range(3, 12), *range(13, 17)]  # not B1 and B10
    for step in range(12):
        part = measured[:, step].T.reshape(18, tile, tile)
        raw[17 * step : 17 * step + 17] = 100.0
        raw[[17 * step + band for band in kept]] = part[:15]
    raw[-2:] = measured[:, 0].T.reshape(18, tile, tile)[15:17]
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=206,
        height=size,
        width=size,
        dtype="float64",
        crs="EPSG:32636",
        transform=rasterio.Affine(10, 0, 500_000, 0, -10, 100_000),
        tiled=True,
        blockxsize=256,
        blockysize=256,
        compress=compress,
        interleave="pixel",
    ) as file:
        for row in range(0, size, 256):
            for column in range(0, size, 256):
                height, width = min(256, size - row), min(256, size - column)
                block = np.tile(raw, (1, 4, 4))[:, :height, :width]
                file.write(block, window=Window(column, row, width, height))


def plain_map(
    path: Path, out: Path, predict: Callable[[np.ndarray], np.ndarray], batch: int
) -> None:
    """Map an export as a script would: read a block, make its series, predict them in batches."""
    with rasterio.open(path) as file:
        profile = {**file.profile, "count": 1, "dtype": "float32", "compress": "deflate"}
        with rasterio.open(out, "w", **profile) as written:
            for _, window in file.block_windows(1):
                raw = file.read(window=window)
                x = fill_missing(
                    series_of_bands(raw.reshape(206, -1), "true"), np.zeros(18), "pixel"
                )
                x = ((x - NORMALIZATION["mean"]) / NORMALIZATION["std"]).astype(np.float32)
                found = [predict(x[i : i + batch]) for i in range(0, len(x), batch)]
                written.write(np.concatenate(found).reshape(raw.shape[1:]), 1, window=window)


def read(path: Path) -> np.ndarray:
    """Return the first band of a map."""
    with rasterio.open(path) as file:
        band: np.ndarray = file.read(1)
    return band


def measure(size: int, compress: str, repeats: int, threads: int) -> MapsReport:
    """Check and time every contender in this process."""
    torch.set_num_threads(threads)
    predict_module._beside = lambda path, classes, points: path  # type: ignore[assignment]
    x = series(LABELS, 3).numpy()
    y = (x[:, 4:8, 8].mean(axis=1) > 0).astype(int)
    strong = fit_strong(deep_kernel(), x, y, normalization=NORMALIZATION, target_label="crop")
    network = timl.nn.Classifier().eval()
    network.normalization = NORMALIZATION
    forest = RandomForestClassifier(100, random_state=0, n_jobs=threads)
    forest.fit(describe_series(x, NORMALIZATION), y)
    plain_forest = RandomForestClassifier(100, random_state=0, n_jobs=threads)
    plain_forest.fit(x.reshape(len(x), -1), y)
    with tempfile.TemporaryDirectory() as folder:
        export, out = Path(folder) / "export.tif", Path(folder) / "map.tif"
        small = Path(folder) / "small.tif"  # for what is checked, and for the slow loops
        progress("writing an export")
        write_export(export, size, compress)
        write_export(small, size // LOOP, compress)

        def timl_map(classifier: Any, source: Path = export) -> None:
            timl.predict_map(classifier, source, out, workers=threads, progress=False)

        def by_torch(batch: np.ndarray, classifier: Any = strong) -> np.ndarray:
            with torch.no_grad():
                return torch.sigmoid(classifier(torch.from_numpy(batch))).numpy()

        def by_forest(batch: np.ndarray, described: bool = True) -> np.ndarray:
            if described:
                return forest.predict_proba(describe_series(batch, NORMALIZATION))[:, 1]
            return plain_forest.predict_proba(batch.reshape(len(batch), -1))[:, 1]

        progress("checking")
        for classifier in (strong, network):
            timl_map(classifier, small)
            found = read(out)
            plain_map(small, out, partial(by_torch, classifier=classifier), 64)
            if not np.allclose(found, read(out), rtol=0, atol=1e-5):
                raise SystemExit("the map is not that of a plain loop")
        many = series(65_536, 9)
        calls: dict[str, Callable[[], object]] = {
            "predict_map, strong": partial(timl_map, strong),
            "predict_map, the paper's network": partial(timl_map, network),
            "Random Forest on the description, by block": partial(
                plain_map, export, out, by_forest, 1 << 16
            ),
            "Random Forest on the series, by block": partial(
                plain_map, export, out, partial(by_forest, described=False), 1 << 16
            ),
            "strong, batches of 64 in a loop": partial(plain_map, small, out, by_torch, 64),
            "the paper's network, batches of 64 in a loop": partial(
                plain_map, small, out, partial(by_torch, classifier=network), 64
            ),
            f"strong: {ENGINE}": partial(_evaluate, strong, many),
            f"the paper's network: {ENGINE}": partial(_evaluate, network, many),
        }
        timings = time_in_rounds(calls, repeats)
    rows = []
    for name in calls:
        pixels = len(many) if name.endswith(ENGINE) else size * size
        pixels = (size // LOOP) ** 2 if name.endswith("loop") else pixels
        rows.append(Row(name, [pixels / seconds for seconds in timings[name].seconds]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return MapsReport(threads, machine(), peak, rows)


@torch.no_grad()
def _evaluate(classifier: Any, x: torch.Tensor) -> None:
    """Compute what a map needs of the classifier: logits, and distances of a strong one."""
    if isinstance(classifier, StrongClassifier):
        classifier.logits_and_distances(x)
    else:
        classifier(x)


def show(report: MapsReport) -> str:
    """Lay out what one process measured."""
    rates = {row.name: Timing(row.pixels_per_second) for row in report.rows}
    first = next(iter(rates.values())).median
    cells = []
    for name, timing in rates.items():
        kind = "strong" if "strong" in name else "the paper's network"
        engine = rates[f"{kind}: {ENGINE}"].median
        low, high = timing.quartiles
        share = f"{timing.median / engine:.0%}" if name.startswith("predict_map") else ""
        cells.append(
            [
                name,
                f"{timing.median:,.0f}",
                f"{low:,.0f} to {high:,.0f}",
                share,
                f"{first / timing.median:.2f}",
            ]
        )
    headers = ["map", "pixels per second", "quartiles", "of its operator", "predict_map is x times"]
    lines = [
        *report.heading(),
        f"Greatest memory of the process: {report.peak_mib:,.0f} MiB",
    ]
    return "\n".join([*lines, "", table(headers, cells)])


def main() -> None:
    parser = benchmark_options(__doc__, repeats=5)
    parser.add_argument("--size", type=int, default=512, help="edge of the export, pixels")
    parser.add_argument(
        "--compress",
        choices=("none", "lzw"),
        default="none",
        help="of the export, which is noise",
    )
    given = parser.parse_args()
    measured = partial(measure, given.size, given.compress, given.repeats)
    report_each_thread_count(given, measured, show)


if __name__ == "__main__":
    main()
