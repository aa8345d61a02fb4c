"""Tasks of several classes: a region's crops, told from each other."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from timl import random
from timl.crop_classes import CLASSES, CROP, NON_CROP
from timl.data.regions.boxes import BBox
from timl.data.tasks.information import task_information
from timl.data.tasks.labelled_data import LabelledData
from timl.data.tasks.task import class_of_samples, has_label, training_rows
from timl.data.tasks.test_instance import TestInstance

if TYPE_CHECKING:
    import pandas as pd

Naming = Literal["label", "classification_label"]
"""Column that classes are taken from: leaf labels, such as "maize", or FAO classes."""

MOST_CLASSES = 127
"""Most classes of a task: int8 holds their numbers."""


class CropTypeTask:
    """A task of several classes: fine-tune on its training samples, score on its test set.

    Parameters
    ----------
    data
        Data set of the samples.
    name
        Name of the task.
    region
        Region of the samples.
    classes
        Names of the K classes, 2 to 127, all different. A class's number is its place here.
    positions : integer array of shape [n]
        Positions of the training samples, each once.
    codes : integer array of shape [n]
        Their classes, 0 to K - 1, each at least once.
    classification_labels
        FAO class of each class, one of `timl.data.CLASSES`, or None where it is not known; by
        default nothing is known.
    test
        Test set, prepared as the training series: its labels are 0 to K - 1, or -1 where not known.
    normalize
        Whether the series are normalised, (x - mean) / std.

    Attributes
    ----------
    data, name, region, normalize
        As given.
    classes : tuple of str
        Names of the classes.
    classification_labels : tuple of str or None
        FAO class of each.
    positions : int64 array of shape [n]
        Positions of the training samples.
    codes : int8 array of shape [n]
        Their classes.

    Raises
    ------
    ValueError
        If the parts do not fit each other.
    """

    def __init__(
        self,
        data: LabelledData,
        name: str,
        region: BBox,
        classes: Sequence[str],
        positions: ArrayLike,
        codes: ArrayLike,
        *,
        classification_labels: Sequence[str | None] | None = None,
        test: TestInstance | None = None,
        normalize: bool = True,
    ) -> None:
        self.data, self.name, self.region, self.normalize = data, name, region, normalize
        self.classes = _checked_classes(classes)
        count = len(self.classes)
        self.classification_labels = _checked_kinds(classification_labels, count)
        self.positions = np.asarray(positions, np.int64)
        numbers = np.asarray(codes, np.int64)
        if self.positions.ndim != 1 or numbers.shape != self.positions.shape:
            raise ValueError(
                f"positions has shape {list(self.positions.shape)}, codes {list(numbers.shape)}: "
                f"give [n] both, a class of each sample"
            )
        if len(np.unique(self.positions)) < len(numbers):
            raise ValueError(
                f"positions has {len(numbers)} numbers, {len(np.unique(self.positions))} of them "
                f"different: give each sample once"
            )
        if not np.array_equal(np.unique(numbers), np.arange(count)):
            raise ValueError(
                f"codes is of the numbers {np.unique(numbers).tolist()} for {count} classes: give "
                f"0 to {count - 1}, each at least once"
            )
        if test is not None and len(test) and not -1 <= test.y.min() <= test.y.max() < count:
            raise ValueError(
                f"test has labels from {test.y.min()} to {test.y.max()}: give 0 to {count - 1}, "
                f"or -1 where the class is not known"
            )
        self.codes = numbers.astype(np.int8)
        self._test = test

    def __repr__(self) -> str:
        sizes = zip(self.classes, self.counts, strict=True)
        tested = f", {len(self._test)} test samples" if self._test is not None else ""
        listed = ", ".join(f"{name} {size}" for name, size in sizes)
        return f"{type(self).__name__}({self.name!r}, {listed}{tested})"

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of training samples of each class."""
        return tuple(np.bincount(self.codes, minlength=len(self.classes)).tolist())

    @property
    def info(self) -> NDArray[np.float32]:
        """Information of the task, float32 [13]: see `timl.data.task_information`."""
        return task_information(self.region, self.classification_labels)

    @property
    def test(self) -> TestInstance:
        """Test set of the task.

        Raises
        ------
        FileNotFoundError
            If the task has none.
        """
        if self._test is None:
            raise FileNotFoundError(
                f"task is {self!r}, without test samples: score it by "
                f"timl.cross_validate(model, task), or keep samples for the test"
            )
        return self._test

    def train_arrays(self) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """Return all training samples.

        Returns
        -------
        x : float32 array of shape [n, T, F]
            Series.
        y : int8 array of shape [n]
            Classes, 0 to K - 1.
        """
        return self.data.series(self.positions, normalize=self.normalize), self.codes.copy()

    def with_samples(self, chosen: NDArray[np.bool_]) -> CropTypeTask:
        """Return the task with some of its training samples alone, bool [n]."""
        part = copy.copy(self)
        part.positions, part.codes = self.positions[chosen], self.codes[chosen]
        return part

    def subset(self, size: int, seed: int) -> CropTypeTask:
        """Draw a task with fewer labels, equally many of each class.

        The draws of one seed are nested: those of a greater size hold those of a smaller.

        Parameters
        ----------
        size
            Number of labels of each class, at least 1.
        seed
            Seed of the draw.

        Raises
        ------
        ValueError
            If the size is out of range for a class.
        """
        least = min(self.counts)
        if not 1 <= size <= least:
            rarest = self.classes[self.counts.index(least)]
            raise ValueError(
                f"size is {size}, and task {self.name!r} has {least} samples of its rarest class, "
                f"{rarest!r}: give 1 to {least}"
            )
        chosen = np.zeros(len(self.codes), bool)
        for number, count in enumerate(self.counts):
            drawn = random.distinct(
                [count], size, seed=seed, task=number, purpose=random.Purpose.CROP_TYPE_SUBSET
            )[0]
            chosen[np.flatnonzero(self.codes == number)[drawn]] = True
        return self.with_samples(chosen)


