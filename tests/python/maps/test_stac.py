"""The STAC item of a map is valid and says what the map's file says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from map_files import TAGS, made_bands, write_map
from timl.maps.drawing.legend import LAYERS
from timl.maps.drawing.stac import write_stac_item

pytest.importorskip("rasterio", reason="rasterio is not installed: timl[maps]")
pystac = pytest.importorskip("pystac", reason="pystac is not installed: timl[maps]")
validation = pytest.importorskip("pystac.validation.stac_validator")


def item_of(path: Path) -> Any:
    """Read an item and check it with the core schema, which pystac brings with it."""
    content = json.loads(path.read_text(encoding="utf-8"))
    validator = validation.JsonSchemaSTACValidator()
    kind, version = pystac.STACObjectType.ITEM, content["stac_version"]
    assert validator.validate(content, kind, version, extensions=[])
    return pystac.Item.from_dict(content)


def test_the_item_says_what_the_map_says(tmp_path: Path):
    (tmp_path / "maps").mkdir()
    path = write_map(
        tmp_path / "maps/my map.tif", made_bands(20, 30), "EPSG:32636", 780_000, 6_900_000, 10
    )
    write_stac_item(path, tmp_path / "item.json", quicklook=tmp_path / "maps/map.png")
    item = item_of(tmp_path / "item.json")
    assert item.id == "my map" and item.datetime is None
    assert item.common_metadata.start_datetime.isoformat() == "2019-02-01T00:00:00+00:00"
    assert item.common_metadata.end_datetime.isoformat() == "2020-01-31T23:59:59+00:00"
    assert item.common_metadata.created.isoformat() == "2026-02-03T10:11:12+00:00"
    assert item.properties["timl:target"] == "maize"
    assert item.properties["timl:threshold"] == 0.42
    assert item.properties["proj:code"] == "EPSG:32636"
    assert item.properties["proj:shape"] == [20, 30]
    assert item.properties["proj:transform"] == [10, 0, 780_000, 0, -10, 6_900_000]
    assert item.properties["proj:bbox"] == [780_000, 6_899_800, 780_300, 6_900_000]
    assert {key: asset.href for key, asset in item.assets.items()} == {
        "map": "maps/my map.tif",
        "quicklook": "maps/map.png",
    }
    bands = item.assets["map"].extra_fields["bands"]
    assert [band["name"] for band in bands] == list(LAYERS)
    (classes,) = (band["classification:classes"] for band in bands if band["name"] == "class")
    assert [(kind["value"], kind["title"]) for kind in classes] == [(0, "not maize"), (1, "maize")]
    assert all(band["raster:spatial_resolution"] == pytest.approx(10, rel=0.01) for band in bands)


def test_the_footprint_is_the_outline_in_degrees(tmp_path: Path):
    path = write_map(tmp_path / "map.tif", made_bands(20, 30), west=34.2, north=0.6, pixel=0.01)
    write_stac_item(path, tmp_path / "item.json")
    item = item_of(tmp_path / "item.json")
    np.testing.assert_allclose(item.bbox, [34.2, 0.4, 34.5, 0.6])
    (ring,) = item.geometry["coordinates"]
    assert len(ring) == 5 and ring[0] == ring[-1]
    x, y = np.array(ring).T
    assert np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) > 0  # counter-clockwise


def test_a_footprint_over_the_180th_meridian_is_cut(tmp_path: Path):
    path = write_map(
        tmp_path / "map.tif", made_bands(40, 40), "EPSG:32760", 790_000, 8_040_000, 1000
    )
    write_stac_item(path, tmp_path / "item.json")
    item = item_of(tmp_path / "item.json")
    west, _, east, _ = item.bbox
    assert west > 179 and east < -179
    assert item.geometry["type"] == "MultiPolygon"


def test_without_months_the_time_is_when_the_map_was_made(tmp_path: Path):
    tags = {"TIML_CREATED": "2026-02-03T10:11:12", "TIML_PREVALENCE": "0.2"}
    bands = {"probability": made_bands(2, 3)["probability"]}
    write_stac_item(write_map(tmp_path / "map.tif", bands, tags=tags), tmp_path / "item.json")
    item = item_of(tmp_path / "item.json")
    assert item.datetime.isoformat() == "2026-02-03T10:11:12+00:00"
    assert item.properties["timl:prevalence"] == 0.2
    assert not [uri for uri in item.stac_extensions if "classification" in uri]


def test_a_system_without_a_code_is_written_out(tmp_path: Path):
    system = "+proj=laea +lat_0=1 +lon_0=34 +datum=WGS84"
    path = write_map(tmp_path / "map.tif", made_bands(2, 3), system, 0, 0, 10)
    write_stac_item(path, tmp_path / "item.json")
    item = item_of(tmp_path / "item.json")
    assert "Lambert Azimuthal" in item.properties["proj:wkt2"]
    assert "proj:code" not in item.properties or item.properties["proj:code"] is None


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({}, "without TIML_START and TIML_END, or TIML_CREATED"),
        ({"TIML_CREATED": "yesterday"}, "TIML_CREATED 'yesterday': give an ISO 8601"),
        (TAGS | {"TIML_START": "2019-13"}, "give the first and the last month as YYYY-MM"),
        (TAGS | {"TIML_END": "2018-01"}, "give the first and the last month as YYYY-MM"),
    ],
)
def test_times_that_make_no_sense_are_told_so(tmp_path: Path, tags: dict[str, str], message: str):
    path = write_map(tmp_path / "map.tif", made_bands(2, 3), tags=tags)
    with pytest.raises(ValueError, match=message):
        write_stac_item(path, tmp_path / "item.json")
    assert [file.name for file in tmp_path.iterdir()] == ["map.tif"]
