"""Tasks of several classes: which samples are of which class, draws, information, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from timl.data import (
    CLASSES,
    BBox,
    CropHarvest,
    CropTypeTask,
    TestInstance,
    crop_type_task,
    task_information,
)

HERE = BBox(0.0, 2.0, 10.0, 11.0, "here")
SOUTH = BBox(0.0, 1.0, 10.0, 11.0, "south")
KINDS = {"maize": "cereals", "wheat": "cereals", "onion": "vegetables_melons"}


def data_of(*groups: tuple[str | None, int, int], **columns: Any) -> CropHarvest:
    """Groups of (label, is_crop, count) samples, half of them south, in the table's order."""
    rows = [
        {"label": label, "is_crop": is_crop, "lat": 0.5 + number % 2}
        for label, is_crop, count in groups
        for number in range(count)
    ]
    table = pd.DataFrame(rows).assign(lon=10.5, is_test=0, dataset="made", **columns)
    table["classification_label"] = [KINDS.get(label) for label in table["label"]]
    table["index"] = range(len(table))
    x = np.arange(len(table) * 12 * 18, dtype=np.float32).reshape(-1, 12, 18)
    return CropHarvest.from_series(table, x, mean=np.zeros(18), std=np.ones(18), ndvi="true")


MIXED = data_of(
    ("wheat", 1, 4), (None, 0, 3), ("maize", 1, 6), ("forest", 0, 3), (None, 1, 5), ("onion", 1, 2)
)


def test_crops_are_told_by_name_and_all_non_crops_are_one_class() -> None:
    task = crop_type_task(MIXED, HERE, least=4)
    assert task.classes == ("maize", "non_crop", "wheat")
    assert task.classification_labels == ("cereals", "non_crop", "cereals")
    assert repr(task) == "CropTypeTask('here crop types', maize 6, non_crop 6, wheat 4)"
    labels = MIXED.labels.set_index("position")
    for position, code in zip(task.positions, task.codes, strict=True):
        row = labels.loc[position]
        assert task.classes[code] == (row["label"] if row["is_crop"] else "non_crop")
    x, y = task.train_arrays()
    np.testing.assert_array_equal(x, MIXED.series(task.positions))
    np.testing.assert_array_equal(y, task.codes)


def test_of_fao_classes_the_order_is_that_of_the_information() -> None:
    task = crop_type_task(MIXED, HERE, by="classification_label", least=2)
    assert task.classes == ("non_crop", "cereals", "vegetables_melons")
    assert task.classes == task.classification_labels and task.counts == (6, 10, 2)


def test_classes_that_are_asked_for_come_in_that_order_and_the_rest_is_left_out() -> None:
    task = crop_type_task(MIXED, HERE, classes=["wheat", "onion"], least=2, name="two")
    assert (task.name, task.counts) == ("two", (4, 2))


def test_test_samples_are_never_trained_on() -> None:
    task = crop_type_task(MIXED, HERE, least=2, test_region=SOUTH)
    assert task.counts == (3, 2, 2)  # the onion of the north is one, too few
    assert sorted(task.test.y.tolist()) == [-1] * 4 + [0] * 3 + [1] * 4 + [2] * 2
    assert set(task.test.lats) == {0.5} and len(task.test.x) == 13
    trained, _ = task.train_arrays()
    assert not set(trained[:, 0, 0]) & set(task.test.x[:, 0, 0])
    assert repr(task).endswith("wheat 2, 13 test samples)")
    with pytest.raises(FileNotFoundError, match=r"timl\.cross_validate"):
        _ = crop_type_task(MIXED, HERE, least=2).test


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**32))
def test_draws_of_one_seed_are_nested_and_have_equally_many_of_each_class(
    one: int, other: int, seed: int
) -> None:
    codes = np.arange(30) % 3
    task = CropTypeTask(MIXED, "t", HERE, ["a", "b", "c"], np.arange(30), codes)
    small, large = (task.subset(size, seed) for size in sorted([one, other]))
    assert set(small.positions) <= set(large.positions)
    assert small.counts == (min(one, other),) * 3
    assert all(codes[position] == code for position, code in zip(
        large.positions, large.codes, strict=True))  # fmt: skip
    assert task.counts == (10, 10, 10)


