"""Metric of the strong protocol: the directions in which the crops of one place differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from timl.data import TaskSet
from timl.meta.strong.constants import (
    COMPLETION_SHRINKAGE,
    DIMENSIONS,
    LEAST_OF_GROUP,
    LENGTH,
    MEASURED_SAMPLES,
    MOST_OF_GROUP,
    REFERENCES,
    RIDGE,
    SCALE,
    SHRINKAGE,
)
from timl.meta.strong.reference_points import draw_reference
from timl.meta.strong.regions import Region, regions_of
from timl.nn import DeepKernel, one_thread
from timl.nn.strong.description import describe_series, series_part
from timl.normalization import Normalization, normalization_of


@dataclass(frozen=True)
class Metric:
    """Linear map of standardised descriptions, in whose space most distances are about 1."""

    mean: NDArray[np.float64]
    """Mean that is subtracted from descriptions, [D]."""
    scale: NDArray[np.float64]
    """Scale that divides them, [D]."""
    axes: NDArray[np.float64]
    """Axes of the space, [D, d]; the median squared distance of series is 1."""
    covariance: NDArray[np.float64]
    """Covariance of the standardised numbers of a series within regions, [T * 18, T * 18]."""


def learn_metric_kernel(tasks: TaskSet) -> DeepKernel | None:
    """Learn the metric alone: a deep kernel without hidden layer or prior mean.

    Parameters
    ----------
    tasks
        Meta-training tasks; their series must be normalised.

    Returns
    -------
    DeepKernel or None
        None where no region has two groups, see `learn_metric`.
    """
    from threadpoolctl import threadpool_limits

    regions = regions_of(tasks)
    with threadpool_limits(1), one_thread():
        metric = learn_metric(regions)
        if metric is None:
            return None
        steps = tasks.data.series(tasks.positives[0][:1]).shape[1]
        described = [region.described for region in regions]
        return _kernel(metric, steps, normalization_of(tasks.data), described)


def unlearned_kernel(x: ArrayLike, normalization: Normalization) -> DeepKernel:
    """Return the deep kernel of plain distances: nothing is learned from any label.

    Its metric is that of the descriptions, each number standardised on the series given.

    Parameters
    ----------
    x : float32 array of shape [n, T, 18]
        Normalised series, at least two.
    normalization
        How they were normalised.
    """
    series = np.asarray(x, np.float32)
    described = describe_series(series, normalization).astype(np.float64)
    mean, scale = standardisation(described)
    plain = np.eye(len(mean))
    unit = typical_distance((described - mean) / scale)
    metric = Metric(mean, scale, plain / unit, np.eye(series[0].size))
    return _kernel(metric, series.shape[1], normalization, [described])


def learn_metric(regions: Sequence[Region]) -> Metric | None:
    """Learn from labelled samples in which directions the crops of one place differ.

    Samples of one region and one label form a group. W is the mean over the groups of the
    covariance within a group (shrunken), and B the covariance of the groups' means around their
    region's mean. The axes are the eigenvectors of W^-1 B, each scaled so that its variance within
    groups is its eigenvalue: distances count most where crops have differed elsewhere.

    Returns
    -------
    Metric or None
        None where no region has two groups of at least 5 samples, or their series do not differ.
        At most 200 samples of a group count.
    """
    groups, owners = _groups(regions)
    if len(groups) == len(set(owners)):
        return None
    used = np.concatenate(groups)
    mean, scale = standardisation(used)
    standardised = [(group - mean) / scale for group in groups]
    within = sum((_covariance(group) for group in standardised), np.zeros((len(mean),) * 2))
    within /= len(groups)
    within += SHRINKAGE * np.trace(within) / len(within) * np.eye(len(within))
    centres, owner = np.array([group.mean(axis=0) for group in standardised]), np.array(owners)
    for region in np.unique(owner):
        centres[owner == region] -= centres[owner == region].mean(axis=0)
    values, vectors = np.linalg.eigh(within)
    if values[0] <= 0:
        return None
    whitened = vectors / np.sqrt(values)
    between = whitened.T @ (centres.T @ centres / len(centres)) @ whitened
    ratios, axes = np.linalg.eigh(between)
    ratios, axes = ratios[::-1][:DIMENSIONS], axes[:, ::-1][:, :DIMENSIONS]
    axes = whitened @ axes * np.sqrt(np.maximum(ratios, 1e-6))
    axes /= typical_distance((used - mean) / scale @ axes)
    return Metric(mean, scale, axes, _within_regions(standardised, owner))


def standardisation(described: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Return mean and scale of descriptions [n, D], each [D]; a constant number has scale 1."""
    mean, scale = described.mean(axis=0), described.std(axis=0)
    return mean, np.where(scale < 1e-6, 1.0, scale)


