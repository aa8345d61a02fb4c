"""Sisters: regions and samples of one survey or one country, which never stand on both sides.

Fields of one survey were labelled by one rule, and fields of one country grow the same varieties
under the same calendar: a method that learned from one has seen the other. The survey of a sample
is its `dataset`, the country that of its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timl.data import BBox, CropHarvest, TaskSet
from timl.data.regions.country_grid import countries_at

_OWN = 0.05
"""A survey with at least this share of a held-out task's samples is held out with it."""


@dataclass(frozen=True, eq=False)
class Origins:
    """Survey and country of every series of a data set.

    Attributes
    ----------
    surveys, countries : object arrays of shape [series]
        Names; None where unknown: a series without a label, a place on the sea.
    named : bool array of shape [series]
        Whether the sample's label has a name.
    """

    surveys: NDArray[np.object_]
    countries: NDArray[np.object_]
    named: NDArray[np.bool_]


def origins(data: CropHarvest) -> Origins:
    """Return survey and country of every series of a data set."""
    rows = data.labels[(data.labels["position"] >= 0).to_numpy()]
    positions = rows["position"].to_numpy(np.int64)
    size = int(positions.max(initial=-1)) + 1
    surveys, countries = np.full(size, None, object), np.full(size, None, object)
    named = np.zeros(size, bool)
    surveys[positions] = rows["dataset"].to_numpy(object)
    countries[positions] = countries_at(rows["lat"].to_numpy(float), rows["lon"].to_numpy(float))
    named[positions] = rows["label"].notna().to_numpy()
    return Origins(surveys, countries, named)


def survey_groups(tasks: TaskSet, boxes: Sequence[BBox], known: Origins) -> list[list[int]]:
    """Return the indices of regions in groups of one main survey.

    A region's main survey is that of most of its samples with a named label, or of most samples
    where none has a name: surveys of land cover span the world and name no crop. Where surveys are
    unknown, regions of one main country form a group. Folds are made of whole groups, so that few
    meta-trainings serve; that no sister is trained on is the work of `training_samples`.
    """
    groups: dict[object, list[int]] = {}
    for i, box in enumerate(boxes):
        samples = _samples(tasks, [j for j, task in enumerate(tasks) if task.bounding_box == box])
        named = samples[known.named[samples]]
        survey = _most_frequent(known.surveys[named if len(named) else samples])
        country = _most_frequent(known.countries[samples])
        groups.setdefault(survey or country or box.name, []).append(i)
    return list(groups.values())


def training_samples(held: TaskSet, known: Origins) -> NDArray[np.bool_]:
    """Return which series are no sisters of held-out tasks' samples, bool [series]."""
    samples = _samples(held, range(len(held)))
    surveys, countries = (
        {name for name in names[samples] if name is not None}
        for names in (known.surveys, known.countries)
    )
    sister = [
        survey in surveys or country in countries
        for survey, country in zip(known.surveys, known.countries, strict=True)
    ]
    return ~np.array(sister, bool)


def held_surveys(tasks: TaskSet, known: Origins) -> frozenset[str]:
    """Return the surveys that held-out tasks are made of: those with 5 % of a task's samples."""
    found = set()
    for i in range(len(tasks)):
        names, counts = np.unique(
            known.surveys[_samples(tasks, [i])].astype(str), return_counts=True
        )
        found |= set(names[counts >= _OWN * counts.sum()])
    return frozenset(str(name) for name in found)


def keep(tasks: TaskSet, kept: NDArray[np.bool_]) -> TaskSet:
    """Return tasks with those samples alone that are kept, bool [series]."""
    return TaskSet(
        tasks.data,
        tasks.tasks,
        tuple(positions[kept[positions]] for positions in tasks.positives),
        tuple(positions[kept[positions]] for positions in tasks.negatives),
        tasks.numbers,
    )


def _samples(tasks: TaskSet, indices: Sequence[int]) -> NDArray[np.int64]:
    sides = [side[i] for i in indices for side in (tasks.positives, tasks.negatives)]
    return np.unique(np.concatenate(sides))


def _most_frequent(names: NDArray[np.object_]) -> str | None:
    found = Counter(name for name in names if name is not None).most_common(1)
    return str(found[0][0]) if found else None
