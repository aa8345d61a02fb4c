"""Random tasks that a deep kernel is trained on: labels of one region, support and query apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timl import random
from timl.crop_classes import CROP, NON_CROP
from timl.meta.strong.constants import (
    BLOCKS_KM,
    CANDIDATES,
    IN_SPACE,
    KINDS,
    LEAST_OF_PART,
    LEAST_OF_SIDE,
    MOST_NEGATIVES,
    MOST_RATIO,
    QUERY,
    SUPPORT,
    TASKS,
    UNBALANCED,
    UNION,
)
from timl.meta.strong.regions import Region
from timl.nn.strong.deep_kernel import describe_task
from timl.random import Purpose

_KM_OF_DEGREE = 111.2
"""Length of a degree of latitude."""


class Batch(NamedTuple):
    """Random tasks of one step, B of them, padded to one length."""

    support: Tensor
    """Numbers of the support's samples, int64 [B, S]; 0 for padding."""
    support_targets: Tensor
    """1 for positives, -1 for negatives and 0 for padding, float32 [B, S]."""
    query: Tensor
    """Numbers of the query's samples, int64 [B, Q]; 0 for padding."""
    query_targets: Tensor
    """As those of the support, float32 [B, Q]."""
    described: Tensor
    """Numbers that describe the tasks, float32 [B, O]."""


@dataclass(frozen=True)
class TaskKey:
    """Key of all draws of one random task."""

    seed: int
    network: int
    step: int
    candidate: int

    def uniform(self, count: int, purpose: Purpose) -> NDArray[np.float32]:
        """Draw so many uniform numbers in [0, 1)."""
        return random.uniform(
            (count,),
            seed=self.seed,
            task=self.candidate,
            epoch=self.network,
            step=self.step,
            purpose=purpose,
        )

    def order(self, count: int, purpose: Purpose) -> NDArray[np.int64]:
        """Draw a random order."""
        return random.permutation(
            count,
            seed=self.seed,
            task=self.candidate,
            epoch=self.network,
            step=self.step,
            purpose=purpose,
        )


class _Choices(NamedTuple):
    """Uniform numbers in [0, 1) by which a random task is chosen."""

    region: float
    kind: float
    label: float
    other_label: float
    size: float
    apart: float
    block: float
    north: float
    east: float
    unbalanced: float
    ratio: float


class _Sides(NamedTuple):
    """Which of a region's samples are positives and negatives, and what describes the task."""

    positive: NDArray[np.bool_]
    negative: NDArray[np.bool_]
    described: Tensor


