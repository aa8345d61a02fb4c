"""Writing a simulated world's files: labels, archives of series, regions, evaluation tasks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from timl.bands import BANDS
from timl.crop_classes import CROP
from timl.data.record.names import (
    ARCHIVE_SUFFIX,
    ARRAYS,
    BENCHMARKS,
    FEATURES,
    LABELS,
    NORMALISING,
    REGIONS,
    TEST_FEATURES,
)
from timl.data.regions.boxes import BBox
from timl.data.regions.sphere import chord_to_km, on_unit_sphere
from timl.data.simulator.archives import END, SeriesFiles, compress, folders, hdf5, members
from timl.data.simulator.covers import COVERS, CROPS
from timl.data.simulator.draws import Draws, Floats, Integers
from timl.data.simulator.labels import geojson, sample_keys
from timl.data.simulator.places import Places
from timl.data.simulator.samples import Evaluation, Samples
from timl.data.simulator.series import make_series

FILES = frozenset(
    {
        f"{FEATURES}{ARCHIVE_SUFFIX}",
        f"{TEST_FEATURES}{ARCHIVE_SUFFIX}",
        LABELS,
        REGIONS,
        BENCHMARKS,
    }
)
"""Names of the files that `write_world` writes."""

_CHUNK = 1024
"""Number of series made and compressed at once: their arrays stay in the processor's cache."""

Progress = Callable[[int, int], None]
"""Function that is told how many series have been made, and of how many."""

Made = TypeVar("Made")


class World(NamedTuple):
    """A simulated world, to be written."""

    places: Places
    evaluations: list[Evaluation]
    samples: Samples
    seed: int


def write_world(folder: Path, world: World, progress: Progress) -> None:
    """Write a world's files into a folder."""
    datasets, indices = sample_keys(world.places, world.samples)
    _write_features(folder / f"{FEATURES}{ARCHIVE_SUFFIX}", world, datasets, indices, progress)
    _write_tests(folder / f"{TEST_FEATURES}{ARCHIVE_SUFFIX}", world)
    with (folder / LABELS).open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(geojson(world.places, world.samples, datasets, indices))
    write_json(folder / REGIONS, [_region(box) for box in world.places.boxes])
    write_json(folder / BENCHMARKS, [_benchmark(world, i) for i in range(len(world.evaluations))])
    progress(len(world.samples), len(world.samples))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8", newline="\n")


def _write_features(
    path: Path, world: World, datasets: list[str], indices: Integers, progress: Progress
) -> None:
    training = int((world.samples.evaluation < 0).sum())
    series_file = SeriesFiles()

    def make(chunk: int) -> tuple[int, Floats, Floats, bytes]:
        rows = range(training)[chunk * _CHUNK : (chunk + 1) * _CHUNK]
        part = world.samples.part(slice(rows.start, rows.stop))
        series = make_series(world.places, part, Draws(world.seed, chunk))
        names = (f"{ARRAYS}/{indices[row]}_{datasets[row]}.h5" for row in rows)
        data = compress(members(zip(names, map(series_file, series), strict=True)))
        values = series.reshape(-1, len(BANDS))
        return len(rows), values.mean(axis=0), values.var(axis=0), data

    made = 0
    statistics = []
    with path.open("wb") as file:
        file.write(compress(folders([FEATURES, ARRAYS])))
        for count, mean, variance, data in in_order(make, _chunks(training)):
            file.write(data)
            statistics.append((count, mean, variance))
            made += count
            progress(made, len(world.samples))
        mean, std = _pooled(statistics)
        file.write(compress(members([(NORMALISING, hdf5(mean=mean, std=std))])))
        file.write(compress(END))


