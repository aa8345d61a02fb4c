"""Episodes: what they may hold, and how they are drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timl.data import CropHarvest, Episodes, EpisodeSampler, TaskSet, meta_tasks

SHAPES = {
    "info": (2, 13),
    "support_x": (2, 3, 4, 12, 18),
    "support_y": (2, 3, 4),
    "query_x": (2, 6, 12, 18),
    "query_y": (2, 6),
}


def fields(**replaced: Any) -> dict[str, Any]:
    return {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()} | replaced


def test_episodes_go_to_torch_and_keep_their_values() -> None:
    episodes = Episodes(**fields(query_y=np.ones((2, 6), np.float32)))
    tensors = episodes.to_torch(torch.float64)
    assert len(tensors) == len(episodes) == 2
    assert tensors.query_y.dtype == torch.float64
    assert float(tensors.query_y.sum()) == 12
    assert tensors.to_torch().support_x is tensors.support_x


def test_episodes_of_several_classes_keep_their_weights_and_ignored_labels() -> None:
    labels = np.tile(np.array([0, 1, 2, -1, 2, 0], np.float32), (2, 1))
    weights = np.array([[1, 0.5, 2], [1, 1, 0]], np.float32)
    episodes = Episodes(**fields(query_y=labels), outputs=3, class_weights=weights)
    tensors = episodes.to_torch(torch.float64)
    assert tensors.outputs == 3 and tensors.class_weights.dtype == torch.float64
    np.testing.assert_array_equal(tensors.class_weights, weights)
    np.testing.assert_array_equal(tensors.query_y, labels)


@pytest.mark.parametrize(
    ("replaced", "error", "message"),
    [
        ({"info": np.zeros((2, 12), np.float32)}, ValueError, "13 is 12 in info"),
        ({"info": np.zeros((3, 13), np.float32)}, ValueError, r"N is 2 in support_x.*\[3, 13\]"),
        ({"support_y": np.zeros((2, 3), np.float32)}, ValueError, r"\[N,S,B\], 3 dimensions"),
        ({"query_x": np.zeros((2, 6, 11, 18), np.float32)}, ValueError, "T is 11 in query_x"),
        ({"query_x": np.zeros((2, 6, 12, 17), np.float32)}, ValueError, "F is 17 in query_x"),
        ({"query_y": np.zeros((2, 5), np.float32)}, ValueError, "Q is 5 in query_y"),
        ({"query_y": np.zeros((2, 0), np.float32)}, ValueError, "empty"),
        (
            {"query_y": np.full((2, 6), 0.5, np.float32)},
            ValueError,
            "holds 12 values of another kind: give labels 0 and 1 only",
        ),
        ({"support_y": np.full((2, 3, 4), np.nan, np.float32)}, ValueError, "labels 0 and 1"),
        (
            {"info": np.full((2, 13), np.inf, np.float32)},
            ValueError,
            "holds 26 values of another kind: give finite values only",
        ),
        ({"query_y": np.full((2, 6), -1, np.float32)}, ValueError, "holds a set of -1 alone"),
        ({"query_y": np.full((2, 6), 3, np.float32), "outputs": 3}, ValueError, "labels 0 to 2 on"),
        ({"outputs": 0}, ValueError, "outputs is 0"),
        ({"class_weights": np.ones((2, 3), np.float32)}, ValueError, "2 is 3 in class_weights"),
        (
            {"class_weights": np.ones((2, 2), np.float32), "outputs": 3},
            ValueError,
            "3 is 2 in class_weights",
        ),
        ({"class_weights": -np.ones((2, 2), np.float32)}, ValueError, "weights of at least 0"),
        ({"class_weights": np.ones((2, 2))}, TypeError, "give one type"),
        ({"query_y": np.zeros((2, 6), np.int64)}, TypeError, "query_y is int64"),
        ({"query_y": np.zeros((2, 6))}, TypeError, "give one type"),
        ({"query_y": torch.zeros(2, 6)}, TypeError, "give one type"),
        ({"query_y": [[0.0] * 6] * 2}, TypeError, "query_y is a list"),
    ],
)
def test_what_does_not_fit_is_refused(
    replaced: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Episodes(**fields(**replaced))


def test_tensors_on_different_devices_are_refused() -> None:
    tensors = {name: torch.from_numpy(value) for name, value in fields().items()}
    with pytest.raises(ValueError, match="give one device"):
        Episodes(**(tensors | {"info": torch.zeros(2, 13, device="meta")}))
    tensors["support_x"][0, 0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="holds 1 values of another kind"):
        Episodes(**tensors)


@pytest.fixture(scope="module")
def tasks(realcrops: CropHarvest) -> TaskSet:
    return meta_tasks(realcrops)


def rows_of(series: np.ndarray) -> list[bytes]:
    return [row.tobytes() for row in series.reshape(-1, 216)]


def pool(data: CropHarvest, positions: np.ndarray) -> set[bytes]:
    return set(rows_of(data.series(positions)))


@settings(max_examples=25)
@given(
    k=st.integers(1, 10),
    half_query=st.integers(1, 4),
    inner_steps=st.integers(1, 3),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**32 - 1),
    pick=st.integers(0, 10**6),
)
def test_episodes_are_balanced_and_share_no_sample(
    realcrops: CropHarvest,
    tasks: TaskSet,
    k: int,
    half_query: int,
    inner_steps: int,
    seed: int,
    epoch: int,
    pick: int,
) -> None:
    needed = k * inner_steps + half_query
    large = [
        i for i in range(len(tasks)) if len(tasks.positives[i]) >= needed <= len(tasks.negatives[i])
    ]
    chosen = tasks.subset([large[pick % len(large)]])
    sizes = {"k": k, "query": 2 * half_query, "inner_steps": inner_steps, "seed": seed}
    episodes = EpisodeSampler(realcrops, chosen, **sizes).batch([0], epoch)
    assert episodes.support_x.shape == (1, inner_steps, 2 * k, 12, 18)
    assert episodes.query_x.shape == (1, 2 * half_query, 12, 18)
    assert (episodes.support_y.mean(axis=-1) == 0.5).all()
    assert (episodes.query_y.mean(axis=-1) == 0.5).all()
    x = rows_of(episodes.support_x) + rows_of(episodes.query_x)
    y = [*episodes.support_y.ravel(), *episodes.query_y.ravel()]
    positives, negatives = (
        pool(realcrops, chosen.positives[0]),
        pool(realcrops, chosen.negatives[0]),
    )
    drawn = [series for series, label in zip(x, y, strict=True) if label == 1]
    assert set(drawn) <= positives
    others = [series for series, label in zip(x, y, strict=True) if label == 0]
    assert set(others) <= negatives
    if len(positives) == len(chosen.positives[0]) and len(negatives) == len(chosen.negatives[0]):
        assert len(set(drawn)) == len(drawn) == needed
        assert len(set(others)) == len(others) == needed


def test_an_episode_depends_on_seed_epoch_and_task_alone(
    realcrops: CropHarvest, tasks: TaskSet
) -> None:
    sampler = EpisodeSampler(realcrops, tasks, seed=5)
    batch = sampler.batch([7, 3, 11], epoch=4)
    alone = EpisodeSampler(realcrops, tasks, seed=5).batch([3], epoch=4)
    subset = EpisodeSampler(realcrops, tasks.subset([3]), seed=5).batch([0], epoch=4)
    for one in (alone, subset):
        for name in SHAPES:
            np.testing.assert_array_equal(getattr(one, name)[0], getattr(batch, name)[1])
    for other in (sampler.batch([3], 5), EpisodeSampler(realcrops, tasks, seed=6).batch([3], 4)):
        assert (other.support_x != alone.support_x).any()


def test_an_epoch_visits_every_task_once(realcrops: CropHarvest, tasks: TaskSet) -> None:
    sampler = EpisodeSampler(realcrops, tasks, seed=1)
    assert sorted(sampler.order(0)) == list(range(len(tasks)))
    assert sampler.order(0).tolist() == sampler.order(0).tolist() != sampler.order(1).tolist()


def test_too_small_tasks_and_wrong_indices_are_refused(
    realcrops: CropHarvest, tasks: TaskSet
) -> None:
    with pytest.raises(ValueError, match=r"inner_steps=3 need 34 of each: make the tasks"):
        EpisodeSampler(realcrops, tasks, inner_steps=3)
    sampler = EpisodeSampler(realcrops, tasks)
    with pytest.raises(
        IndexError, match=rf"task_indices is from -1 to 2: give indices in \[0, {len(tasks)}\)"
    ):
        sampler.batch([2, -1], 0)
    for wrong in ([], [[1]], [0.5]):
        with pytest.raises(ValueError, match=r"task_indices is .*: give integers"):
            sampler.batch(wrong, 0)
