"""The interface that users of the cropharvest package know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timl.data import BBox, CropHarvest, Task, TaskSamples, TestInstance
from torch.utils.data import DataLoader
from worlds import label, measured

REGION = BBox(0, 1, 10, 11, "here")


@pytest.fixture(scope="module")
def made() -> CropHarvest:
    """Thirty series: 5 maize, 10 wheat, 15 that are no crops; a test set of 25 in two files."""
    import pandas as pd

    crops = ["maize"] * 5 + ["wheat"] * 10 + [None] * 15
    labels = pd.DataFrame.from_records(
        [
            label(i, label=crop, is_crop=int(crop is not None))["properties"]
            for i, crop in enumerate(crops)
        ]
    )
    series = np.stack([measured(i) for i in range(30)]).astype(np.float32)

    def test_set(first: int, n: int) -> TestInstance:
        x = np.stack([measured(first + i) for i in range(n)]).astype(np.float32)
        return TestInstance(x, np.arange(n, dtype=np.int8) % 3 - 1, np.zeros(n), np.ones(n))

    tests = {"here_maize_1": test_set(100, 10), "here_maize_2": test_set(200, 15)}
    mean, std = series.mean(axis=(0, 1)), series.std(axis=(0, 1))
    return CropHarvest.from_series(labels, series, mean=mean, std=std, ndvi="true", tests=tests)


@pytest.fixture
def maize(made: CropHarvest) -> TaskSamples:
    return TaskSamples(made, Task(REGION, "maize", False, "here_maize"))


def numbers(x: np.ndarray[Any, Any], samples: TaskSamples) -> list[int]:
    """Which series these are: their first value as measured is their number."""
    x = x.reshape(len(x), 12, 18)
    return [round(float(v)) for v in x[:, 0, 0] * samples.data.std[0] + samples.data.mean[0]]


def test_root_and_task_are_the_arguments_as_in_the_package(benchmarked_world: Path) -> None:
    region = BBox(0, 0.9, 0, 1, "R0")
    samples = TaskSamples(benchmarked_world, Task(region, test_identifier="test_0"))
    assert samples.id == "R0_crop"
    assert (samples.k, samples.num_bands, len(samples)) == (20, 18, 40)
    (name, test), *others = samples.test_data()
    assert (name, others, len(test)) == ("test_0", [], 24)
    assert "R0_crop" in repr(samples)


def test_the_samples_of_a_real_task(realcrops: CropHarvest) -> None:
    kenya = BBox(0.4, 0.8, 34.1, 34.45, "Kenya_1")
    samples = TaskSamples(realcrops, Task(kenya, "maize", True, "kenya_maize"))
    assert samples.id == "Kenya_1_maize"
    x, y = samples.as_array()
    assert x.shape == (len(samples), 12, 18)
    assert y.tolist() == [1] * 119 + [0] * 73
    with pytest.raises(ValueError, match="'Kenya_1_cocoa' has 0 positives"):
        TaskSamples(realcrops, Task(kenya, "cocoa"))


def test_without_a_task_it_is_crop_versus_non_crop_on_the_globe(made: CropHarvest) -> None:
    samples = TaskSamples(made)
    assert samples.id == "global_crop"
    assert len(samples) == len(made) == 30
    assert samples.k == 15
    assert [samples[i][1] for i in range(30)] == [1] * 15 + [0] * 15


def test_samples_have_the_packages_shapes(maize: TaskSamples) -> None:
    x, y = maize[3]
    assert (x.shape, x.dtype, y) == ((12, 18), np.float32, 1)
    assert numbers(x[None], maize) == [3]
    x, y = maize.as_array(flatten_x=True)
    assert x.shape == (30, 216)
    assert numbers(x, maize) == list(range(30))
    x, y = maize.as_array(num_samples=7)
    assert y.tolist() == [1, 1, 1, 0, 0, 0]
    assert numbers(x, maize) == [0, 1, 2, 5, 6, 7]
    with pytest.raises(ValueError, match=r"num_samples is 12.*give 2 to 10"):
        maize.as_array(num_samples=12)
    measured_ones = TaskSamples(maize.data, Task(REGION, "maize", normalize=False))
    np.testing.assert_array_equal(measured_ones[4][0], measured(4).astype(np.float32))


def test_balanced_negatives_repeat_as_in_the_package(made: CropHarvest) -> None:
    data = TaskSamples(made, Task(REGION, "maize", balance_negative_crops=True))
    x, y = data.as_array()
    wheat, others = list(range(5, 15)), list(range(15, 30))
    assert numbers(x, data) == [*range(5), *wheat, *wheat, *others]
    assert y.tolist() == [1] * 5 + [0] * 35
    cut = TaskSamples(made, Task(REGION, "maize", balance_negative_crops="cut"))
    assert len(cut) == 5 + 10 + 10


def test_samples_are_balanced_and_new_until_none_are_left(maize: TaskSamples) -> None:
    x, y = maize.sample(2)
    assert y.tolist() == [1, 0, 1, 0]
    again, _ = maize.sample(2)
    drawn = numbers(x, maize) + numbers(again, maize)
    assert len(set(drawn)) == 8
    maize.sample(2)  # only one positive is left: it begins anew
    maize.reset_sampled_indices()
    np.testing.assert_array_equal(maize.sample(2)[0], x)
    x, y = maize.sample(100)
    assert sorted(numbers(x[::2], maize)) == [0, 1, 2, 3, 4]
    x, _ = maize.sample(2, deterministic=True)
    assert numbers(x, maize) == [0, 5, 1, 6]
    with pytest.raises(ValueError, match="k is 0"):
        maize.sample(0)


def test_shuffling_keeps_pairs_together_and_decides_later_draws(made: CropHarvest) -> None:
    first, second, third = (TaskSamples(made, Task(REGION, "maize")) for _ in range(3))
    for data, seed in ((first, 3), (second, 3), (third, 4)):
        data.shuffle(seed)
    x, y = first.as_array()
    assert sorted(numbers(x, first)) == list(range(30))
    assert [number < 5 for number in numbers(x, first)] == (y == 1).tolist()
    np.testing.assert_array_equal(second.as_array()[0], x)
    np.testing.assert_array_equal(second.sample(3)[0], first.sample(3)[0])
    assert (third.as_array()[0] != x).any()


def test_test_files_are_given_one_by_one_and_in_parts(maize: TaskSamples) -> None:
    sizes = {name: len(test) for name, test in maize.test_data()}
    assert sizes == {"here_maize_1": 10, "here_maize_2": 15}
    parts = {name: test.x.shape for name, test in maize.test_data(flatten_x=True, max_size=10)}
    assert parts == {
        "here_maize_1": (10, 216),
        "0_here_maize_2": (10, 216),
        "1_here_maize_2": (5, 216),
    }
    both = maize.data.test_instance("here_maize")
    pieces = [test for _, test in maize.test_data(max_size=4)]
    for field in ("x", "y", "lats", "lons"):
        np.testing.assert_array_equal(
            getattr(both, field), np.concatenate([getattr(piece, field) for piece in pieces])
        )
    with pytest.raises(FileNotFoundError, match="there_rice"):
        next(TaskSamples(maize.data, Task(test_identifier="there_rice")).test_data())


def instance(y: list[int]) -> TestInstance:
    n = len(y)
    return TestInstance(
        np.zeros((n, 12, 18), np.float32), np.array(y, np.int8), np.zeros(n), np.zeros(n)
    )


def test_predictions_are_scored_under_the_packages_names() -> None:
    test = instance([1, 1, 0, 0, 0, -1])
    scores = test.evaluate_predictions(np.array([0.9, 0.4, 0.6, 0.1, 0.2, 0.99]))
    # by hand: 5 of 6 pairs in order; one true, one false and one missed positive
    assert scores == {
        "auc_roc": pytest.approx(5 / 6),
        "f1_score": pytest.approx(1 / 2),
        "iou": pytest.approx(1 / 3),
        "num_samples": 5,
    }
    with pytest.warns(UserWarning, match="not of both classes"):
        assert instance([0, 0, -1]).evaluate_predictions(np.zeros(3)) == {"num_samples": 2}
    with pytest.raises(ValueError, match=r"shape \[2\].*\[3\]"):
        instance([0, 1, 0]).evaluate_predictions(np.zeros(2))


def test_benchmark_data_sets_share_one_data_set(realcrops: CropHarvest) -> None:
    samples = TaskSamples.create_benchmark_datasets(realcrops)
    assert [each.task.test_identifier for each in samples] == [
        benchmark.task.test_identifier for benchmark in realcrops.benchmarks
    ]
    assert [each.task.balance_negative_crops for each in samples] == [True, True, False]
    for each, benchmark in zip(samples, realcrops.benchmarks, strict=True):
        np.testing.assert_array_equal(each.as_array()[0], benchmark.train_arrays()[0])
    assert all(each.data is realcrops for each in samples)
    raw = TaskSamples.create_benchmark_datasets(realcrops, False, normalize=False)
    assert not any(each.task.normalize or each.task.balance_negative_crops for each in raw)


def test_as_a_torch_data_set(maize: TaskSamples) -> None:
    data = maize.as_torch_dataset()
    sample = data[2]
    assert set(sample) == {"array", "label"}
    assert (sample["array"].dtype, sample["label"].dtype) == (torch.float32, torch.int64)
    batch = next(iter(DataLoader(data, batch_size=8)))
    assert batch["array"].shape == (8, 12, 18)
    assert batch["label"].tolist() == [1] * 5 + [0] * 3
    doubled = maize.as_torch_dataset(lambda s: s | {"array": 2 * s["array"]})
    torch.testing.assert_close(doubled[2]["array"], 2 * sample["array"])
    assert len(doubled) == 30  # type: ignore[arg-type]
