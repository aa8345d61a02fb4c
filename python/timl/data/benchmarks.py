"""Benchmarks: evaluation tasks with their training samples and a fixed test set."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from timl import random
from timl.data.regions import bbox_from_json
from timl.data.tasks import Task, positives_and_negatives, training_rows

if TYPE_CHECKING:
    from timl.data.cropharvest import CropHarvest


@dataclass(frozen=True, eq=False)
class TestInstance:
    """A test set.

    Parameters
    ----------
    x : ndarray of float32, shape [n, 12, 18]
        Normalised series; as measured if the task has ``normalize=False``.
    y : ndarray of int8, shape [n]
        1 positive, 0 negative, -1 no label.
    lats, lons : ndarray of float64, shape [n]
        Where they are, degrees.
    """

    __test__ = False  # no test of pytest's

    x: NDArray[np.float32]
    y: NDArray[np.int8]
    lats: NDArray[np.float64]
    lons: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.y)


class BenchmarkTask:
    """One evaluation task: fine-tune on its training samples, score on its test set.

    Made by `CropHarvest`; see `CropHarvest.benchmark`.

    Parameters
    ----------
    data : CropHarvest
        The data set.
    name : str
        The benchmark's name.
    task : Task
        The task; its ``test_identifier`` names the test file.

    Attributes
    ----------
    name, data, task
        As given.
    positives, negatives : ndarray of int64
        Positions of the training samples in `CropHarvest.series`.
    """

    def __init__(self, data: CropHarvest, name: str, task: Task) -> None:
        self.name = name
        self.task = task
        self.data = data
        rows = training_rows(data.labels, task.bounding_box)
        self.positives, self.negatives = positives_and_negatives(rows, task)

    def __repr__(self) -> str:
        return (
            f"BenchmarkTask({self.name!r}, {len(self.positives)} positives, "
            f"{len(self.negatives)} negatives)"
        )

    @property
    def info(self) -> NDArray[np.float32]:
        """The task's information, float32 [13]."""
        return self.task.info

    @property
    def test(self) -> TestInstance:
        """The test set.

        Raises
        ------
        FileNotFoundError
            If the data set has no readable test file of this task.
        """
        return self.data.test_instance(str(self.task.test_identifier), self.task.normalize)

    def train_arrays(self) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """Give all training samples, positives first.

        Returns
        -------
        x : ndarray of float32, shape [n, 12, 18]
            Normalised series.
        y : ndarray of int8, shape [n]
            1 and 0.
        """
        return self._arrays(self.positives, self.negatives)

    def sample(
        self, k: int, seed: int, step: int = 0
    ) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """Draw k positives and k negatives without repetition.

        Parameters
        ----------
        k : int
            How many of each.
        seed, step : int
            The draw depends on these alone.

        Returns
        -------
        x : ndarray of float32, shape [2 k, 12, 18]
            Normalised series, positives first.
        y : ndarray of int8, shape [2 k]
            1 and 0.

        Raises
        ------
        ValueError
            If there are fewer than k positives or negatives.
        """
        sizes = [len(self.positives), len(self.negatives)]
        if not 1 <= k <= min(sizes):
            raise ValueError(
                f"k is {k}; benchmark {self.name!r} has {sizes[0]} positives and {sizes[1]} "
                f"negatives: give 1 to {min(sizes)}"
            )
        purpose = random.Purpose.FINE_TUNING_SAMPLES
        positive, negative = random.distinct(sizes, k, seed=seed, step=step, purpose=purpose)
        return self._arrays(self.positives[positive], self.negatives[negative])

    def _arrays(
        self, positives: NDArray[np.int64], negatives: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        positions = np.concatenate([positives, negatives])
        y = np.repeat(np.array([1, 0], np.int8), [len(positives), len(negatives)])
        return self.data.series(positions, normalize=self.task.normalize), y


def read_benchmarks(path: Path) -> list[tuple[str, Task]]:
    """Read names and tasks from a benchmark file.

    Parameters
    ----------
    path : Path
        A JSON list of ``{"name", "region", "target_label", "classification_label",
        "balance_negative_crops", "test_file"}``; region as in `read_regions`, target_label null
        for crop versus non-crop. Other keys are ignored.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not such a list.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from error
    if not isinstance(entries, list):
        raise ValueError(f"{path} must hold a list of benchmarks, got {type(entries).__name__}")
    return [_benchmark(entry, f"{path}, entry {i}") for i, entry in enumerate(entries)]


def _benchmark(entry: Any, source: str) -> tuple[str, Task]:
    if not isinstance(entry, dict):
        raise ValueError(f"{source}: a benchmark must be an object, got {type(entry).__name__}")
    kinds: dict[str, tuple[type, ...]] = {
        "name": (str,),
        "target_label": (str, type(None)),
        "classification_label": (str, type(None)),
        "balance_negative_crops": (bool,),
        "test_file": (str,),
    }
    for key, allowed in kinds.items():
        if key not in entry or not isinstance(entry[key], allowed):
            names = " or ".join("null" if kind is type(None) else kind.__name__ for kind in allowed)
            raise ValueError(f"{source}: {key!r} must be {names}, got {entry.get(key)!r}")
    task = Task(
        bbox_from_json(entry.get("region"), source),
        entry["target_label"],
        entry["balance_negative_crops"],
        test_identifier=entry["test_file"].removesuffix(".h5"),
        classification_label=entry["classification_label"],
    )
    return entry["name"], task