def crop_type_task(
    data: LabelledData,
    region: BBox,
    *,
    by: Naming = "label",
    classes: Sequence[str] | None = None,
    least: int = 10,
    test_region: BBox | None = None,
    name: str | None = None,
    normalize: bool = True,
) -> CropTypeTask:
    """Make the task of telling a region's classes from each other.

    All samples that are no crops are of one class, "non_crop", whether they have a name or not.
    Crops without a name are left out, as are those of rarer classes. Meta-training must not have
    seen the samples: train on tasks of other regions.

    Parameters
    ----------
    data
        Data set of the samples.
    region
        Region of the samples.
    by
        Whether classes are leaf labels or FAO classes.
    classes
        Names of the classes, in this order. By default all that have enough samples: leaf labels in
        alphabetical order, FAO classes in that of `timl.data.CLASSES`.
    least
        Samples that a class needs for training, at least 1.
    test_region
        Region inside, whose samples are the test set. By default there is no test set.
    name
        Name of the task; by default the region's name and "crop types".
    normalize
        Whether the series are normalised.

    Raises
    ------
    ValueError
        If an argument is out of range, a class that was asked for has too few samples, or fewer
        than two classes have enough.
    """
    if by not in ("label", "classification_label") or least < 1:
        raise ValueError(
            f"by is {by!r}, least is {least}: give 'label' or 'classification_label', and 1 or more"
        )
    rows = training_rows(data.labels, region)
    rows = rows[(rows["position"] >= 0).to_numpy()]
    tested = np.zeros(len(rows), bool)
    if test_region is not None:
        tested = test_region.contains(rows["lat"].to_numpy(), rows["lon"].to_numpy())
    named = class_names(rows, by).mask(~has_label(rows, CROP), NON_CROP)
    found = named[~tested][named[~tested].notna()].value_counts()
    enough = {str(label) for label, size in found.items() if size >= least}
    if classes is None:
        wanted = sorted(enough)
        if by == "classification_label":
            wanted.sort(key=lambda kind: (*CLASSES, kind).index(kind))
    else:
        wanted = list(_checked_classes(classes))
    if len(wanted) < 2 or not enough >= set(wanted):
        raise ValueError(
            f"region is {region.name!r}, whose training samples are of classes "
            f"{found.to_dict()}: give one with {least} "
            f"or more of {'two classes' if classes is None else f'each of {wanted}'}, or a smaller "
            f"least"
        )
    codes = codes_of(named, wanted)
    trained = ~tested & (codes >= 0)
    test = None
    if test_region is not None:
        scored = rows[tested]
        test = TestInstance(
            data.series(scored["position"].to_numpy(np.int64), normalize=normalize),
            codes[tested],
            scored["lat"].to_numpy(np.float64),
            scored["lon"].to_numpy(np.float64),
        )
    return CropTypeTask(
        data,
        f"{region.name} crop types" if name is None else name,
        region,
        wanted,
        rows["position"].to_numpy(np.int64)[trained],
        codes[trained],
        classification_labels=kinds_of(rows, named, wanted),
        test=test,
        normalize=normalize,
    )


def class_names(rows: pd.DataFrame, by: Naming = "label") -> pd.Series:
    """Return the name of each sample's class, None where it has none.

    Non-crops without a name are of class "non_crop".
    """
    names = rows[by].astype(object).where(rows[by].notna(), None)
    return names.mask(names.isna() & ~has_label(rows, CROP), NON_CROP)


def codes_of(names: pd.Series, classes: Sequence[str]) -> NDArray[np.int8]:
    """Return the number of each sample's class, -1 where it is none of the classes, [n]."""
    numbers = {label: number for number, label in enumerate(classes)}
    return np.asarray(names.map(numbers).fillna(-1), np.int8)


def kinds_of(rows: pd.DataFrame, names: pd.Series, classes: Sequence[str]) -> list[str | None]:
    """Return the FAO class of each class, None where the samples do not tell it."""
    return [class_of_samples(rows[(names == label).to_numpy()]) for label in classes]


def _checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """Return names of classes, or raise a ValueError."""
    if isinstance(classes, str):
        raise ValueError(f"classes is the text {classes!r}: give a list of names")
    names = tuple(classes)
    if (
        not 2 <= len(names) <= MOST_CLASSES
        or len(set(names)) < len(names)
        or not all(isinstance(label, str) and label for label in names)
    ):
        shown = f"{list(names[:8])}{' and more' if len(names) > 8 else ''}"
        raise ValueError(
            f"classes is {shown}, {len(names)} in all: give 2 to {MOST_CLASSES} names, all "
            f"different"
        )
    return names


def _checked_kinds(kinds: Sequence[str | None] | None, count: int) -> tuple[str | None, ...]:
    """Return the FAO class of each class, or raise a ValueError."""
    found = (None,) * count if kinds is None else tuple(kinds)
    if len(found) != count or not {*found} <= {None, CROP, *CLASSES}:
        raise ValueError(
            f"classification_labels is {list(found)} for {count} classes: give one of "
            f"{', '.join(CLASSES)}, or None, for each"
        )
    return found