def typical_distance(points: NDArray[np.float64]) -> float:
    """Return the square root of the median squared distance of some of the points [n, d]."""
    count = min(len(points), MEASURED_SAMPLES)
    chosen = points[np.linspace(0, len(points) - 1, count).astype(int)]
    lengths = (chosen**2).sum(axis=1)
    squared = lengths[:, None] + lengths - 2 * chosen @ chosen.T
    median = float(np.median(squared[np.triu_indices(count, 1)]))
    return math.sqrt(median) if median > 0 else 1.0


def _groups(regions: Sequence[Region]) -> tuple[list[NDArray[np.float64]], list[int]]:
    """Return the descriptions [m, D] of the groups that count, and the region of each."""
    groups, owners = [], []
    for number, region in enumerate(regions):
        names = [
            f"{crop:d} {label or ''}"
            for crop, label in zip(region.is_crop, region.labels, strict=True)
        ]
        group = np.unique(names, return_inverse=True)[1].reshape(-1)
        for value in range(int(group.max()) + 1):
            members = np.flatnonzero(group == value)
            if len(members) >= LEAST_OF_GROUP:
                count = min(len(members), MOST_OF_GROUP)
                chosen = members[np.linspace(0, len(members) - 1, count).astype(int)]
                groups.append(region.described[chosen])
                owners.append(number)
    return groups, owners


def _within_regions(
    groups: Sequence[NDArray[np.float64]], owner: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the shrunken covariance of series' numbers within regions, [T * 18, T * 18].

    `groups` are standardised descriptions [m, D], and `owner` has the region of each.
    """
    own = [np.flatnonzero(owner == region).tolist() for region in np.unique(owner)]
    parts = [series_part(np.concatenate([groups[i] for i in numbers])) for numbers in own]
    size = parts[0].shape[1]
    covariance = np.zeros((size, size))
    for part in parts:
        covariance += len(part) / sum(map(len, parts)) * _covariance(part)
    covariance += COMPLETION_SHRINKAGE * np.trace(covariance) / size * np.eye(size)
    return covariance


def _covariance(group: NDArray[np.floating]) -> NDArray[np.float64]:
    centred = group - group.mean(axis=0)
    covariance: NDArray[np.float64] = centred.T @ centred / len(group)
    return covariance


def _kernel(
    metric: Metric,
    steps: int,
    normalization: Normalization,
    described: Sequence[NDArray[np.float64]],
) -> DeepKernel:
    """Return the deep kernel of a metric alone, with the head as it is before training.

    `described` has the descriptions [n, D] of each region.
    """
    references = min(REFERENCES, sum(map(len, described)))
    made = DeepKernel(steps, 1, metric.axes.shape[1], 0, (), references)
    made.mean.copy_(torch.from_numpy(metric.mean))
    made.scale.copy_(torch.from_numpy(metric.scale))
    made.covariance.copy_(torch.from_numpy(metric.covariance))
    network = made.members[0]
    network.axes.copy_(torch.from_numpy(metric.axes))
    network.log_head.copy_(torch.tensor([LENGTH, RIDGE, SCALE]).log())
    made.normalization = normalization
    draw_reference(made, [made.standardize(part) for part in described], metric.axes, seed=0)
    return made.eval()
