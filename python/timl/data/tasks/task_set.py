"""Task sets: the tasks to meta-train on, made from regions and labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from timl.crop_classes import CROP, NON_CROP
from timl.data.regions.boxes import BBox
from timl.data.regions.countries import country_boxes
from timl.data.regions.reading import read_regions
from timl.data.tasks.labelled_data import LabelledData
from timl.data.tasks.task import (
    Balance,
    Task,
    class_of_samples,
    positives_and_negatives,
    training_rows,
)
from timl.data.tasks.task_sequence import TaskSequence

if TYPE_CHECKING:
    import pandas as pd


COUNTRIES = "countries"
"""Name that stands for the boxes of all countries."""


class ForgettingHistory(Protocol):
    """Part of a training history that `TaskSet.table` reads."""

    task_ids: list[str]
    """Ids of the training tasks."""
    forgotten: NDArray[np.int64]
    """Epoch after which each of them was forgotten; -1: it was not."""


@dataclass(frozen=True, eq=False, repr=False)
class TaskSet(TaskSequence[Task]):
    """An ordered set of tasks and the samples of each.

    Parameters
    ----------
    data
        Data set of the samples.
    tasks
        Tasks, in order.
    positives, negatives : tuples of int64 arrays
        Positions of each task's samples. Where negatives are balanced by repetition (see `Task`),
        positions of other crops occur several times.
    numbers : int64 array of shape [N]
        Number of each task in the set it was made in; random draws for a task depend on it, so
        they stay the same in a subset.

    Raises
    ------
    ValueError
        If the lengths differ.
    """

    data: LabelledData
    tasks: tuple[Task, ...]
    positives: tuple[NDArray[np.int64], ...]
    negatives: tuple[NDArray[np.int64], ...]
    numbers: NDArray[np.int64]

    def __post_init__(self) -> None:
        lengths = [len(self.tasks), len(self.positives), len(self.negatives), len(self.numbers)]
        if len(set(lengths)) > 1:
            raise ValueError(
                f"tasks, positives, negatives and numbers are of lengths {lengths}: give one length"
            )

    def samples(self, index: int) -> tuple[NDArray[np.int64], ...]:
        """Return the positions of a task's positives and of its negatives."""
        return self.positives[index], self.negatives[index]

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>" + str(self.table().to_html(max_rows=20))

    def subset(self, indices: Iterable[int]) -> Self:
        """Select tasks by their indices, in the order given."""
        chosen = list(indices)
        return replace(
            self,
            tasks=tuple(self.tasks[i] for i in chosen),
            positives=tuple(self.positives[i] for i in chosen),
            negatives=tuple(self.negatives[i] for i in chosen),
            numbers=self.numbers[np.array(chosen, np.int64)],
        )

    def table(self, history: ForgettingHistory | None = None) -> pd.DataFrame:
        """Return a table of the tasks, one row per task.

        Its columns are region, label ("crop" is crop versus non-crop), classification_label, k (the
        fewer of positives and negatives), positives, negatives (each counted once) and
        repeated_negatives (as often as they occur).
        ``tasks.subset(table.query("k >= 50").index)`` selects tasks by it.

        Parameters
        ----------
        history
            History of a training run; it adds a column ``forgotten``: whether a task was
            forgotten, <NA> if it was not trained on.
        """
        import pandas as pd

        positives = [len(positions) for positions in self.positives]
        negatives = [len(np.unique(positions)) for positions in self.negatives]
        table = pd.DataFrame(
            {
                "region": [task.bounding_box.name for task in self],
                "label": [task.target_label for task in self],
                "classification_label": [task.classification_label for task in self],
                "k": [min(pair) for pair in zip(positives, negatives, strict=True)],
                "positives": positives,
                "negatives": negatives,
                "repeated_negatives": [len(positions) for positions in self.negatives],
            }
        )
        if history is not None:
            forgotten = dict(zip(history.task_ids, history.forgotten >= 0, strict=True))
            table["forgotten"] = pd.array([forgotten.get(task.id) for task in self], "boolean")
        return table

    def to_geopandas(self, history: ForgettingHistory | None = None) -> Any:
        """Return the table as a GeoDataFrame of the boxes; needs the extra ``timl[geo]``."""
        from timl.data.regions.geometries import boxes_frame

        return boxes_frame(self.table(history), [task.bounding_box for task in self])


