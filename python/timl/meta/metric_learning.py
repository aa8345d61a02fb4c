"""Metric learning: from the meta-training tasks to the metric of the strong protocol."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from timl.bands import BANDS
from timl.data import TaskSet
from timl.nn import TIML, one_thread
from timl.nn.metric import Metric, metric_features
from timl.normalization import normalization_of

_DIMENSIONS = 64
"""Dimensions of the metric's space."""
_SHRINKAGE = 0.3
"""Share of the mean variance that is added to the covariance within groups."""
_LEAST, _MOST = 5, 200
"""Samples that a group needs to count, and those that count at most."""
_PAIRED = 400
"""Samples whose pairwise distances give the metric's length."""


def learn_metric(model: TIML, tasks: TaskSet) -> Metric | None:
    """Learn from all tasks' samples in which directions the crops of one place differ.

    Samples of one region and one label form a group. W is the mean over the groups of the
    covariance within a group (shrunken), and B the covariance of the groups' means around their
    region's mean. The space's axes are the eigenvectors of W^-1 B, each scaled so that its variance
    within groups is its eigenvalue: distances count most where crops have differed elsewhere.

    Parameters
    ----------
    model
        Model whose hidden states, for the mean of the tasks' information, are among the features.
        It stays as it is.
    tasks
        Meta-training tasks; their series must be normalised.

    Returns
    -------
    Metric or None
        None where no region has two groups of at least 5 samples, or where the series are not of
        the record's bands. At most 200 samples of a group count.
    """
    from threadpoolctl import threadpool_limits

    positions, groups, regions = _groups(tasks)
    if not any(len(np.unique(groups[regions == region])) > 1 for region in np.unique(regions)):
        return None
    if len(tasks.data.mean) != len(BANDS):
        return None
    normalization = normalization_of(tasks.data)
    informed = model.encoder is not None or model.classifier.appended
    classifier = model.for_task(tasks.info.mean(axis=0) if informed else None)
    x = tasks.data.series(positions)
    with threadpool_limits(1), one_thread():
        described = metric_features(classifier, x, normalization)
        mean, scale = described.mean(axis=0), described.std(axis=0)
        scale[scale < 1e-6] = 1.0  # a constant feature tells nothing: it stays near 0
        described = (described - mean) / scale
        projection = _projection(described, groups, regions)
        if projection is None:
            return None
        drawn = described[np.linspace(0, len(x) - 1, min(len(x), _PAIRED)).astype(int)]
        places = drawn @ projection
        distances = ((places[:, None] - places[None]) ** 2).sum(axis=-1)
    metric = Metric(*projection.shape)
    for name, value in (
        ("mean", mean),
        ("scale", scale),
        ("projection", projection),
        ("length", np.median(distances[np.triu_indices(len(drawn), 1)])),
    ):
        getattr(metric, name).copy_(torch.as_tensor(value))
    return metric.to(model.classifier.input_weight)


def _groups(
    tasks: TaskSet,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions [n] of the samples that count, and the group and region of each, [n]."""
    used = np.unique(np.concatenate([*tasks.positives, *tasks.negatives]))
    rows = tasks.data.labels.set_index("position").loc[used]
    region = np.full(len(used), -1)
    lat, lon = rows["lat"].to_numpy(float), rows["lon"].to_numpy(float)
    for number, box in enumerate(dict.fromkeys(task.bounding_box for task in tasks)):
        region[box.contains(lat, lon) & (region < 0)] = number
    names = [
        f"{place} {crop} {label}"
        for place, crop, label in zip(
            region, rows["is_crop"], rows["label"].fillna(""), strict=True
        )
    ]
    group = np.unique(names, return_inverse=True)[1].reshape(-1)
    kept = []
    for number in range(int(group.max()) + 1):
        members = np.flatnonzero(group == number)
        if len(members) >= _LEAST:
            count = min(len(members), _MOST)
            kept.append(members[np.linspace(0, len(members) - 1, count).astype(int)])
    chosen = np.concatenate(kept) if kept else np.empty(0, np.int64)
    return used[chosen], group[chosen], region[chosen]


def _projection(
    described: NDArray[np.float64], groups: NDArray[np.int64], regions: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Return the axes of the space, [D, d]; None if no group differs from another."""
    means, places, within = [], [], np.zeros((described.shape[1],) * 2)
    for group in np.unique(groups):
        members = described[groups == group]
        means.append(members.mean(axis=0))
        places.append(regions[groups == group][0])
        centred = members - means[-1]
        within += centred.T @ centred / len(members)
    within /= len(means)
    centres, at = np.array(means), np.array(places)
    for region in np.unique(at):
        centres[at == region] -= centres[at == region].mean(axis=0)
    between = centres.T @ centres / len(centres)
    within += _SHRINKAGE * np.trace(within) / len(within) * np.eye(len(within))
    values, vectors = np.linalg.eigh(within)
    if values[0] <= 0:
        return None
    whitened = vectors / np.sqrt(values)
    ratios, axes = np.linalg.eigh(whitened.T @ between @ whitened)
    ratios, axes = ratios[::-1][:_DIMENSIONS], axes[:, ::-1][:, :_DIMENSIONS]
    if ratios[0] <= 0:
        return None
    projection: NDArray[np.float64] = whitened @ axes * np.sqrt(np.maximum(ratios, 1e-6))
    return projection