@given(st.lists(st.sampled_from([None, *CLASSES]), min_size=2, max_size=6))
def test_information_is_the_mean_of_the_classes_that_are_known(kinds: list[str | None]) -> None:
    names = [str(number) for number in range(len(kinds))]
    task = CropTypeTask(MIXED, "t", HERE, names, range(len(kinds)), range(len(kinds)),
                        classification_labels=kinds)  # fmt: skip
    known = [CLASSES.index(kind) for kind in kinds if kind is not None]
    shares = np.bincount(known, minlength=10) / max(1, len(known))
    if not known:
        shares = np.array([0, *[1 / 9] * 9])
    np.testing.assert_allclose(task.info[3:], shares, atol=1e-6)
    assert task.info.dtype == np.float32 and task.info.shape == (13,)
    np.testing.assert_array_equal(task.info[:3], task_information(HERE, "crop")[:3])


def scored(*y: int) -> TestInstance:
    size = len(y)
    return TestInstance(
        np.zeros((size, 12, 18), np.float32), np.array(y, np.int8), np.zeros(size), np.zeros(size)
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": "maize"}, "classes is the text 'maize': give a list"),
        ({"classes": ["a"]}, "1 in all: give 2 to 127 names"),
        ({"classes": ["a", "a"]}, "all different"),
        ({"codes": [0, 0, 0]}, r"codes is of the numbers \[0\] for 2 classes: give 0 to 1"),
        ({"codes": [0, 1]}, r"positions has shape \[3\], codes \[2\]"),
        ({"positions": [0, 0, 1]}, "2 of them different: give each sample once"),
        ({"classification_labels": ["grain", None]}, r"classification_labels is \['grain', None\]"),
        ({"test": scored(0, 2)}, "test has labels from 0 to 2: give 0 to 1"),
    ],
)
def test_parts_that_do_not_fit(changed: dict[str, Any], message: str) -> None:
    given = {"classes": ["a", "b"], "positions": [0, 1, 2], "codes": [0, 1, 1]} | changed
    with pytest.raises(ValueError, match=message):
        CropTypeTask(MIXED, "t", HERE, **given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"least": 0}, "least is 0"),
        ({"by": "crop"}, "by is 'crop'"),
        ({"least": 7}, r"'maize': 6.*give one with 7 or more of two classes"),
        ({"least": 2, "classes": ["maize", "rice"]}, r"each of \['maize', 'rice'\]"),
    ],
)
def test_regions_without_such_classes(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        crop_type_task(MIXED, HERE, **arguments)


def test_too_many_labels_are_refused_by_the_rarest_class() -> None:
    with pytest.raises(ValueError, match="has 4 samples of its rarest class, 'wheat': give 1 to 4"):
        crop_type_task(MIXED, HERE, least=4).subset(5, seed=0)


def test_the_cropharvest_packages_scores_are_of_two_classes() -> None:
    with pytest.raises(ValueError, match="classes 0 to 2: score a crop-type task by timl"):
        scored(0, 1, 2).evaluate_predictions(np.array([0.1, 0.2, 0.3]))


def test_the_real_data_set_has_crop_types(realcrops: CropHarvest) -> None:
    rows = realcrops.labels[realcrops.labels["position"] >= 0]
    lat, lon = rows["lat"], rows["lon"]
    task = crop_type_task(
        realcrops, BBox(lat.min(), lat.max(), lon.min(), lon.max(), "all"), least=50
    )
    assert len(task.classes) > 2 and min(task.counts) >= 50
    assert task.train_arrays()[0].shape == (len(task.codes), 12, 18)
