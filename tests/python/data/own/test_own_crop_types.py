"""Your own points of several classes: which labels are classes, and what is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from exports import bands, centre, write_export
from timl.data import OwnCropTypes, own_points, read_export

pytest.importorskip("rasterio")

LIKE = {"mean": np.full(18, 100.0), "std": np.full(18, 50.0), "ndvi": "record"}


def places(*labels: str | None) -> pd.DataFrame:
    """A place with each label, each in a pixel of its own."""
    rows = [(*centre(n // 6, n % 6), label) for n, label in enumerate(labels)]
    return pd.DataFrame(rows, columns=["lat", "lon", "label"])


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return write_export(tmp_path / "a.tif", bands(5, 6, seed=1))


SEVEN = places("wheat", "maize", "onion", "maize", "wheat", "non_crop", "rice")


def test_places_of_other_labels_are_left_out_and_listed(export: Path) -> None:
    with pytest.warns(UserWarning, match="2 of 7 places were left out, the first, row 2: its lab"):
        points = own_points(SEVEN, export, like=LIKE, classes=["wheat", "non_crop", "maize"],
                            classification_label={"maize": "cereals"})  # fmt: skip
    assert isinstance(points, OwnCropTypes)
    assert repr(points) == (
        "OwnCropTypes('own points', wheat 2, non_crop 1, maize 2), 2 places left out"
    )
    assert points.classification_labels == (None, "non_crop", "cereals")
    assert points.unmatched.to_dict("list")["reason"] == [
        "its label is 'onion'",
        "its label is 'rice'",
    ]
    expected = read_export(export, "record", fill="pixel").series[[0, 1, 3, 4, 5]]
    x, y = points.train_arrays()
    np.testing.assert_allclose(x, (expected - 100) / 50, rtol=1e-5, atol=1e-5)
    assert y.tolist() == [0, 2, 2, 0, 1]
    assert points.data.labels["row"].tolist() == [0, 1, 3, 4, 5]
    with pytest.raises(FileNotFoundError, match=r"timl\.cross_validate\(model, points\)"):
        _ = points.test


def test_all_labels_and_a_test_set_of_marked_places(export: Path) -> None:
    table = places("b", "a", None, "b", "a", None, "b").assign(
        is_crop=[1, 1, 0, 1, 1, 1, 1], is_test=[0, 0, 0, 1, 1, 0, 0]
    )
    with pytest.warns(UserWarning, match="row 5: it has no label"):
        points = own_points(table, export, like=LIKE, classes="all")
    assert points.classes == ("a", "b", "non_crop")  # what is no crop needs no label
    assert points.counts == (1, 2, 1)
    assert points.test.y.tolist() == [1, 0]
    expected = read_export(export, "record", fill="pixel").series[[3, 4]]
    np.testing.assert_allclose(points.test.x, (expected - 100) / 50, rtol=1e-5, atol=1e-5)


def test_places_without_a_series_and_of_other_labels_are_listed_in_order(export: Path) -> None:
    table = SEVEN.copy()
    table.loc[4, "lat"] = 50.0
    with pytest.warns(UserWarning, match="3 of 7"):
        points = own_points(table, export, like=LIKE, classes=["wheat", "maize", "non_crop"])
    assert points.unmatched["row"].tolist() == [2, 4, 6]
    assert points.counts == (1, 2, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["maize"]}, "labels maize, non_crop, onion, rice, wheat: give two of these"),
        ({"classes": ["maize", "tea"]}, "classes is .*'tea'.*give two of these"),
        ({"classes": "maize"}, "classes is 'maize'"),
        ({"classes": "all", "target_label": "maize"}, "target_label is 'maize', classes 'all'"),
        ({"classes": "all", "classification_label": "cereals"}, "give a dict from these"),
        ({"classes": "all", "classification_label": {"tea": "other"}}, "give a dict from these"),
        ({"classes": "all", "classification_label": {"rice": "grain"}}, "'grain'"),
        ({"classification_label": {"rice": "cereals"}}, "which only several classes take"),
    ],
)
def test_classes_that_make_no_task(
    export: Path, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        own_points(SEVEN, export, like=LIKE, **arguments)  # type: ignore[call-overload]


def test_every_class_needs_a_place_to_train_on(export: Path) -> None:
    tested = SEVEN.assign(is_test=[0, 0, 0, 0, 0, 0, 1])
    with pytest.raises(ValueError, match="6 training places with a series, none of rice"):
        own_points(tested, export, like=LIKE, classes="all")
