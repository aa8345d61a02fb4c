"""N-way tasks: a region and its classes, of which every episode draws N anew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from timl.crop_classes import CLASSES, CROP, NON_CROP
from timl.data.regions.boxes import BBox
from timl.data.tasks.crop_types import Naming
from timl.data.tasks.information import task_information
from timl.data.tasks.labelled_data import LabelledData
from timl.data.tasks.task import class_of_samples, training_rows
from timl.data.tasks.task_sequence import TaskSequence
from timl.data.tasks.task_set import TaskSet, chosen_regions

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class NWayTask:
    """Classes of one region, to be told from each other.

    Parameters
    ----------
    bounding_box
        Region of the samples.
    classes
        Names of the classes.
    classification_labels
        FAO class of each, one of `timl.data.CLASSES`.

    Raises
    ------
    ValueError
        If there are fewer than two names, two are alike, or the lengths differ.
    """

    bounding_box: BBox
    classes: tuple[str, ...]
    classification_labels: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.classes)
        if count < 2 or len(set(self.classes)) < count or len(self.classification_labels) != count:
            raise ValueError(
                f"classes is {list(self.classes)} with the FAO classes "
                f"{list(self.classification_labels)}: give two names or more, all different, and "
                f"an FAO class for each"
            )

    @property
    def id(self) -> str:
        """Name of the task, region and number of classes: "Kenya_3 classes"."""
        return f"{self.bounding_box.name}_{len(self.classes)} classes"

    @property
    def info(self) -> NDArray[np.float32]:
        """Information of the task of all its classes, 13 numbers, float32."""
        return self.info_of(np.arange(len(self.classes)))

    def info_of(self, chosen: ArrayLike) -> NDArray[np.float32]:
        """Return the information of the task of some of the classes.

        See `task_information`.

        Parameters
        ----------
        chosen : integer array of shape [n]
            Numbers of the classes.

        Returns
        -------
        float32 array of shape [13]
        """
        kinds = [self.classification_labels[number] for number in np.asarray(chosen)]
        return task_information(self.bounding_box, kinds)


@dataclass(frozen=True, eq=False, repr=False)
class NWayTaskSet(TaskSequence[NWayTask]):
    """An ordered set of N-way tasks and the samples of each.

    Parameters
    ----------
    data
        Data set of the samples.
    tasks
        Tasks, in order.
    class_samples : tuples of tuples of int64 arrays
        Positions of the samples of each task's classes.
    numbers : int64 array of shape [tasks]
        Number of each task in the set it was made in; random draws for a task depend on it.
    ways
        Number N of classes of an episode.

    Raises
    ------
    ValueError
        If lengths differ, or a task has fewer than `ways` classes.
    """

    data: LabelledData
    tasks: tuple[NWayTask, ...]
    class_samples: tuple[tuple[NDArray[np.int64], ...], ...]
    numbers: NDArray[np.int64]
    ways: int

    def __post_init__(self) -> None:
        lengths = [len(self.tasks), len(self.class_samples), len(self.numbers)]
        if len(set(lengths)) > 1:
            raise ValueError(
                f"tasks, class_samples and numbers are of lengths {lengths}: give one length"
            )
        for task, samples in zip(self.tasks, self.class_samples, strict=True):
            if not 2 <= self.ways <= len(task.classes) == len(samples):
                raise ValueError(
                    f"ways is {self.ways}, task {task.id!r} is of {len(task.classes)} classes with "
                    f"samples of {len(samples)}: give 2 to {len(task.classes)} ways, and samples "
                    f"of each class"
                )

    def samples(self, index: int) -> tuple[NDArray[np.int64], ...]:
        """Return the positions of a task's samples, an array for each of its classes."""
        return self.class_samples[index]

    def subset(self, indices: Iterable[int]) -> Self:
        """Select tasks by their indices, in the order given."""
        chosen = list(indices)
        return replace(
            self,
            tasks=tuple(self.tasks[i] for i in chosen),
            class_samples=tuple(self.class_samples[i] for i in chosen),
            numbers=self.numbers[np.array(chosen, np.int64)],
        )

    def table(self) -> pd.DataFrame:
        """Return a table of the tasks' classes: region, class, classification_label, samples."""
        import pandas as pd

        return pd.DataFrame(
            [
                (task.bounding_box.name, name, label, len(positions))
                for task, samples in zip(self.tasks, self.class_samples, strict=True)
                for name, label, positions in zip(
                    task.classes, task.classification_labels, samples, strict=True
                )
            ],
            columns=["region", "class", "classification_label", "samples"],
        )


