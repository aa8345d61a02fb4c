"""Tables of labels that are damaged or strange: an error, or a report and the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from timl.data import CropHarvest
from timl.data.record.labels import load_labels, pack_labels, read_labels
from worlds import label, stores

World = Callable[..., Path]


def collection(*features: Any) -> str:
    return json.dumps({"type": "FeatureCollection", "features": list(features)})


GOOD = collection(label(0), label(1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut short"),
        (b"null", "cut short"),
        (b"[]", "cut short"),
        (b"{}", "no member 'features'"),
        (b'{"features": {}}', "cut short"),
        (b'{"features": [], "features": []}', "lack the properties index"),
        (b'{"features": []}', "lack the properties index"),
        (GOOD[: len(GOOD) // 2].encode(), "cut short"),
        (GOOD[:-1].encode(), "cut short"),
        (GOOD.replace("},", "} ").encode(), "cut short"),
        (GOOD.encode("utf-16"), "not a GeoJSON file"),
        (b"\xff" + GOOD.encode(), "not a GeoJSON file"),
        (b'{"features": [' + b"[" * 200_000, "not a GeoJSON file"),
        (b'{"a": ' + b'{"a":' * 200_000, "not a GeoJSON file"),
        (collection(label(0) | {"properties": None}).encode(), "lack the properties"),
        (collection({"properties": {"index": 1}}).encode(), "lack the properties dataset, lat"),
        (collection(label(0, lat=91), label(1, lon=-181)).encode(), "not one of 2 features"),
        (collection(label(0, **{f"p{i}": 0 for i in range(1001)})).encode(), "more than 1000"),
        (b'{"features": [{"properties": {"index": ' + b"9" * 5000 + b"}}]}", "not a GeoJSON"),
        ((GOOD + GOOD).encode(), "more after its end"),
        (b"<html>not found</html>", "not a GeoJSON file"),
    ],
)
def test_what_is_no_table_of_labels_is_refused_before_anything_is_written(
    world: World, content: bytes, message: str
) -> None:
    root = world()
    (root / "labels.geojson").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        CropHarvest(root)
    assert not (root / ".timl").exists()


@pytest.mark.parametrize(
    ("feature", "reason"),
    [
        (None, "has no properties"),
        ("feature", "has no properties"),
        ({"geometry": None}, "has no properties"),
        ({"properties": [1, 2]}, "has no properties"),
        (label(0), "a second row of this data set and index"),
        (label(0, label="other"), "a second row of this data set and index"),
        (label(1.5), "'index' is 1.5, no whole number"),
        (label(-1), "'index' is -1, no whole number"),
        (label(True), "'index' is True, no whole number"),
        (label(10**400), "no whole number"),
        (label(float("inf")), "'index' is inf, no whole number"),
        (label("2"), "'index' is '2', no whole number"),
        (label(2, dataset=None), "'dataset' is None, no text"),
        (label(2, dataset=""), "'dataset' is '', no text"),
        (label(2, dataset=["made"]), "no text"),
        (label(2, lat=None), "'lat' is None, no number from -90 to 90"),
        (label(2, lat="1"), "no number from"),
        (label(2, lat=90.001), "'lat' is 90.001, no number from -90 to 90"),
        (label(2, lat=float("nan")), "'lat' is nan, no number from -90 to 90"),
        (label(2, lon=-180.5), "'lon' is -180.5, no number from -180 to 180"),
        (label(2, lon=10**400), "no number from"),
        (label(2, label=5), "'label' is 5, neither a text nor null"),
        (label(2, label={"en": "maize"}), "neither a text nor null"),
        (label(2, label="\ud800"), "neither a text nor null"),
        (label(2, classification_label=0), "'classification_label' is 0, neither a text nor null"),
        (label(2, is_crop="yes"), "'is_crop' is 'yes', not 0, 1 or null"),
        (label(2, is_crop=2), "'is_crop' is 2, not 0, 1 or null"),
        (label(2, is_test=None), "'is_test' is None, neither true nor false"),
        (label(2, is_test="false"), "'is_test' is 'false', neither true nor false"),
    ],
)
def test_a_feature_that_cannot_be_used_is_reported(world: World, feature: Any, reason: str) -> None:
    root = world()
    (root / "labels.geojson").write_text(collection(label(0), feature, label(4, label="maize")))
    with pytest.warns(UserWarning, match="labels were left out"):
        data = CropHarvest(root)
    assert data.labels["position"].tolist() == [0, 4]
    assert data.labels["label"].isna().tolist() == [True, False]
    reasons = dict(data.report.values.tolist())
    assert reason in reasons["labels.geojson, feature 1"]
    assert len(stores(root)) == 1


def test_places_are_those_of_the_properties(world: World) -> None:
    root = world()
    odd = {"type": "Point", "coordinates": ["east", None]}
    features = [label(0), label(1) | {"geometry": odd}]
    (root / "labels.geojson").write_text("\ufeff\n" + collection(*features) + "\n", "utf-8")
    assert CropHarvest(root).labels["lat"].tolist() == [0.5, 0.5]


def test_a_table_keeps_its_columns_and_their_kinds(tmp_path: Path) -> None:
    extra: list[dict[str, Any]] = [
        {"planting_date": "2019-03-01", "area": 1, "tags": ["a"], "note": 1},
        {"planting_date": None, "area": None, "tags": {"b": [1]}, "note": "é\n\ud800"},
        {"area": 2.5, "big": 10**30, "is_crop": None},
    ]
    path = tmp_path / "labels.geojson"
    path.write_text(collection(*(label(i, **more) for i, more in enumerate(extra))))
    columns, skipped = read_labels(path)
    assert skipped == []
    packed = pack_labels(columns)
    assert pack_labels(columns) == packed
    (tmp_path / "labels.npz").write_bytes(packed)
    table = load_labels(tmp_path / "labels.npz")
    assert list(table) == list(columns)
    assert table["index"].dtype == np.int64
    assert table["is_test"].dtype == np.bool_
    assert table["is_crop"].isna().tolist() == [False, False, True]
    assert table["planting_date"].isna().tolist() == [False, True, True]
    np.testing.assert_array_equal(table["area"], [1, np.nan, 2.5])
    assert table["tags"].tolist() == [["a"], {"b": [1]}, None]
    assert table["note"].tolist()[:2] == [1, "é\n?"]
    assert table["big"].tolist()[2] == 10**30
