"""Benchmark files: the evaluation tasks of a data set, as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from timl.data.regions.reading import bbox_from_json
from timl.data.tasks.task import Task
from timl.files import read_json

SHIPPED_BENCHMARKS = Path(__file__).with_name("benchmarks.json")
"""The evaluation tasks of CropHarvest's record: the papers' three, and China."""


class Benchmark(NamedTuple):
    """Entry of a benchmark file: what `BenchmarkTask` needs beside the data set."""

    name: str
    task: Task
    whole_region: bool


def read_benchmarks(path: Path) -> list[Benchmark]:
    """Read a benchmark file.

    Parameters
    ----------
    path
        A JSON list of ``{"name", "region", "target_label", "classification_label",
        "balance_negative_crops", "test_file"}``; region as in `read_regions`, target_label null
        for crop versus non-crop, balance_negative_crops true, false or "cut" (see `Task`),
        test_file the name of the test file or what the names of several begin with. Optional:
        ``"withhold"``, "label" (default: keep the tasks of this label and region out of
        meta-training) or "region" (all tasks of its country). Other keys are ignored.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file does not hold such a list.
    """
    entries = read_json(path, "give a list of benchmarks")
    if not isinstance(entries, list):
        raise ValueError(f"{path} holds a {type(entries).__name__}: give a list of benchmarks")
    return [_benchmark(entry, f"{path}, entry {i}") for i, entry in enumerate(entries)]


def _benchmark(entry: Any, source: str) -> Benchmark:
    if not isinstance(entry, dict):
        raise ValueError(f"{source} is a {type(entry).__name__}: give a benchmark, an object")
    kinds: dict[str, tuple[type, ...]] = {
        "name": (str,),
        "target_label": (str, type(None)),
        "classification_label": (str, type(None)),
        "balance_negative_crops": (bool, str),
        "test_file": (str,),
    }
    for key, allowed in kinds.items():
        if key not in entry or not isinstance(entry[key], allowed):
            names = " or ".join("null" if kind is type(None) else kind.__name__ for kind in allowed)
            raise ValueError(f"{source}, {key!r} is {entry.get(key)!r}: give {names}")
    withhold = entry.get("withhold", "label")
    if withhold not in ("label", "region"):
        raise ValueError(f"{source}, 'withhold' is {withhold!r}: give 'label' or 'region'")
    region = bbox_from_json(entry.get("region"), source)
    try:
        task = Task(
            region,
            entry["target_label"],
            entry["balance_negative_crops"],
            test_identifier=entry["test_file"].removesuffix(".h5"),
            classification_label=entry["classification_label"],
        )
    except ValueError as error:
        raise ValueError(f"{source}, {error}") from error
    return Benchmark(entry["name"], task, withhold == "region")
