"""Your own places of several classes: the task, and how a table's labels become its classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from timl.data.own.places import left_out_text, no_test_places
from timl.data.tasks.crop_types import CropTypeTask, class_names, codes_of, kinds_of
from timl.data.tasks.test_instance import TestInstance

if TYPE_CHECKING:
    import pandas as pd


class OwnCropTypes(CropTypeTask):
    """A crop-type task of your own places; made by `own_points`, used as any `CropTypeTask`.

    Attributes
    ----------
    data, region, classes, classification_labels, positions, codes
        Those of `CropTypeTask`. ``data.labels`` has a row per place of the task, and its columns
        ``filename`` and ``row`` say from which file and row of your table.
    unmatched
        Table of the places that were left out: row, lat, lon, reason.
    """

    unmatched: pd.DataFrame

    def __repr__(self) -> str:
        return super().__repr__() + left_out_text(self.unmatched)

    @property
    def test(self) -> TestInstance:
        """Test set: the places with ``is_test``.

        Raises
        ------
        FileNotFoundError
            If no place is kept for the test.
        """
        try:
            return super().test
        except FileNotFoundError:
            raise no_test_places(self) from None


def codes_of_places(
    points: pd.DataFrame, classes: Sequence[str] | Literal["all"]
) -> tuple[tuple[str, ...], NDArray[np.int8]]:
    """Return the classes of a table of places, and each place's, -1 where it is of none.

    Parameters
    ----------
    points
        Table of `read_points`.
    classes
        Names of the classes, or "all".

    Raises
    ------
    ValueError
        If a class has no place, or there are fewer than two.
    """
    names = class_names(points)
    known = sorted(set(names.dropna()))
    wanted = tuple(known) if isinstance(classes, str) and classes == "all" else classes
    if isinstance(wanted, str) or len(wanted) < 2 or not set(wanted) <= set(known):
        raise ValueError(
            f"classes is {classes!r}, and the places have the labels {', '.join(known) or 'none'}: "
            f"give two of these or more, or 'all'"
        )
    return tuple(wanted), codes_of(names, wanted)


def kinds_of_places(
    table: pd.DataFrame, classes: Sequence[str], given: str | Mapping[str, str] | None
) -> list[str | None]:
    """Return the FAO class of each class: as given, else as the table tells, else None.

    Raises
    ------
    ValueError
        If what is given is no dict from some of the classes.
    """
    if given is not None and (not isinstance(given, Mapping) or not set(given) <= set(classes)):
        raise ValueError(
            f"classification_label is {given!r} for the classes {', '.join(classes)}: give a dict "
            f"from these to FAO classes, or leave it out"
        )
    told = kinds_of(table, class_names(table), classes)
    return [(given or {}).get(label, kind) for label, kind in zip(classes, told, strict=True)]


def other_places(points: pd.DataFrame) -> list[tuple[int, float, float, str]]:
    """Return row, degrees and reason of places that are left out, since they are of no class."""
    return [
        (row, lat, lon, "it has no label" if label is None else f"its label is {label!r}")
        for row, lat, lon, label in points[["lat", "lon", "label"]].itertuples(name=None)
    ]
