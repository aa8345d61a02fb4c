"""Regions of the meta-training tasks: the samples that a deep kernel is learned from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timl.bands import BANDS
from timl.data import NWayTaskSet, TaskSet
from timl.nn.strong.description import describe_series
from timl.normalization import Normalization, normalization_of


@dataclass(frozen=True)
class Region:
    """Labelled samples of one region, n of them."""

    described: NDArray[np.float64]
    """Descriptions, [n, D]."""
    is_crop: NDArray[np.bool_]
    """Whether each is a crop, [n]."""
    labels: list[str | None]
    """Label name of each, where it has one."""
    classes: list[str | None]
    """FAO class of each, where it has one."""
    latitude: NDArray[np.float64]
    """Latitude of each in degrees, [n]."""
    longitude: NDArray[np.float64]
    """Longitude of each in degrees, [n]."""


def regions_of(tasks: TaskSet | NWayTaskSet) -> list[Region]:
    """Return the regions of tasks, each with the samples of its tasks alone.

    Samples in the region's box that are of no task, such as held-out ones, are not among them.
    Where the series are not of the record's bands no region can be described, and none is returned.

    Parameters
    ----------
    tasks
        Meta-training tasks; their series must be normalised.
    """
    if len(tasks.data.mean) != len(BANDS):
        return []
    normalization = normalization_of(tasks.data)
    rows = tasks.data.labels.set_index("position")
    boxes = [task.bounding_box for task in tasks]
    regions = []
    for box in dict.fromkeys(boxes):
        own = [i for i, other in enumerate(boxes) if other == box]
        positions = np.unique(np.concatenate([s for i in own for s in tasks.samples(i)]))
        found = rows.loc[positions]
        regions.append(
            Region(
                described=_described(tasks, positions, normalization),
                is_crop=(found["is_crop"] == 1).to_numpy(bool),
                labels=_texts(found["label"]),
                classes=_texts(found["classification_label"]),
                latitude=found["lat"].to_numpy(np.float64),
                longitude=found["lon"].to_numpy(np.float64),
            )
        )
    return regions


def _described(
    tasks: TaskSet | NWayTaskSet, positions: NDArray[np.int64], normalization: Normalization
) -> NDArray[np.float64]:
    series = tasks.data.series(positions).astype(np.float32)
    return describe_series(series, normalization).astype(np.float64)


def _texts(column: object) -> list[str | None]:
    """Return a column's texts, None for what is none."""
    return [value if isinstance(value, str) else None for value in column]  # type: ignore[attr-defined]