def meta_tasks(
    data: LabelledData,
    regions: str | Path | Sequence[BBox] | None = None,
    *,
    k: int = 10,
    query: int = 8,
    inner_steps: int = 1,
    withhold: bool | Literal["as_published"] = True,
    non_crop_labels: bool = True,
    balance_negative_crops: Balance = False,
    externally_contributed: bool = True,
) -> TaskSet:
    """Make the tasks to meta-train on: every region with crop versus non-crop and each label.

    They are in the regions' order; in each region crop versus non-crop, then the labels by name.

    A task needs ``k * inner_steps + query / 2`` positives and as many negatives, so that its
    support and query sets can be balanced and share no sample (TIML, section 4).

    Parameters
    ----------
    data
        Data set of the samples.
    regions
        Path of a file (see `read_regions`), boxes, or "countries": the boxes of all countries (see
        `country_boxes`). By default the data set's own regions (regions.json in CropHarvest's
        layout), or else the countries.
    k
        Number of positives, and of negatives, of a support set.
    query
        Size of a query set; half of it is positive.
    inner_steps
        Number of support sets of an episode.
    withhold
        Leave out the tasks of the data set's benchmarks: a benchmark's label in its region and in
        the other boxes of its country, or all tasks there if it says so (Togo, China; see
        `read_benchmarks`). "as_published": as TIML's published code, which means to leave out
        Togo but does not. `overlap_report` shows what the remaining tasks share with benchmarks.
    non_crop_labels
        Also make tasks of named labels that are no crops, such as "forest", as the cropharvest
        package's rules do.
    balance_negative_crops
        Balance of the tasks of a crop: see `Task`. TIML's published code balances, with the version
        of the package that does it as "cut"; with True a sample may occur twice in an episode.
    externally_contributed
        Use the labels that people outside the record's team contributed, as the package does.

    Raises
    ------
    FileNotFoundError
        If there is no such file of regions.
    ValueError
        If a size is out of range, or no task has enough samples.
    """
    check_episode_sizes(k, query, inner_steps)
    needed = k * inner_steps + query // 2
    benchmarks = data.benchmarks if withhold else []
    tasks: list[Task] = []
    positives: list[NDArray[np.int64]] = []
    negatives: list[NDArray[np.int64]] = []
    # no region has more samples than there are: sizes beyond reason are refused at once
    for region in chosen_regions(data, regions) if 2 * needed <= len(data.labels) else ():
        rows = training_rows(data.labels, region, externally_contributed)
        if len(rows) < 2 * needed:
            continue
        counts = rows["label"].value_counts()
        labels = sorted(str(label) for label in counts.index[counts >= needed])
        for label in [CROP, *labels]:
            if any(b.withholds(region, label, withhold == "as_published") for b in benchmarks):
                continue
            task = Task(
                region,
                label,
                balance_negative_crops if label != CROP else False,
                classification_label=_classification(rows, label),
                include_externally_contributed_labels=externally_contributed,
            )
            if task.classification_label == NON_CROP and not non_crop_labels:
                continue
            positive, negative = positives_and_negatives(rows, task)
            if min(len(positive), len(np.unique(negative))) >= needed:
                tasks.append(task)
                positives.append(positive)
                negatives.append(negative)
    if not tasks:
        raise ValueError(
            f"no task has {needed} positives and {needed} negatives (k * inner_steps + query / 2): "
            "give other regions or smaller sizes"
        )
    numbers = np.arange(len(tasks), dtype=np.int64)
    return TaskSet(data, tuple(tasks), tuple(positives), tuple(negatives), numbers)


def check_episode_sizes(k: int, query: int, inner_steps: int) -> None:
    """Raise ValueError unless these are sizes of a balanced episode."""
    if k < 1:
        raise ValueError(f"k is {k}: give at least 1 positive and 1 negative of a support set")
    if query < 2 or query % 2:
        raise ValueError(f"query is {query}: give an even number, at least 2")
    if inner_steps < 1:
        raise ValueError(f"inner_steps is {inner_steps}: give at least 1")


def chosen_regions(
    data: LabelledData, regions: str | Path | Sequence[BBox] | None
) -> Sequence[BBox]:
    """Return the regions that an argument of `meta_tasks` means."""
    if regions is None:
        regions = data.regions
    if regions is None or regions == COUNTRIES:
        return country_boxes()
    return read_regions(regions) if isinstance(regions, str | Path) else regions


def _classification(rows: pd.DataFrame, label: str) -> str:
    """Return the FAO class of a label: that of its samples, "other" for a crop of none."""
    return CROP if label == CROP else class_of_samples(rows[rows["label"] == label]) or "other"
