"""Tasks of rasters of labels: which pixels count, and what stands on which side of a split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timl
from exports import bands, write_export
from hypothesis import given, settings
from hypothesis import strategies as st
from timl.data import OwnCropTypes, SeriesData, own_points, raster_labels
from timl.data.rasters import LabelRaster, open_labels, sample_pixels, sampling
from timl.nn import Classifier

rasterio = pytest.importorskip("rasterio")

LIKE = {"mean": np.full(18, 100.0), "std": np.full(18, 50.0), "ndvi": "record"}
CLASSES = {1: "maize", 2: "wheat", 4: "grass"}
SIZE = 40
PIXEL = 10.0


def write_raster(path: Path, values: np.ndarray, west: float = 500_000.0, **profile: Any) -> Path:
    height, width = values.shape
    settings = {"dtype": "uint8", "count": 1, "crs": "EPSG:32636", "nodata": 255, **profile}
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width,
        transform=rasterio.transform.from_origin(west, 100_000.0, PIXEL, PIXEL), **settings,
    ) as file:  # fmt: skip
        for band in range(settings["count"]):
            file.write(values.astype(settings["dtype"]), band + 1)
    return path


@pytest.fixture(scope="module")
def fields() -> np.ndarray:
    """Squares of 5 x 5 pixels of classes 1, 2 and 4; some pixels are of none of them."""
    values = np.random.default_rng(0).choice([1, 2, 4], (8, 8)).repeat(5, 0).repeat(5, 1)
    values[::9, ::7] = 3
    values[7, :] = 255
    return values


@pytest.fixture(scope="module")
def labels(fields: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_raster(tmp_path_factory.mktemp("labels") / "crops.tif", fields)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = bands(SIZE, SIZE, seed=1)
    raw[3, 0:20, 0:20] = np.nan  # one month of one band, which is filled
    path = tmp_path_factory.mktemp("export") / "a_2019-02-06_2020-02-01.tif"
    return write_export(path, raw, 500_000.0, 100_000.0, "EPSG:32636", PIXEL)


def plainly_eroded(fields: np.ndarray, erosion: int) -> np.ndarray:
    """The classes by the words of the docstring, pixel by pixel."""
    number = {1: 0, 2: 1, 4: 2}
    out = np.full(fields.shape, -1)
    for row, column in np.ndindex(*fields.shape):
        rows = range(row - erosion, row + erosion + 1)
        columns = range(column - erosion, column + erosion + 1)
        if rows[0] < 0 or columns[0] < 0 or rows[-1] >= SIZE or columns[-1] >= SIZE:
            continue
        near = fields[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        if (near == fields[row, column]).all():
            out[row, column] = number.get(int(fields[row, column]), -1)
    return out


@pytest.mark.parametrize("erosion", [0, 1, 2])
@pytest.mark.parametrize("rows", [3, SIZE])
def test_a_pixel_counts_if_all_near_it_are_of_its_class(
    fields: np.ndarray, labels: Path, erosion: int, rows: int
) -> None:
    with open_labels(labels, CLASSES, erosion=erosion) as raster:
        parts = [raster.codes(row, min(rows, SIZE - row)) for row in range(0, SIZE, rows)]
    np.testing.assert_array_equal(np.concatenate(parts), plainly_eroded(fields, erosion))


@settings(max_examples=25)
@given(
    seed=st.integers(0, 5),
    block=st.integers(2, 15),
    distance=st.integers(1, 6),
    erosion=st.integers(0, 1),
    at_once=st.sampled_from([1, 7 * SIZE, 10**6]),
)
def test_sides_are_apart_and_the_draw_is_the_same_however_it_is_read(
    labels: Path, fields: np.ndarray, seed: int, block: int, distance: int, erosion: int,
    at_once: int,
) -> None:  # fmt: skip
    distance = min(distance, block - 1)

    def drawn(raster: LabelRaster) -> sampling.PixelSample:
        sizes = {"per_class": 9, "test_per_class": 4, "block": block, "distance": distance}
        return sample_pixels(raster, **sizes, seed=seed, lacking_allowed=True)

    with open_labels(labels, CLASSES, erosion=erosion) as raster, pytest.MonkeyPatch.context() as p:
        first = drawn(raster)
        p.setattr(sampling, "_PIXELS_AT_ONCE", at_once)
        again = drawn(raster)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    eroded = plainly_eroded(fields, erosion)
    np.testing.assert_array_equal(eroded[first.rows, first.columns], first.codes)
    counts = np.zeros((3, 2), int)
    np.add.at(counts, (first.codes, first.is_test.astype(int)), 1)
    assert (counts[:, 0] <= 9).all() and (counts[:, 1] <= 4).all()
    blocks = first.rows // block * SIZE + first.columns // block
    assert not set(blocks[first.is_test]) & set(blocks[~first.is_test])
    if first.is_test.any() and not first.is_test.all():
        places = np.stack([first.rows, first.columns], axis=1)
        apart = np.abs(places[first.is_test][:, None] - places[~first.is_test]).max(axis=2)
        assert apart.min() >= distance


def test_a_pixel_has_the_bits_of_own_points(labels: Path, export: Path) -> None:
    task = raster_labels(
        labels, export, CLASSES, like=LIKE, per_class=8, erosion=1,
        classification_labels={"maize": "cereals", "grass": "non_crop"},
    )  # fmt: skip
    assert isinstance(task, OwnCropTypes)
    assert task.counts == (8, 8, 8)
    assert task.classification_labels == ("cereals", None, "non_crop")
    table = task.data.labels
    assert table["is_crop"].tolist() == (table["label"] != "grass").astype(int).tolist()
    points = own_points(table[["lat", "lon", "label"]], export, like=LIKE, classes=task.classes)
    np.testing.assert_array_equal(task.train_arrays()[0], points.train_arrays()[0])
    np.testing.assert_array_equal(task.train_arrays()[1], points.train_arrays()[1])
    assert task.data.start_months == [2]
    with pytest.raises(FileNotFoundError, match="without test places"):
        _ = task.test


def test_a_folder_and_a_cube_give_the_same_task(labels: Path, export: Path) -> None:
    pytest.importorskip("rioxarray")
    import xarray
    from timl.data.own.exports import DYNAMIC_BANDS, STATIC_BANDS

    with rasterio.open(export) as file:
        raw, crs, transform = file.read(), file.crs, file.transform
    static = np.broadcast_to(raw[-2:], (12, 2, SIZE, SIZE))
    cube = xarray.DataArray(
        np.concatenate([raw[:-2].reshape(12, 17, SIZE, SIZE), static], axis=1),
        dims=("time", "band", "y", "x"),
        coords={
            "time": pd.date_range("2019-02-06", periods=12, freq="30D"),
            "band": [*DYNAMIC_BANDS, *STATIC_BANDS],
            "y": 100_000.0 - PIXEL * (np.arange(SIZE) + 0.5),
            "x": 500_000.0 + PIXEL * (np.arange(SIZE) + 0.5),
        },
    ).rio.write_crs(crs)
    assert cube.rio.transform(recalc=True).almost_equals(transform)
    found = [
        raster_labels(labels, source, CLASSES, like=LIKE, per_class=5, seed=2).train_arrays()
        for source in (export, export.parent, cube)
    ]
    for x, y in found[1:]:
        np.testing.assert_array_equal(x, found[0][0])
        np.testing.assert_array_equal(y, found[0][1])


def test_the_task_trains_and_is_scored(labels: Path, export: Path) -> None:
    task = raster_labels(
        labels, export, CLASSES, like=LIKE, per_class=6, test_per_class=5, block_m=100,
        distance_m=20,
    )  # fmt: skip
    classifier = timl.finetune(Classifier(hidden=8), task, steps=2, k=3, protocol="paper")
    scores = timl.evaluate(classifier, task)
    assert scores.classes == task.classes
    assert scores.samples == len(task.test) == 15
    y = task.train_arrays()[1]
    x = task.data.series(task.positions, normalize=False)
    fitted = timl.CropClassifier(steps=1, k=2, protocol="paper").fit(x, y)
    assert fitted.predict_proba(x).shape == (18, 3)


def test_pixels_without_a_series_are_left_out(tmp_path: Path, labels: Path) -> None:
    raw = bands(SIZE, SIZE, seed=1)
    raw[0:-2:17, :, :8] = np.nan  # no radar at all
    export = write_export(tmp_path / "a.tif", raw, 500_000.0, 100_000.0, "EPSG:32636", PIXEL)
    with pytest.warns(UserWarning, match=r"of 150 pixels were left out"):
        task = raster_labels(labels, export, CLASSES, like=LIKE, per_class=50)
    assert (task.unmatched["column"] < 8).all()
    assert len(task.unmatched) + len(task.codes) == 150


def test_classes_that_lack_pixels_are_an_error_or_left_out(labels: Path, export: Path) -> None:
    classes = {**CLASSES, 9: "rice"}
    with pytest.raises(ValueError, match=r"without a pixel of class 'rice' for the training"):
        raster_labels(labels, export, classes, like=LIKE, per_class=5)
    task = raster_labels(labels, export, classes, like=LIKE, per_class=5, lacking="leave out")
    assert task.classes == ("maize", "wheat", "grass")
    with pytest.raises(ValueError, match=r"in which 1 of the classes maize, rice have"):
        raster_labels(
            labels, export, {1: "maize", 9: "rice"}, like=LIKE, per_class=5, lacking="leave out"
        )


def test_values_may_share_a_class(labels: Path, export: Path) -> None:
    merged = raster_labels(
        labels, export, {1: "crop", 2: "crop", 4: "grass"}, like=LIKE, per_class=7
    )
    assert merged.classes == ("crop", "grass")
    assert merged.counts == (7, 7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"west": 500_010.0}, r"labels is .*500010.* and source is .*500000.*gdalwarp"),
        ({"crs": "EPSG:32637"}, r"labels is .*EPSG:32637.* and source is .*EPSG:32636"),
        ({"count": 2}, r"2 bands of uint8: give one band of integers"),
        ({"dtype": "float32"}, r"1 bands of float32: give one band of integers"),
    ],
)
def test_labels_on_other_pixels_are_refused(
    tmp_path: Path, fields: np.ndarray, export: Path, change: dict[str, Any], message: str
) -> None:
    path = write_raster(tmp_path / "other.tif", fields, **change)
    with pytest.raises(ValueError, match=message):
        raster_labels(path, export, CLASSES, like=LIKE, per_class=5)


@pytest.mark.parametrize("kept", [0, 100, 600])
def test_damaged_labels_are_named(labels: Path, export: Path, tmp_path: Path, kept: int) -> None:
    damaged = tmp_path / "damaged.tif"
    damaged.write_bytes(labels.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"labels is .*damaged\.tif, which is"):
        raster_labels(damaged, export, CLASSES, like=LIKE, per_class=5)
    with pytest.raises(FileNotFoundError, match=r"labels is .*missing\.tif"):
        raster_labels(tmp_path / "missing.tif", export, CLASSES, like=LIKE, per_class=5)


def test_labels_of_another_size_are_refused(
    tmp_path: Path, fields: np.ndarray, export: Path
) -> None:
    path = write_raster(tmp_path / "other.tif", fields[:-1])
    with pytest.raises(ValueError, match=r"39 x 40 pixels .* 40 x 40 pixels"):
        raster_labels(path, export, CLASSES, like=LIKE, per_class=5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": {1: "maize"}}, r"classes is \{1: 'maize'\}: give a dict from values"),
        ({"classes": ["maize", "wheat"]}, "give a dict from values"),
        ({"classes": {1.5: "maize", 2: "wheat"}}, "give a dict from values"),
        ({"erosion": -1}, "erosion is -1: give a number of pixels"),
        ({"per_class": 0}, "per_class is 0"),
        ({"block_m": 0}, "block_m is 0"),
        ({"block_m": float("inf"), "test_per_class": 1}, "block_m is inf"),
        ({"classification_labels": {"tea": "other"}}, "is of tea too, which is none of"),
        ({"test_per_class": 3, "distance_m": 1000.0}, "distance is 100 pixels"),
        ({"lacking": "ignore"}, "lacking is 'ignore'"),
        ({"fill": "none"}, "fill is 'none'"),
        ({"classification_labels": {"maize": "grain"}}, "'grain'"),
    ],
)
def test_arguments_out_of_range(
    labels: Path, export: Path, arguments: dict[str, Any], message: str
) -> None:
    given = {"classes": CLASSES, "like": LIKE, "per_class": 5, **arguments}
    with pytest.raises(ValueError, match=message):
        raster_labels(labels, export, **given)


def test_a_data_set_in_memory_refuses_what_does_not_fit() -> None:
    table = pd.DataFrame({"position": [0, 1], "lat": 0.0, "lon": 0.0})
    statistics = {"mean": np.zeros(2), "std": np.ones(2), "ndvi": "unknown"}
    data = SeriesData(table, np.ones((2, 3, 2), np.float32), statistics)  # type: ignore[arg-type]
    assert data.series([[0], [1]]).shape == (2, 1, 3, 2)
    assert len(data) == 2
    other = SeriesData(table, np.zeros((2, 3, 2), np.float32), statistics)  # type: ignore[arg-type]
    assert data.checksum != other.checksum
    with pytest.raises(ValueError, match=r"series has shape \[2, 3, 4\]"):
        SeriesData(table, np.ones((2, 3, 4), np.float32), statistics)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positions from 0 to 1 of 1 series"):
        SeriesData(table, np.ones((1, 3, 2), np.float32), statistics)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="no test sets"):
        data.test_instance("any")