_Option = TypeVar("_Option")
_Pair = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Numbers of positives and of negatives."""


class RandomTasks:
    """Random tasks of regions: a label against the rest, two labels, or unions of labels.

    Parameters
    ----------
    regions
        Regions; samples are numbered through all of them.
    names
        Label names that describe a task.
    """

    def __init__(self, regions: Sequence[Region], names: Sequence[str]) -> None:
        first, self._regions = 0, []
        for region in regions:
            labelled = _LabelledRegion(region, first, names)
            first += len(region.labels)
            if len(region.labels) >= 2 * LEAST_OF_SIDE and len(labelled.groups) > 1:
                self._regions.append(labelled)

    def batch(self, seed: int, network: int, step: int) -> Batch | None:
        """Draw the tasks of one step; None where no draw makes a task."""
        drawn = []
        for candidate in range(CANDIDATES if self._regions else 0):
            key = TaskKey(seed, network, step, candidate)
            choices = _Choices(*key.uniform(len(_Choices._fields), Purpose.KERNEL_TASK).tolist())
            task = _chosen(self._regions, choices.region).draw(choices, key)
            if task is not None:
                drawn.append(task)
            if len(drawn) == TASKS:
                break
        if not drawn:
            return None
        support, query, described = zip(*drawn, strict=True)
        return Batch(*_padded(support), *_padded(query), torch.stack(described))


class _LabelledRegion:
    """One region's samples in groups of one label.

    Parameters
    ----------
    region
        Region.
    first
        Number of its first sample.
    names
        Label names that describe a task.
    """

    def __init__(self, region: Region, first: int, names: Sequence[str]) -> None:
        self._first, self._is_crop = first, region.is_crop
        self._named = np.array([bool(name) for name in region.labels])
        filled = [
            name or ("(crop)" if crop else "(non-crop)")
            for name, crop in zip(region.labels, region.is_crop, strict=True)
        ]
        unique, self._group = np.unique(filled, return_inverse=True)
        self.groups: list[str] = unique.tolist()
        counts = np.bincount(self._group)
        self._large: list[int] = np.flatnonzero(counts >= LEAST_OF_SIDE).tolist()
        self._targets = [CROP, *(self.groups[i] for i in self._large if self.groups[i][0] != "(")]
        self._crop_task = describe_task(CROP, CROP, names)
        self._tasks = [
            describe_task(_main_class(region, self._group == i), name, names)
            for i, name in enumerate(self.groups)
        ]
        shrink = math.cos(math.radians(float(np.mean(region.latitude))))
        self._km = _KM_OF_DEGREE * np.stack([region.latitude, region.longitude * shrink], axis=1)

    def draw(self, choices: _Choices, key: TaskKey) -> tuple[_Pair, _Pair, Tensor] | None:
        """Return a task's support, query and description; None where samples are too few."""
        sides = self._sides(choices, key)
        if sides is None or min(sides.positive.sum(), sides.negative.sum()) < LEAST_OF_SIDE:
            return None
        tested = self._tested(choices, key)
        order = key.order(len(tested), Purpose.KERNEL_ORDER)
        parts = [
            [order[(side & part)[order]] + self._first for side in sides[:2]]
            for part in (~tested, tested)
        ]
        (positives, negatives), query = parts
        if min(map(len, [positives, negatives, *query])) < LEAST_OF_PART:
            return None
        low, high = map(math.log, SUPPORT)
        wanted = round(math.exp(low + choices.size * (high - low)))
        count = most = min(wanted, len(positives), len(negatives))
        if choices.unbalanced < UNBALANCED:
            most = min(MOST_NEGATIVES, int(count * MOST_RATIO**choices.ratio))
        support = positives[:count], negatives[:most]
        return support, (query[0][:QUERY], query[1][:QUERY]), sides.described

    def _sides(self, choices: _Choices, key: TaskKey) -> _Sides | None:
        """Draw what divides the samples: one of the three kinds."""
        if choices.kind < KINDS[0]:
            return self._label_against_rest(choices)
        if choices.kind < KINDS[0] + KINDS[1]:
            return self._two_labels(choices)
        return self._unions(key)

    def _label_against_rest(self, choices: _Choices) -> _Sides:
        """Divide by the rule of CropHarvest's tasks, see `positives_and_negatives`."""
        name = _chosen(self._targets, choices.label)
        if name == CROP:
            return _Sides(self._is_crop, ~self._is_crop, self._crop_task)
        number = self.groups.index(name)
        positive = self._group == number
        others = self._named & ~positive
        if self._is_crop[positive.argmax()]:
            negative = (self._is_crop & others) | ~self._is_crop
        else:
            negative = (self._is_crop & ~self._named) | others
        return _Sides(positive, negative, self._tasks[number])

    def _two_labels(self, choices: _Choices) -> _Sides | None:
        """Divide one label from another; the task is described by their difference."""
        if len(self._large) < 2:
            return None
        one = _chosen(self._large, choices.label)
        other = _chosen([i for i in self._large if i != one], choices.other_label)
        described = self._tasks[one] - self._tasks[other]
        return _Sides(self._group == one, self._group == other, described)

    def _unions(self, key: TaskKey) -> _Sides | None:
        """Put every label on a side or none; nothing describes such a task."""
        if len(self.groups) < 3:
            return None
        drawn = key.uniform(len(self.groups), Purpose.KERNEL_UNION)[self._group]
        positive, negative = drawn < UNION[0], drawn >= 1 - UNION[1]
        return _Sides(positive, negative, torch.zeros_like(self._crop_task))

    def _tested(self, choices: _Choices, key: TaskKey) -> NDArray[np.bool_]:
        """Draw which samples may be of the query: whole blocks of the map, or single samples."""
        part = np.arange(len(self._group))
        if choices.apart < IN_SPACE:
            corner = np.array([choices.north, choices.east])
            block = np.floor(self._km / _chosen(BLOCKS_KM, choices.block) + corner)
            part = np.unique(block, axis=0, return_inverse=True)[1].reshape(-1)
        return (key.uniform(int(part.max()) + 1, Purpose.KERNEL_SIDES) < 0.5)[part]


def _chosen(options: Sequence[_Option], share: float) -> _Option:
    """Return the option at a share in [0, 1) of the list."""
    return options[int(share * len(options))]


def _main_class(region: Region, members: NDArray[np.bool_]) -> str:
    """Return the FAO class of most members; where none has one, "other" or "non_crop"."""
    rows = np.flatnonzero(members)
    classes = [name for row in rows if (name := region.classes[row])]
    if not classes:
        return "other" if region.is_crop[rows[0]] else NON_CROP
    return max(sorted(set(classes)), key=classes.count)


def _padded(sides: Sequence[_Pair]) -> tuple[Tensor, Tensor]:
    """Return numbers and targets of the tasks' positives and negatives, each [B, most]."""
    width = max(len(positives) + len(negatives) for positives, negatives in sides)
    numbers = np.zeros((len(sides), width), np.int64)
    targets = np.zeros((len(sides), width), np.float32)
    for row, (positives, negatives) in enumerate(sides):
        count = len(positives) + len(negatives)
        numbers[row, :count] = np.concatenate([positives, negatives])
        targets[row, :count] = np.repeat([1, -1], [len(positives), len(negatives)])
    return torch.from_numpy(numbers), torch.from_numpy(targets)