def nway_tasks(
    data: LabelledData,
    ways: int = 5,
    *,
    k: int = 10,
    query: int = 8,
    inner_steps: int = 1,
    by: Naming = "label",
    regions: str | Path | Sequence[BBox] | None = None,
    withhold: bool = True,
    non_crop_labels: bool = True,
    externally_contributed: bool = True,
) -> NWayTaskSet:
    """Make the N-way tasks to meta-train on: every region that has at least N classes.

    A class needs ``k * inner_steps + query`` samples, so that support and query sets share none.

    Parameters
    ----------
    data
        Data set of the samples.
    ways
        Number N of classes of an episode.
    k
        Samples of each class in a support set.
    query
        Samples of each class in a query set.
    inner_steps
        Number of support sets of an episode.
    by
        "label": the classes are the names of labels. "classification_label": the FAO's classes,
        "non_crop" among them; samples without one are left out.
    regions
        As of `meta_tasks`.
    withhold
        Leave out what the data set's benchmarks ask for: a benchmark's label in its region and
        the other boxes of its country (for crop versus non-crop the class "non_crop"), or
        everything there if it says so.
    non_crop_labels
        Also take labels that are no crops, and "non_crop".
    externally_contributed
        Use the labels that people outside the record's team contributed.

    Raises
    ------
    FileNotFoundError
        If there is no such file of regions.
    ValueError
        If a size is out of range, or no region has enough classes.
    """
    _check_sizes(ways, k, query, inner_steps, by)
    benchmarks = data.benchmarks if withhold else []
    parts = []
    for region in chosen_regions(data, regions):
        rows = training_rows(data.labels, region, externally_contributed)
        if len(rows) < ways:
            continue
        if any(b.withholds(region, "") for b in benchmarks):  # whatever the label
            continue
        labels = rows["label"].dropna().unique()
        held = [label for label in labels if any(b.withholds(region, label) for b in benchmarks)]
        rows = rows[~rows["label"].isin(held)]
        names = _names(rows, by)
        left_out = set()
        if not non_crop_labels:
            left_out |= set(names[(rows["is_crop"] == 0).to_numpy()])
        if any(b.withholds(region, CROP) for b in benchmarks):
            left_out.add(NON_CROP)
        parts.append((region, rows, names, left_out))
    return _made(data, parts, ways, k * inner_steps + query, by)


def nway_tasks_of(
    tasks: TaskSet,
    ways: int = 5,
    *,
    k: int = 10,
    query: int = 8,
    inner_steps: int = 1,
    by: Naming = "label",
) -> NWayTaskSet:
    """Make N-way tasks of the samples that tasks of two classes have, region by region.

    What is withheld from those is withheld from these. Parameters and errors are those of
    `nway_tasks`.
    """
    _check_sizes(ways, k, query, inner_steps, by)
    by_position = tasks.data.labels.set_index("position", drop=False)
    parts = []
    for region in dict.fromkeys(task.bounding_box for task in tasks):
        own = [i for i, task in enumerate(tasks) if task.bounding_box == region]
        positions = np.unique(np.concatenate([side for i in own for side in tasks.samples(i)]))
        rows = by_position.loc[positions]
        parts.append((region, rows, _names(rows, by), set[str]()))
    return _made(tasks.data, parts, ways, k * inner_steps + query, by)


def check_nway_sizes(k: int, query: int, inner_steps: int) -> None:
    """Raise ValueError unless these are sizes of an N-way episode."""
    for name, value in (("k", k), ("query", query), ("inner_steps", inner_steps)):
        if value < 1:
            raise ValueError(f"{name} is {value}: give at least 1")


def _check_sizes(ways: int, k: int, query: int, inner_steps: int, by: str) -> None:
    check_nway_sizes(k, query, inner_steps)
    if ways < 2:
        raise ValueError(f"ways is {ways}: give at least 2")
    if by not in get_args(Naming):
        raise ValueError(f"by is {by!r}: give {' or '.join(map(repr, get_args(Naming)))}")


def _names(rows: pd.DataFrame, by: str) -> NDArray[np.object_]:
    """Return the name of each row's class, [n]; None where it has none."""
    if by == "label":
        names = rows["label"]
    else:
        names = rows["classification_label"].where(rows["is_crop"] == 1, NON_CROP)
    return np.asarray(names.astype(object).where(names.notna(), None), object)


def _made(
    data: LabelledData,
    parts: Iterable[tuple[BBox, pd.DataFrame, NDArray[np.object_], set[str]]],
    ways: int,
    needed: int,
    by: str,
) -> NWayTaskSet:
    """Return the tasks of regions, of the classes that have so many samples."""
    tasks, samples = [], []
    for region, rows, names, left_out in parts:
        positions = rows["position"].to_numpy(np.int64)
        of_class = {
            name: positions[(names == name) & (positions >= 0)]
            for name in sorted({name for name in names if name is not None} - left_out)
        }
        found = {name: own for name, own in of_class.items() if len(own) >= needed}
        if len(found) >= ways:
            kinds = [
                name
                if by == "classification_label" and name in CLASSES
                else class_of_samples(rows[names == name]) or "other"
                for name in found
            ]
            tasks.append(NWayTask(region, tuple(found), tuple(kinds)))
            samples.append(tuple(found.values()))
    if not tasks:
        raise ValueError(
            f"no region has {ways} classes of {needed} samples (k * inner_steps + query): give "
            f"other regions, fewer ways or smaller sizes"
        )
    numbers = np.arange(len(tasks), dtype=np.int64)
    return NWayTaskSet(data, tuple(tasks), tuple(samples), numbers, ways)
