"""Benchmarks: evaluation tasks with their training samples and a fixed test set."""

from __future__ import annotations

import copy
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from timl import random
from timl.data.regions.boxes import BBox
from timl.data.regions.countries import country_of
from timl.data.regions.reading import bbox_from_json
from timl.data.tasks.task import Task, positives_and_negatives, training_rows

if TYPE_CHECKING:
    from timl.data.cropharvest import CropHarvest


SHIPPED_BENCHMARKS = Path(__file__).with_name("benchmarks.json")
"""The evaluation tasks of CropHarvest's record: the papers' three, and China."""


@dataclass(frozen=True, eq=False)
class TestInstance:
    """A test set; a slice of it is one, too.

    Parameters
    ----------
    x : ndarray of float32, shape [n, 12, 18]
        Normalised series; as measured if the task has ``normalize=False``. From
        `CropHarvest.test_data` with ``flatten_x``: [n, 216].
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

    def __getitem__(self, rows: slice) -> TestInstance:
        return TestInstance(self.x[rows], self.y[rows], self.lats[rows], self.lons[rows])

    def evaluate_predictions(self, preds: NDArray[np.floating]) -> dict[str, float]:
        """Score predictions as the cropharvest package does, under its names.

        Parameters
        ----------
        preds : ndarray, shape [n]
            Each sample's probability of being positive, those without a label included; above 0.5
            counts as positive.

        Returns
        -------
        dict
            "auc_roc", "f1_score", "iou" and "num_samples", how many samples have a label. Only the
            last where the labelled samples are not of both classes.

        Raises
        ------
        ValueError
            If there is not one prediction a sample.

        Warns
        -----
        UserWarning
            If the labelled samples are not of both classes.
        """
        predictions = np.asarray(preds)
        if predictions.shape != self.y.shape:
            raise ValueError(
                f"preds has shape {list(predictions.shape)}; give one prediction for each of the "
                f"{len(self)} samples, [{len(self)}]"
            )
        labelled = self.y != -1
        truth, predictions = self.y[labelled] == 1, predictions[labelled]
        if len(np.unique(truth)) < 2:
            warnings.warn(
                f"the {len(truth)} labelled samples are not of both classes (is this a part of a "
                "test set?): there is nothing to score",
                stacklevel=2,
            )
            return {"num_samples": len(truth)}
        from sklearn.metrics import f1_score, roc_auc_score

        positive = predictions > 0.5
        return {
            "auc_roc": float(roc_auc_score(truth, predictions)),
            "f1_score": float(f1_score(truth, positive)),
            "iou": float((positive & truth).sum() / (positive | truth).sum()),
            "num_samples": len(truth),
        }


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
        The task; its ``test_identifier`` names the test files.
    whole_region : bool
        Withhold every task of its country from meta-training, not only that of its label.

    Attributes
    ----------
    name, data, task, whole_region
        As given.
    positives, negatives : ndarray of int64
        Positions of the training samples in `CropHarvest.series`. Where the task's negatives are
        balanced by repetition, positions of other crops occur several times, as in the
        cropharvest package.
    """

    def __init__(
        self, data: CropHarvest, name: str, task: Task, whole_region: bool = False
    ) -> None:
        self.name = name
        self.task = task
        self.data = data
        self.whole_region = whole_region
        rows = training_rows(
            data.labels, task.bounding_box, task.include_externally_contributed_labels
        )
        self.positives, self.negatives = positives_and_negatives(rows, task)

    def __repr__(self) -> str:
        negatives = f"{len(self.negatives)} negatives"
        unique = len(self.unique_negatives)
        if unique < len(self.negatives):
            negatives += f" ({unique} unique)"
        return f"{type(self).__name__}({self.name!r}, {len(self.positives)} positives, {negatives})"

    @property
    def unique_negatives(self) -> NDArray[np.int64]:
        """The negatives, each once, ascending."""
        return np.unique(self.negatives)

    def withholds(self, region: BBox, target_label: str, as_published: bool = False) -> bool:
        """Tell whether a task must be kept out of meta-training for this benchmark's sake.

        A region is the benchmark's if its name or its edges are the same, or if both are boxes of
        one country (see `country_boxes`).

        Parameters
        ----------
        region : BBox
            The task's region.
        target_label : str
            The task's label.
        as_published : bool
            As TIML's published code: it withholds nothing for a benchmark of a whole region.
        """
        here = self.task.bounding_box
        country = country_of(here.name)
        same = (
            region.name == here.name
            or (country is not None and country == country_of(region.name))
            or (region.contains_bbox(here) and here.contains_bbox(region))
        )
        if self.whole_region:
            return same and not as_published
        return same and target_label == self.task.target_label

    @property
    def info(self) -> NDArray[np.float32]:
        """The task's information, float32 [13]."""
        return self.task.info

    @property
    def test(self) -> TestInstance:
        """The test set: all files of the task's ``test_identifier``, one after another.

        Raises
        ------
        FileNotFoundError
            If the data set has no readable test file of this task.
        """
        return self.data.test_instance(str(self.task.test_identifier), self.task.normalize)

    def subset(self, size: int, seed: int) -> BenchmarkTask:
        """Draw a benchmark with fewer labels, half of them positive.

        The draws of one seed are nested: those of a greater size hold those of a smaller.

        Parameters
        ----------
        size : int
            How many labels, even and at least 2.
        seed : int
            Of the draw.

        Raises
        ------
        ValueError
            If the size is odd or out of range, or there are too few positives or negatives.
        """
        sizes = [len(self.positives), len(self.negatives)]
        if not 2 <= size <= 2 * min(sizes) or size % 2:
            raise ValueError(
                f"size is {size}; benchmark {self.name!r} has {sizes[0]} positives and {sizes[1]} "
                f"negatives: give an even number from 2 to {2 * min(sizes)}"
            )
        part = copy.copy(self)
        purpose = random.Purpose.LABEL_SUBSET
        part.positives, part.negatives = (
            pool[random.distinct([len(pool)], size // 2, seed=seed, task=task, purpose=purpose)[0]]
            for task, pool in enumerate((self.positives, self.negatives))
        )
        return part

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


class Benchmark(NamedTuple):
    """What a benchmark file says of one evaluation task."""

    name: str
    task: Task
    whole_region: bool


def read_benchmarks(path: Path) -> list[Benchmark]:
    """Read a benchmark file.

    Parameters
    ----------
    path : Path
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
        If it is not such a list.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from error
    if not isinstance(entries, list):
        raise ValueError(f"{path} must hold a list of benchmarks, got {type(entries).__name__}")
    return [_benchmark(entry, f"{path}, entry {i}") for i, entry in enumerate(entries)]


def _benchmark(entry: Any, source: str) -> Benchmark:
    if not isinstance(entry, dict):
        raise ValueError(f"{source}: a benchmark must be an object, got {type(entry).__name__}")
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
            raise ValueError(f"{source}: {key!r} must be {names}, got {entry.get(key)!r}")
    withhold = entry.get("withhold", "label")
    if withhold not in ("label", "region"):
        raise ValueError(f"{source}: 'withhold' must be 'label' or 'region', got {withhold!r}")
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
        raise ValueError(f"{source}: {error}") from error
    return Benchmark(entry["name"], task, withhold == "region")
