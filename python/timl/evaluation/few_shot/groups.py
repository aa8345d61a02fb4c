"""Groups of regions that are held out together, and the samples that are sisters of theirs.

Sisters are of one survey or one country, and never stand on both sides of a fold.
Fields of one survey were labelled by one rule, and fields of one country grow the same varieties
under the same calendar: a method that learned from one has seen the other. The survey of a sample
is its `dataset`, the country that of its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from timl import random
from timl.data import BBox, LabelledData, TaskSet
from timl.data.regions.countries import country_of
from timl.data.regions.country_grid import countries_at
from timl.data.regions.splits import derived_seed
from timl.random import Purpose

_OWN = 0.05
"""A survey is a task's own if at least this share of its samples is of it."""
_OF_ONE_COUNTRY = 0.95
"""A survey with this share of its samples in one country is of that country altogether: what lies
elsewhere lies at the border, which the grid of countries tells to a cell of 28 km."""


@dataclass(frozen=True, eq=False)
class Origins:
    """Survey and country of every series of a data set.

    Attributes
    ----------
    surveys, countries : object arrays of shape [series]
        Names; None where unknown: a series without a label, a data set whose labels have no column
        ``dataset``, a place on the sea.
    named : bool array of shape [series]
        Whether the sample's label has a name.
    """

    surveys: NDArray[np.object_]
    countries: NDArray[np.object_]
    named: NDArray[np.bool_]


def origins(data: LabelledData) -> Origins:
    """Return survey and country of every series of a data set."""
    rows = data.labels[(data.labels["position"] >= 0).to_numpy()]
    positions = rows["position"].to_numpy(np.int64)
    size = int(positions.max(initial=-1)) + 1
    surveys, countries = np.full(size, None, object), np.full(size, None, object)
    named = np.zeros(size, bool)
    if "dataset" in rows:
        surveys[positions] = rows["dataset"].to_numpy(object)
    countries[positions] = countries_at(rows["lat"].to_numpy(float), rows["lon"].to_numpy(float))
    for survey in {name for name in surveys if name is not None}:
        members = np.flatnonzero(surveys == survey)
        country = _most_frequent(countries[members])
        if (countries[members] == country).mean() >= _OF_ONE_COUNTRY:
            countries[members] = country
    named[positions] = rows["label"].notna().to_numpy()
    return Origins(surveys, countries, named)


def main_surveys(tasks: TaskSet, boxes: Sequence[BBox], known: Origins) -> list[str]:
    """Return the main survey of each region.

    It is that of most of the region's samples with a named label, or of most samples where none
    has a name: surveys of land cover span the world and name no crop. Where surveys are unknown it
    is the main country, or else the region itself.
    """
    found = []
    for box in boxes:
        samples = _samples(tasks, [i for i, task in enumerate(tasks) if task.bounding_box == box])
        named = samples[known.named[samples]]
        survey = _most_frequent(known.surveys[named if len(named) else samples])
        found.append(survey or _most_frequent(known.countries[samples]) or str(box.name))
    return found


def survey_groups(
    tasks: TaskSet, boxes: Sequence[BBox], surveys: Sequence[str], known: Origins
) -> list[list[int]]:
    """Return the indices of regions in groups of one main survey that share countries.

    Folds are made of whole groups, so that few meta-trainings serve; that no sister is trained on
    is the work of `training_samples`. Regions of one survey without a common country need not be
    held out together: other surveys of the one's country may serve the other.

    Parameters
    ----------
    tasks
        The tasks to be scored.
    boxes, surveys
        The regions, and the main survey of each.
    known
        Survey and country of every series.
    """
    countries = []
    for box in boxes:
        samples = _samples(tasks, [i for i, task in enumerate(tasks) if task.bounding_box == box])
        countries.append({name for name in known.countries[samples] if name is not None})
    return _connected(
        len(boxes),
        lambda i, j: (
            surveys[i] == surveys[j]
            and (bool(countries[i] & countries[j]) or not (countries[i] or countries[j]))
        ),
    )


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


def surveys_of(tasks: TaskSet, known: Origins) -> list[str]:
    """Return the surveys that tasks are made of: those of at least 5 % of a task's samples."""
    found = set()
    for i in range(len(tasks)):
        names, counts = np.unique(
            known.surveys[_samples(tasks, [i])].astype(str), return_counts=True
        )
        found |= set(names[counts >= _OWN * counts.sum()])
    return sorted(str(name) for name in found)


def keep(tasks: TaskSet, kept: NDArray[np.bool_]) -> TaskSet:
    """Return tasks with those samples alone that are kept, bool [series]."""
    return replace(
        tasks,
        positives=tuple(positions[kept[positions]] for positions in tasks.positives),
        negatives=tuple(positions[kept[positions]] for positions in tasks.negatives),
    )


def _samples(tasks: TaskSet, indices: Sequence[int]) -> NDArray[np.int64]:
    sides = [side[i] for i in indices for side in (tasks.positives, tasks.negatives)]
    return np.unique(np.concatenate([np.empty(0, np.int64), *sides]))


def _most_frequent(names: NDArray[np.object_]) -> str | None:
    found = Counter(name for name in names if name is not None).most_common(1)
    return str(found[0][0]) if found else None


def neighbour_groups(boxes: Sequence[BBox]) -> list[list[int]]:
    """Return the indices of boxes that overlap or are of one country by name, in groups.

    Boxes that share an edge alone do not overlap.
    """
    return _connected(len(boxes), lambda i, j: _together(boxes[i], boxes[j]))


def _connected(count: int, linked: Callable[[int, int], bool]) -> list[list[int]]:
    """Return the indices below a count in groups of those that links connect."""
    group = list(range(count))
    for i in range(count):
        for j in range(i):
            if linked(i, j):
                old, new = group[i], group[j]
                group = [new if g == old else g for g in group]
    return [[i for i, g in enumerate(group) if g == wanted] for wanted in dict.fromkeys(group)]


def _together(one: BBox, other: BBox) -> bool:
    country = country_of(one.name)
    return (country is not None and country == country_of(other.name)) or (
        min(one.max_lat, other.max_lat) > max(one.min_lat, other.min_lat)
        and min(one.max_lon, other.max_lon) > max(one.min_lon, other.min_lon)
    )


def fold_groups(
    groups: Sequence[Sequence[int]], weights: Sequence[int], folds: int, seed: int
) -> list[list[int]]:
    """Put groups of regions together into folds of about equal weight.

    Parameters
    ----------
    groups
        Groups of indices of regions.
    weights
        Weight of each region, for instance its number of tasks.
    folds
        Number of folds, at least 2; there are fewer where there are fewer groups.
    seed
        Decides which of equally heavy groups comes first.

    Returns
    -------
    list of list of int
        The regions' indices in each fold, ascending; no fold is empty.

    Raises
    ------
    ValueError
        If folds is below 2.
    """
    if folds < 2:
        raise ValueError(f"folds is {folds}: give at least 2")
    order = random.permutation(len(groups), seed=derived_seed(seed, "folds"), purpose=Purpose.FOLDS)
    heaviest_first = sorted(order, key=lambda g: -sum(weights[i] for i in groups[g]))
    made: list[list[int]] = [[] for _ in range(min(folds, len(groups)))]
    for group in heaviest_first:
        lightest = min(made, key=lambda fold: (sum(weights[i] for i in fold), len(fold)))
        lightest.extend(groups[group])
    return [sorted(fold) for fold in made]