def _write_tests(path: Path, world: World) -> None:
    samples = world.samples
    first_chunk = _chunks(int((samples.evaluation < 0).sum()))
    with path.open("wb") as file:
        file.write(compress(folders([TEST_FEATURES])))
        for number, evaluation in enumerate(world.evaluations):
            start, stop = np.searchsorted(samples.evaluation, [number, number + 1])
            part = samples.part(slice(start, stop))
            contents = hdf5(
                x=make_series(world.places, part, Draws(world.seed, first_chunk + number)),
                y=_truth(part, evaluation).astype(np.float64),
                lats=part.latitude,
                lons=part.longitude,
            )
            name = f"{TEST_FEATURES}/{evaluation.name}.h5"
            file.write(compress(members([(name, contents)])))
        file.write(compress(END))


def _chunks(training: int) -> int:
    return -(-training // _CHUNK)


def in_order(make: Callable[[int], Made], count: int) -> Iterator[Made]:
    """Make chunks on all processors and yield them in order, with few waiting in memory."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(make, chunk) for chunk in range(min(2 * workers, count))]
        try:
            for chunk in range(count):
                result = waiting.pop(0).result()
                if chunk + 2 * workers < count:
                    waiting.append(pool.submit(make, chunk + 2 * workers))
                yield result
        finally:
            pool.shutdown(cancel_futures=True)


def _pooled(statistics: list[tuple[int, Floats, Floats]]) -> tuple[Floats, Floats]:
    """Return mean and deviation of all from those of parts; 1 for a constant band."""
    counts = np.array([count for count, _, _ in statistics], np.float64)
    shares = (counts / counts.sum())[:, None]
    means = np.stack([mean for _, mean, _ in statistics])
    variances = np.stack([variance for _, _, variance in statistics])
    mean = (shares * means).sum(axis=0)
    variance = (shares * (variances + (means - mean) ** 2)).sum(axis=0)
    return mean, np.where(variance > 0, np.sqrt(variance), 1.0)


def _truth(samples: Samples, evaluation: Evaluation) -> Integers:
    """Return the labels of a task: 1, 0, and -1 for a crop without a name in a crop's task."""
    crop = samples.cover < len(CROPS)
    if evaluation.target is None:
        return crop.astype(np.int64)
    positive = (samples.cover == evaluation.target).astype(np.int64)
    return np.where(samples.named | ~crop, positive, -1)


def _region(box: BBox) -> dict[str, Any]:
    return {
        "name": box.name,
        "min_lat": box.min_lat,
        "max_lat": box.max_lat,
        "min_lon": box.min_lon,
        "max_lon": box.max_lon,
    }


def _benchmark(world: World, number: int) -> dict[str, Any]:
    evaluation, samples = world.evaluations[number], world.samples
    cover = None if evaluation.target is None else COVERS[evaluation.target]
    here = (samples.evaluation < 0) & (samples.place == evaluation.place)
    tests = samples.evaluation == number
    truth = _truth(samples, evaluation)
    positives, negatives = int((here & (truth == 1)).sum()), int((here & (truth == 0)).sum())
    if cover is not None:  # non-crops are balanced: no more than other crops
        others = int((here & (truth == 0) & (samples.cover < len(CROPS))).sum())
        negatives = min(negatives, 2 * others)
    return {
        "name": evaluation.name,
        "region": _region(world.places.boxes[evaluation.place]),
        "target_label": None if cover is None else cover.label,
        "classification_label": CROP if cover is None else cover.classification_label,
        "balance_negative_crops": cover is not None,
        "test_file": f"{evaluation.name}.h5",
        "train_positives": positives,
        "train_negatives": negatives,
        "test_positives": int((tests & (truth == 1)).sum()),
        "test_negatives": int((tests & (truth == 0)).sum()),
        "min_train_test_km": round(_least_distance(samples, here, tests), 3),
    }


def _least_distance(samples: Samples, some: Any, others: Any) -> float:
    """Return the smallest distance between two groups of samples, km."""
    points = on_unit_sphere(samples.latitude, samples.longitude)
    square = min(float(((points[some] - point) ** 2).sum(axis=1).min()) for point in points[others])
    return float(chord_to_km(np.sqrt(square)))
