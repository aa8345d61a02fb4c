"""Your own points: from a table and a folder of exports to a task that can be fine-tuned on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timl
from exports import PIXEL, bands, centre, write_export
from timl.data import BANDS, BBox, CropHarvest, own_points, read_export
from timl.data.own.points_table import read_points

pytest.importorskip("rasterio")

LIKE = {"mean": np.full(18, 100.0), "std": np.full(18, 50.0), "ndvi": "record"}


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    """Two files of 5 x 6 pixels: a at longitude 34, b at 35, in a subfolder."""
    write_export(tmp_path / "exports" / "a.tif", bands(5, 6, seed=1))
    write_export(tmp_path / "exports" / "more" / "b.tif", bands(5, 6, seed=2), west=35.0)
    return tmp_path / "exports"


def places(*pixels: tuple[int, int, Any], west: float = 34.0) -> pd.DataFrame:
    """Points a little off the middles of pixels (row, column), with what grows there."""
    rows = [(*centre(row, column, west), crop) for row, column, crop in pixels]
    table = pd.DataFrame(rows, columns=["lat", "lon", "label"])
    return table.assign(lat=table["lat"] + 0.3 * PIXEL, lon=table["lon"] - 0.4 * PIXEL)


FOUR = places((0, 0, "maize"), (4, 5, "wheat"), (2, 3, "maize"), (1, 1, "non_crop"))


def test_a_point_takes_the_series_of_the_pixel_that_holds_it(exports: Path) -> None:
    points = own_points(FOUR, exports, like=LIKE, target_label="maize",
                        classification_label="cereals")  # fmt: skip
    assert repr(points) == "OwnPoints('own points', 2 positives, 2 negatives)"
    export = read_export(exports / "a.tif", "record", fill="pixel")
    expected = export.series[[0, 4 * 6 + 5, 2 * 6 + 3, 6 + 1]].astype(np.float32)
    np.testing.assert_array_equal(points.data.series(range(4), normalize=False), expected)
    x, y = points.train_arrays()
    assert y.tolist() == [1, 1, 0, 0]
    np.testing.assert_allclose(x, (expected[[0, 2, 1, 3]] - 100) / 50, rtol=1e-5, atol=1e-5)
    assert points.data.ndvi == "record"
    assert points.data.labels["filename"].tolist() == ["a.tif"] * 4
    assert points.task.bounding_box.contains(FOUR["lat"].to_numpy(), FOUR["lon"].to_numpy()).all()
    assert points.info[3:].tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert points.sample(2, seed=0)[1].tolist() == [1, 1, 0, 0]
    assert points.data.benchmark("own points") is points


def test_points_find_their_files_and_the_others_are_reported(exports: Path) -> None:
    away = pd.DataFrame({"lat": [1.0, 50.0], "lon": [34.0 - 2 * PIXEL, 8.0], "label": "maize"})
    table = pd.concat([FOUR, places((3, 3, "wheat"), west=35.0), away])
    with pytest.warns(UserWarning, match="2 of 7 places were left out, the first, row 5: no exp"):
        points = own_points(table, exports, like=LIKE)
    assert points.data.labels["filename"].tolist() == ["a.tif"] * 4 + ["b.tif"]
    assert points.unmatched["row"].tolist() == [5, 6]
    assert "the nearest is 22 m away" in points.unmatched["reason"][0]
    assert repr(points).endswith("2 places left out")
    with pytest.warns(UserWarning, match="1 of 7"):
        nearer = own_points(table, exports, like=LIKE, tolerance_m=25)
    edge = read_export(exports / "a.tif", "record", fill="pixel").series[0]
    np.testing.assert_array_equal(
        nearer.data.series([5], normalize=False)[0], edge.astype(np.float32)
    )


def test_of_overlapping_files_the_one_around_the_point_is_taken(exports: Path) -> None:
    write_export(exports / "c.tif", bands(5, 6, seed=3), west=34.0 + 2 * PIXEL)
    points = own_points(
        places((2, 2, "maize"), (2, 5, "wheat"), (2, 0, "non_crop")), exports, like=LIKE
    )
    assert points.data.labels["filename"].tolist() == ["a.tif", "c.tif", "a.tif"]
    write_export(exports / "twin.tif", bands(5, 6, seed=4))
    with pytest.raises(ValueError, match=r"cover the same place.*'filename'"):
        own_points(FOUR, exports, like=LIKE)
    named = own_points(FOUR.assign(filename="twin.tif"), exports, like=LIKE)
    assert set(named.data.labels["filename"]) == {"twin.tif"}
    with pytest.raises(ValueError, match=r"none of the 4 places.*no export called 'x\.tif'"):
        own_points(FOUR.assign(filename="x.tif"), exports, like=LIKE)
    with pytest.raises(ValueError, match=r"b\.tif does not hold"):
        own_points(FOUR.assign(filename="b.tif"), exports, like=LIKE)


def test_gaps_are_filled_as_in_the_record_and_pixels_without_a_band_are_left_out(
    tmp_path: Path,
) -> None:
    raw = bands(5, 6)
    raw[3, 0, 0] = np.nan  # B2 in step 0 only
    raw[-1, 0, 0] = np.nan  # the slope
    raw[3 : 12 * 17 : 17, 4, 5] = np.nan  # B2 in all steps
    path = write_export(tmp_path / "a.tif", raw)
    with pytest.warns(UserWarning, match=r"row 1: a\.tif has no value of B2 there"):
        points = own_points(FOUR, path, like=LIKE)
    series = points.data.series([0], normalize=False)[0]
    b2, slope = BANDS.index("B2"), BANDS.index("slope")
    assert series[0, b2] == pytest.approx(raw[3 : 12 * 17 : 17, 0, 0][1:].mean(), rel=1e-6)
    assert series[0, slope] == pytest.approx(np.nanmean(raw[-1]), rel=1e-6)
    whole = own_points(FOUR, path, like=LIKE, fill="file")
    assert len(whole.unmatched) == 0
    expected = read_export(path, "record").series[0].astype(np.float32)
    np.testing.assert_array_equal(whole.data.series([0], normalize=False)[0], expected)


def test_held_out_points_become_the_test_set(exports: Path) -> None:
    table = FOUR.assign(is_test=[0, 0, 1, 1])
    points = own_points(table, exports, like=LIKE, target_label="maize",
                        classification_label="cereals", name="county")  # fmt: skip
    assert len(points.positives) == len(points.negatives) == 1
    test = points.test
    assert test.y.tolist() == [1, 0]
    np.testing.assert_allclose(test.lats, FOUR["lat"][2:])
    export = read_export(exports / "a.tif", "record", fill="pixel")
    expected = (export.series[[15, 7]] - 100) / 50
    np.testing.assert_allclose(test.x, expected, rtol=1e-5, atol=1e-5)


def test_without_test_places_the_message_names_what_does_without(exports: Path) -> None:
    points = own_points(FOUR, exports, like=LIKE)
    with pytest.raises(FileNotFoundError, match=r"without test places: .*timl\.cross_validate\("):
        timl.evaluate(timl.finetune(timl.TIML(hidden=8), points, steps=1, k=1), points)


def test_statistics_are_those_of_a_model(exports: Path) -> None:
    model = timl.TIML(hidden=8)
    with pytest.raises(ValueError, match="like is a TIML that does not know how its series"):
        own_points(FOUR, exports, like=model)
    model.normalization = LIKE
    points = own_points(FOUR, exports, like=model)
    expected = own_points(FOUR, exports, like=LIKE)
    np.testing.assert_array_equal(points.train_arrays()[0], expected.train_arrays()[0])


def test_exchanged_coordinates_are_noticed(exports: Path) -> None:
    turned = FOUR.rename(columns={"lat": "lon", "lon": "lat"})
    with pytest.raises(ValueError, match="longitude seem to be exchanged, since 4 of the places"):
        own_points(turned, exports, like=LIKE)
    named = own_points(turned, exports, like=LIKE, lat_column="lon", lon_column="lat")
    assert len(named.data) == 4
    with pytest.raises(ValueError, match="give others, or a greater tolerance_m"):
        own_points(FOUR.assign(lat=FOUR["lat"] + 9), exports, like=LIKE)


def test_a_region_of_ones_own(exports: Path) -> None:
    here = BBox(0, 2, 33, 36, "Kenya_1")
    assert own_points(FOUR, exports, like=LIKE, region=here).task.id == "Kenya_1_crop"
    with pytest.raises(ValueError, match="outside which 4 of the places lie, the first in row 0"):
        own_points(FOUR, exports, like=LIKE, region=BBox(5, 6, 33, 36))


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (
            FOUR,
            {"target_label": "rice"},
            "'rice', which no place has: give one of maize, non_crop, wheat",
        ),
        (
            FOUR,
            {"target_label": "maize"},
            "target_label is 'maize', whose FAO class.*give classification_label",
        ),
        (FOUR[FOUR["label"] != "non_crop"], {}, "3 positives and 0 negatives"),
        (FOUR, {"tolerance_m": -1}, "tolerance_m is -1"),
        (FOUR, {"like": LIKE | {"ndvi": "unknown"}}, "NDVI 'unknown', which cannot be computed"),
        (FOUR, {"like": LIKE | {"mean": np.zeros(17)}}, r"mean \[17\]"),
    ],
)
def test_what_cannot_be_a_task_is_refused(
    exports: Path, table: pd.DataFrame, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        own_points(table, exports, **({"like": LIKE} | options))


def test_missing_exports_and_statistics_are_named(exports: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere, which does not exist"):
        own_points(FOUR, tmp_path / "nowhere", like=LIKE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"without a \.tif file"):
        own_points(FOUR, tmp_path / "empty", like=LIKE)
    with pytest.raises(TypeError, match="give the model, or the data set"):
        own_points(FOUR, exports, like={})
    short = write_export(tmp_path / "short.tif", bands(5, 6, steps=11))
    with pytest.raises(ValueError, match=r"short\.tif has 189 bands.*at least 12 steps"):
        own_points(FOUR, short, like=LIKE)


def write_geojson(path: Path, table: pd.DataFrame) -> Path:
    features = [
        {
            "type": "Feature",
            "properties": {"label": row.label},
            "geometry": {"type": "Point", "coordinates": [row.lon, row.lat]},
        }
        for row in table.itertuples()
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_tables_of_every_kind_say_the_same(tmp_path: Path) -> None:
    expected = read_points(FOUR)
    assert expected["is_crop"].tolist() == [1, 1, 1, 0]
    FOUR.rename(columns={"lat": "y", "lon": "x", "label": "crop"}).to_csv(tmp_path / "a.csv")
    names = {"lat_column": "y", "lon_column": "x", "label_column": "crop"}
    pd.testing.assert_frame_equal(read_points(tmp_path / "a.csv", **names), expected)
    path = write_geojson(tmp_path / "a.geojson", FOUR)
    pd.testing.assert_frame_equal(read_points(path), expected)
    pd.testing.assert_frame_equal(read_points(FOUR.set_index(np.array([5, 5, 2, 0]))), expected)


def test_tables_with_geometries(tmp_path: Path) -> None:
    geopandas = pytest.importorskip("geopandas")
    points = geopandas.points_from_xy(FOUR["lon"], FOUR["lat"], crs="EPSG:4326")
    frame = geopandas.GeoDataFrame(FOUR[["label"]], geometry=points).to_crs("EPSG:32636")
    frame.to_file(tmp_path / "a.gpkg")
    for found in (read_points(frame), read_points(tmp_path / "a.gpkg")):
        np.testing.assert_allclose(found[["lat", "lon"]], FOUR[["lat", "lon"]], atol=1e-9)
    fields = frame.assign(geometry=frame.buffer(30))
    fields.to_crs("EPSG:4326").to_file(tmp_path / "fields.geojson")
    found = read_points(tmp_path / "fields.geojson")
    np.testing.assert_allclose(found[["lat", "lon"]], FOUR[["lat", "lon"]], atol=1e-4)


def test_crops_may_be_said_in_several_words() -> None:
    table = FOUR.drop(columns="label").assign(is_crop=["yes", "0", "Crop", "FALSE"])
    assert read_points(table)["is_crop"].tolist() == [1, 0, 1, 0]
    assert read_points(table)["label"].isna().all()
    classes = FOUR.assign(label="x", classification_label=["cereals", None, "non_crop", ""])
    assert read_points(classes)["is_crop"].tolist() == [1, 1, 0, 1]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (FOUR.drop(columns="lat"), "no column 'lat'; it has lon, label"),
        (FOUR.drop(columns="label"), "neither a column 'label' nor 'is_crop'"),
        (FOUR[:0], "no rows"),
        (FOUR.assign(lat=[0, 91, 0, 0]), r"row 1: 'lat' is 91: give degrees in \[-90, 90\]"),
        (FOUR.assign(lon=["1", "2", "here", "3"]), "row 2: 'lon' is 'here'"),
        (FOUR.assign(is_crop=[1, 0, 2, 1]), "row 2: 'is_crop' is 2"),
        (
            FOUR.assign(label=["maize", None, " ", "wheat"]),
            r"row 1: 'label' is empty \(2 such rows",
        ),
        (FOUR.assign(classification_label="grain"), "row 0: classification_label is 'grain'"),
    ],
)
def test_a_wrong_table_is_refused(table: pd.DataFrame, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_points(table)


def test_a_wrong_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        read_points(tmp_path / "none.csv")
    (tmp_path / "a.geojson").write_text("{")
    with pytest.raises(ValueError, match=r"is not JSON .*: give places as GeoJSON or CSV"):
        read_points(tmp_path / "a.geojson")
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00a,b\n\x00")
    with pytest.raises(ValueError, match="not a CSV file"):
        read_points(tmp_path / "a.csv")


def test_real_exports_become_a_task_that_a_model_is_fine_tuned_on(
    shared_data: Path, realcrops: CropHarvest
) -> None:

    folder = shared_data / "geotiffs"
    path = folder / "98-togo_2019-02-06_2020-02-01.tif"
    if not path.is_file():
        pytest.skip(f"no {path}")
    export = read_export(path, realcrops.ndvi)
    chosen = np.arange(0, 289, 17)
    table = pd.DataFrame(
        {
            "lat": export.lats[chosen],
            "lon": export.lons[chosen],
            "is_crop": np.arange(len(chosen)) % 2,
        }
    )
    points = own_points(table, folder, like=realcrops)
    assert len(points.positives) + len(points.negatives) == len(chosen)
    assert set(points.data.labels["filename"]) == {path.name}
    classifier = timl.finetune(timl.TIML(), points, steps=2, k=4)
    np.testing.assert_array_equal(classifier.normalization["mean"], realcrops.mean)
    assert classifier.normalization["ndvi"] == realcrops.ndvi
