"""Boxes, the file that lists them, and the 13 numbers of a task."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from timl.data import CLASSES, BBox, Task, read_regions, task_information

KENYA = BBox(-4.0, 5.0, 34.0, 42.0, "Kenya")
lats = st.floats(-90, 90)
lons = st.floats(-180, 180)


def test_the_edges_belong_to_the_box() -> None:
    lat = np.array([-4.0, 5.0, 5.0001, 0.0, np.nan])
    lon = np.array([34.0, 42.0, 40.0, 33.9999, 40.0])
    assert KENYA.contains(lat, lon).tolist() == [True, True, False, False, False]
    assert KENYA.contains_bbox(KENYA)
    assert not KENYA.contains_bbox(BBox(-4.0, 5.1, 34.0, 42.0))


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ((5, -4, 34, 42), "min_lat 5 is above max_lat -4"),
        ((-4, 5, 170, -170), "antimeridian"),
        ((-91, 5, 34, 42), "min_lat is -91"),
        ((-4, 5, 34, 181), "max_lon is 181"),
        ((-4, math.nan, 34, 42), "max_lat is nan"),
    ],
)
def test_an_impossible_box_is_refused(edges: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BBox(*edges)


@given(lats, lons)
def test_the_centre_lies_on_the_unit_sphere_and_leads_back(lat: float, lon: float) -> None:
    x, y, z = BBox(lat, lat, lon, lon).three_dimensional_points
    assert x * x + y * y + z * z == pytest.approx(1)
    assert math.degrees(math.asin(max(-1, min(1, z)))) == pytest.approx(lat, abs=1e-5)
    assert math.cos(math.atan2(y, x) - math.radians(lon)) == pytest.approx(1) or abs(z) > 1 - 1e-9


def test_information_is_the_centre_and_the_class() -> None:
    info = task_information(BBox(-10, 10, 80, 100), "oilseeds")
    assert info.dtype == np.float32
    np.testing.assert_allclose(info, [0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0], atol=1e-7)
    np.testing.assert_allclose(Task(KENYA).info[3:], [0] + [1 / 9] * 9, rtol=1e-6)
    assert Task(KENYA, "forest", classification_label="non_crop").info[3:].tolist() == [1] + [0] * 9
    assert len(CLASSES) == 10
    with pytest.raises(ValueError, match="'grain'"):
        task_information(KENYA, "grain")
    with pytest.raises(ValueError, match=r"Kenya_maize.*classification_label"):
        _ = Task(KENYA, "maize").info


def test_a_task_without_box_or_label_is_crop_versus_non_crop_everywhere() -> None:
    task = Task(None, None)  # type: ignore[arg-type]
    assert task == Task()
    assert task.id == "global_crop"
    assert task.bounding_box.contains(-90.0, 180.0)


REGION = {"name": "a", "min_lat": 0, "max_lat": 1, "min_lon": 2, "max_lon": 3.5, "note": "kept"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ('{"name": "a"}', "holds a dict: give a list"),
        ("[1]", "entry 0, region is a int: give an object"),
        (json.dumps([REGION | {"max_lat": "1"}]), "'max_lat' of region 'a' is '1': give a number"),
        (json.dumps([REGION, REGION]), "repeats the names a: give"),
        (json.dumps([REGION | {"name": None}]), "name of the region is None: give a text"),
    ],
)
def test_a_wrong_region_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "regions.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_regions(path)


def test_regions_are_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "regions.json"
    path.write_text(json.dumps([REGION, REGION | {"name": "b"}]))
    assert read_regions(path) == [BBox(0, 1, 2, 3.5, "a"), BBox(0, 1, 2, 3.5, "b")]
