"""A map holds, for each pixel, what the classifier says of the series that own_points reads."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

import exports
import h5py
import numpy as np
import pandas as pd
import pytest
import rasterio
import timl
import torch
from full_disk import files_of_at_most
from timl.data.record.ndvi import NDVI_BANDS
from timl.data.sources import windows
from timl.maps import predict_map

pytestmark = pytest.mark.usefixtures("empty_pictures")


def read(path: Path) -> tuple[np.ndarray, dict[str, str]]:
    """Return a map's bands and tags."""
    with rasterio.open(path) as file:
        assert file.descriptions[:2] == ("probability", "class")
        return file.read(), file.tags()


def plain_probabilities(path: Path, classifier: timl.nn.Classifier, first: int = 0) -> np.ndarray:
    """Read an export pixel by pixel, with nothing of the package but the classifier."""
    names = [
        *(
            [
                "VV",
                "VH",
                "B1",
                "B2",
                "B3",
                "B4",
                "B5",
                "B6",
                "B7",
                "B8",
                "B8A",
                "B9",
                "B10",
                "B11",
                "B12",
            ]
        ),
        "temperature",
        "rain",
    ]
    kept = [i for i, name in enumerate(names) if name not in ("B1", "B10")]
    assert classifier.normalization is not None
    high, low = (names.index(band) for band in NDVI_BANDS[classifier.normalization["ndvi"]])
    with rasterio.open(path) as file:
        raw = file.read().astype(np.float64)
    slope = np.nanmean(raw[-1])
    series = np.empty((raw.shape[1], raw.shape[2], 12, 18))
    for row, column in np.ndindex(raw.shape[1:]):
        for step in range(12):
            bands = raw[(first + step) * 17 : (first + step + 1) * 17, row, column]
            total = bands[high] + bands[low]
            ndvi = (bands[high] - bands[low]) / total if total > 0 else 0.0
            static = raw[-2:, row, column]
            series[row, column, step] = [*(bands[i] for i in kept), *static, ndvi]
        pixel = series[row, column]
        for band in range(18):
            gaps = np.isnan(pixel[:, band])
            if gaps.all():
                pixel[:, band] = slope if band == 16 else np.nan
            elif gaps.any():
                pixel[gaps, band] = pixel[~gaps, band].mean()
    measured = series.astype(np.float32).astype(np.float64)
    mean, std = (classifier.normalization[name] for name in ("mean", "std"))
    x = torch.from_numpy(((measured - mean) / std).astype(np.float32).reshape(-1, 12, 18))
    complete = ~torch.isnan(x).flatten(1).any(1)
    out = torch.full((len(x),), torch.nan)
    with torch.no_grad():
        out[complete] = torch.sigmoid(classifier(x[complete]))
    return out.numpy().reshape(raw.shape[1:])


def test_pixels_of_the_real_exports_are_those_of_a_plain_reading(shared_data, tmp_path):
    model = timl.nn.load_pretrained(shared_data / "upstream_weights")
    classifier = model.classifier.eval()
    with h5py.File(shared_data / "cropharvest" / "normalizing_dict.h5") as file:
        mean, std = file["mean"][:], file["std"][:]
    classifier.normalization = {"mean": mean, "std": std, "ndvi": "record", "start_months": [2]}
    paths = sorted((shared_data / "geotiffs").glob("*.tif"))
    assert len(paths) == 3
    for path in paths:
        made = predict_map(classifier, path, tmp_path / "map.tif", progress=False)
        values, _ = read(made.map)
        first = 1 if "2017-01-01" in path.name else 0  # 24 months from January: from the second on
        expected = plain_probabilities(path, classifier, first)
        np.testing.assert_allclose(values[0], expected, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(values[1], (values[0] >= 0.5).astype(np.float32))
        with rasterio.open(path) as file, rasterio.open(made.map) as mapped:
            assert mapped.crs == file.crs and mapped.transform == file.transform


def test_pixels_without_a_complete_series_have_no_data(classifier, export, tmp_path):
    values, tags = read(predict_map(classifier, export, tmp_path / "m.tif", progress=False).map)
    expected = plain_probabilities(export, classifier)
    assert np.isnan(expected).sum() == 1 and np.isnan(expected[7, 7])
    np.testing.assert_allclose(values[0], expected, rtol=0, atol=1e-6)
    assert np.isnan(values[:, 7, 7]).all()
    assert (tags["TIML_START"], tags["TIML_END"]) == ("2019-02", "2020-01")


def test_a_labelled_pixel_has_the_very_series_that_it_was_trained_with(classifier, export):
    places = [exports.centre(row, column) for row, column in ((0, 0), (3, 4), (29, 39))]
    table = pd.DataFrame(places, columns=["lat", "lon"]).assign(is_crop=[1, 0, 1])
    points = timl.data.own_points(table, export, like=classifier.normalization)
    assert points.data.start_months == [2]
    from timl.data.sources.source import open_source, source_means
    from timl.maps.predictor import make_predictor

    predictor = make_predictor(
        classifier, (), threshold=0.5, calibration=None, prevalence=None, fill="pixel", first=0
    )
    source = open_source(export)
    raw = source.read(windows.Window(0, 0, 30, 40)).reshape(206, -1)
    series, _ = predictor.series(raw, lambda: source_means(source, 0, "true", "pixel"))
    for position, pixel in enumerate((0, 3 * 40 + 4, 29 * 40 + 39)):
        np.testing.assert_array_equal(series[pixel], points.data.series([position])[0])


def test_on_a_gpu_the_map_is_that_of_the_cpu(classifier, export, tmp_path, gpu):
    options = {"ensemble": [classifier], "workers": 1, "progress": False}
    here, _ = read(predict_map(classifier, export, tmp_path / "a.tif", **options).map)
    made = predict_map(classifier, export, tmp_path / "b.tif", **options, device=gpu)
    np.testing.assert_allclose(read(made.map)[0], here, rtol=0, atol=1e-4)
    assert timl.nn.devices.device_of(classifier).type == "cpu"


@pytest.mark.parametrize("fill", ["pixel", "file"])
def test_neither_windows_nor_threads_change_a_bit(classifier, export, tmp_path, monkeypatch, fill):
    whole = predict_map(classifier, export, tmp_path / "a.tif", fill=fill, progress=False)
    monkeypatch.setattr(windows, "_PIXELS", 170)
    small = predict_map(
        classifier, export, tmp_path / "b.tif", fill=fill, workers=3, progress=False
    )
    if fill == "file":  # its means are sums over windows
        np.testing.assert_allclose(read(whole.map)[0], read(small.map)[0], rtol=0, atol=1e-6)
    else:
        np.testing.assert_array_equal(read(whole.map)[0], read(small.map)[0])


def test_files_on_one_grid_make_the_map_of_the_whole(classifier, export, tmp_path):
    with rasterio.open(export) as file:
        raw = file.read()
    raw[-1, :, 0] = 3.0  # the mean slope is of each source
    export = exports.write_export(tmp_path / "whole_2019-02-06_2020-02-01.tif", raw)
    folder = tmp_path / "tiles"
    for row, column in ((0, 0), (0, 25), (14, 0), (14, 25)):
        part = raw[:, row : row + 16, column : column + 25]  # rows 14 and 15 overlap
        exports.write_export(
            folder / f"{row}-{column}_2019-02-06_2020-02-01.tif",
            part,
            west=34.0 + column * exports.PIXEL,
            north=1.0 - row * exports.PIXEL,
        )
    expected = read(predict_map(classifier, export, tmp_path / "a.tif", progress=False).map)[0]
    for source in (folder, str(folder / "*.tif"), sorted(folder.glob("*.tif"))):
        made = predict_map(classifier, source, tmp_path / "b.tif", progress=False)
        np.testing.assert_array_equal(read(made.map)[0], expected)
        with rasterio.open(made.map) as mapped, rasterio.open(export) as file:
            np.testing.assert_allclose(mapped.transform, file.transform, rtol=0, atol=1e-12)
    (folder / "0-0_2019-02-06_2020-02-01.tif").unlink()
    values = read(predict_map(classifier, folder, tmp_path / "b.tif", progress=False).map)[0]
    assert np.isnan(values[:, :14, :25]).all()
    np.testing.assert_array_equal(values[:, 16:], expected[:, 16:])


def test_bands_are_found_by_name(classifier, export, tmp_path):
    with rasterio.open(export) as file:
        raw = file.read()
    shuffled = np.random.default_rng(0).permutation(206)
    path = exports.write_export(tmp_path / "named.tif", raw[shuffled])
    with rasterio.open(path, "r+") as file:
        file.descriptions = [exports.NAMES[i] for i in shuffled]
    expected = read(predict_map(classifier, export, tmp_path / "a.tif", progress=False).map)[0]
    np.testing.assert_array_equal(
        read(predict_map(classifier, path, tmp_path / "b.tif", progress=False).map)[0], expected
    )
    for place, name, message in (
        (3, "red", "band 4 named 'red', whose meaning cannot be known"),
        (3, "VV", "two bands named 'VV'"),
        (3, "", "band 4 named ''"),
    ):
        with rasterio.open(path, "r+") as file:
            names = [exports.NAMES[i] for i in shuffled]
            names[place] = name
            file.descriptions = names
        with pytest.raises(ValueError, match=re.escape(message)):
            predict_map(classifier, path, tmp_path / "c.tif", progress=False)


def test_the_series_start_in_a_month_of_the_models(classifier, export, tmp_path):
    may = export.rename(export.with_name("a_2019-05-06_2020-05-01.tif"))
    with pytest.raises(ValueError, match=r"starts in month 5 .* month 2: give an export"):
        predict_map(classifier, may, tmp_path / "m.tif", progress=False)
    made = predict_map(classifier, may, tmp_path / "m.tif", any_month=True, progress=False)
    assert read(made.map)[1]["TIML_START"] == "2019-05"
    two_years = tmp_path / "b_2019-05-06_2021-05-01.tif"
    exports.write_export(two_years, exports.bands(3, 4, steps=24))
    made = predict_map(classifier, two_years, tmp_path / "n.tif", progress=False)
    assert read(made.map)[1]["TIML_START"] == "2020-02"
    np.testing.assert_allclose(
        read(made.map)[0][0], plain_probabilities(two_years, classifier, 9), rtol=0, atol=1e-6
    )


def test_threshold_prevalence_and_spread(classifier, export, tmp_path):
    with timl.nn.seeded(1):
        other = timl.nn.Classifier(hidden=8).eval()
    other.normalization = classifier.normalization
    made = predict_map(
        classifier,
        export,
        tmp_path / "m.tif",
        ensemble=[classifier, other],
        threshold=0.3,
        prevalence=0.2,
        progress=False,
    )
    values, tags = read(made.map)
    first, second = (plain_probabilities(export, c).astype(np.float64) for c in (classifier, other))

    def shifted(p: np.ndarray) -> np.ndarray:
        return 0.2 * p / (0.2 * p + 0.8 * (1 - p))  # Bayes' theorem, from even classes

    np.testing.assert_allclose(values[0], shifted(first), atol=1e-6)
    np.testing.assert_array_equal(values[1] == 1, values[0] >= np.float32(0.3))
    np.testing.assert_allclose(values[2], np.abs(shifted(first) - shifted(second)) / 2, atol=1e-6)
    assert tags["TIML_PREVALENCE"] == "0.2" and tags["TIML_THRESHOLD"] == "0.3"


def test_the_map_is_a_cloud_optimised_geotiff(classifier, tmp_path):
    validate = pytest.importorskip("rio_cogeo").cog_validate
    raw = np.tile(exports.bands(30, 40), (1, 20, 1))  # 600 rows: it needs overviews
    export = exports.write_export(tmp_path / "large.tif", raw)
    made = predict_map(classifier, export, tmp_path / "m.tif", progress=False)
    valid, errors, warned = validate(made.map, quiet=True)
    assert valid and not errors and not warned
    with rasterio.open(made.map) as file:
        assert file.overviews(1) and np.isnan(file.nodata) and file.crs == "EPSG:4326"
        small = file.read(out_shape=(2, 300, 20))
    np.testing.assert_array_equal(small[1], (small[0] >= 0.5).astype(np.float32))


# --- stops ---------------------------------------------------------------------------------------


class Stopping(timl.nn.Classifier):
    """Classifier that is interrupted at its third call."""

    calls = 0

    def forward(self, *args: Any, **named: Any) -> torch.Tensor:
        Stopping.calls += 1
        if Stopping.calls == 3:
            raise KeyboardInterrupt
        return super().forward(*args, **named)


def test_a_stopped_map_goes_on_and_leaves_nothing(classifier, export, tmp_path, monkeypatch):
    expected = read(predict_map(classifier, export, tmp_path / "a.tif", progress=False).map)[0]
    monkeypatch.setattr(windows, "_PIXELS", 200)
    stopping = Stopping(hidden=8).eval()
    stopping.load_state_dict(classifier.state_dict())
    stopping.normalization = classifier.normalization
    out = tmp_path / "b" / "m.tif"
    with pytest.raises(KeyboardInterrupt):
        predict_map(stopping, export, out, workers=1, progress=False)
    assert not out.exists()
    kept = sorted(path.name for path in (out.parent / ".m.tif.parts").glob("*.npy"))
    assert kept == ["0000000.npy", "0000001.npy"]
    made = predict_map(stopping, export, out, workers=1, progress=False)
    assert Stopping.calls == 3 + 6 - 2  # six windows
    np.testing.assert_array_equal(read(made.map)[0], expected)
    assert sorted(p.name for p in out.parent.iterdir()) == [
        "m.html",
        "m.json",
        "m.png",
        "m.tif",
    ]


def test_windows_of_another_classifier_are_not_used(classifier, export, tmp_path, monkeypatch):
    expected = read(predict_map(classifier, export, tmp_path / "a.tif", progress=False).map)[0]
    monkeypatch.setattr(windows, "_PIXELS", 200)
    monkeypatch.setattr(Stopping, "calls", 0)
    with timl.nn.seeded(3):
        other = Stopping(hidden=8).eval()
    other.normalization = classifier.normalization
    with pytest.raises(KeyboardInterrupt):
        predict_map(other, export, tmp_path / "b.tif", workers=1, progress=False)
    made = predict_map(classifier, export, tmp_path / "b.tif", workers=1, progress=False)
    np.testing.assert_array_equal(read(made.map)[0], expected)


def test_a_full_disk_is_said_and_the_windows_are_kept(classifier, export, tmp_path):
    with files_of_at_most(12_000), pytest.raises(OSError, match=r"m\.tif"):
        predict_map(classifier, export, tmp_path / "m.tif", progress=False)
    assert not (tmp_path / "m.tif").exists()
    made = predict_map(classifier, export, tmp_path / "m.tif", progress=False)
    np.testing.assert_allclose(
        read(made.map)[0][0], plain_probabilities(export, classifier), rtol=0, atol=1e-6
    )
    assert not (tmp_path / ".m.tif.parts").exists()


def test_two_processes_do_not_write_one_map(classifier, export, tmp_path):
    from timl.files import held_alone

    with (
        held_alone(tmp_path / ".m.tif.lock", "m.tif"),
        pytest.raises(BlockingIOError, match=r"m\.tif is being written by another process") as info,
    ):
        predict_map(classifier, export, tmp_path / "m.tif", progress=False)
    assert info.value.errno == errno.EAGAIN
    predict_map(classifier, export, tmp_path / "m.tif", progress=False)


# --- sources that cannot be mapped ---------------------------------------------------------------


def test_sources_that_cannot_be_mapped_are_refused(classifier, export, tmp_path):
    folder = tmp_path / "bad"
    write = exports.write_export
    raw = exports.bands(4, 5)
    wrong_count = write(folder / "wrong.tif", raw[:50])
    no_crs = write(folder / "nocrs.tif", raw, crs=None)
    truncated = folder / "truncated.tif"
    truncated.write_bytes(export.read_bytes()[:200_000])
    text = folder / "text.tif"
    text.write_text("no image")
    disguised = folder / "disguised.tif"
    disguised.write_text('<VRTDataset rasterXSize="1" rasterYSize="1"></VRTDataset>')
    south_up = folder / "south.tif"
    with rasterio.open(
        south_up,
        "w",
        driver="GTiff",
        count=206,
        height=4,
        width=5,
        dtype="float64",
        crs="EPSG:4326",
        transform=rasterio.Affine(1e-4, 0, 34, 0, 1e-4, 1),
    ) as file:
        file.write(raw)
    empty = folder / "empty"
    empty.mkdir()
    coarse = write(folder / "coarse.tif", raw, pixel=2e-4)
    between = write(folder / "between.tif", raw, west=34.00004)
    longer = write(folder / "longer.tif", exports.bands(4, 5, steps=13))
    other_year = write(folder / "b_2020-02-06_2021-02-01.tif", raw, west=34.01)
    cases: list[tuple[Any, type[Exception], str]] = [
        (wrong_count, ValueError, "wrong.tif has 50 bands"),
        (no_crs, ValueError, "nocrs.tif has no reference system"),
        (truncated, ValueError, "truncated.tif is"),
        (text, ValueError, "text.tif is no readable GeoTIFF"),
        (disguised, ValueError, "disguised.tif is no readable GeoTIFF"),
        (south_up, ValueError, "south.tif is stored south first"),
        (empty, FileNotFoundError, "a folder without .tif files"),
        (folder / "none.tif", FileNotFoundError, "which does not exist"),
        ([], ValueError, "empty list"),
        (3, TypeError, "source is a int"),
        ([export, coarse], ValueError, "has pixels of"),
        ([export, between], ValueError, "lies between the pixels"),
        ([export, longer], ValueError, "give files of the same steps"),
        ([export, other_year], ValueError, "different months"),
    ]
    for source, error, message in cases:
        with pytest.raises(error, match=re.escape(message)):
            predict_map(classifier, source, tmp_path / "m.tif", progress=False)
        assert not (tmp_path / "m.tif").exists()
    with pytest.raises(ValueError, match=re.escape("out is map: give the path of a .tif file")):
        predict_map(classifier, export, "map", progress=False)
    with pytest.raises(TypeError, match="classifier is a TIML: give an adapted classifier"):
        predict_map(timl.TIML(), export, tmp_path / "m.tif")
    with pytest.raises(ValueError, match="classifier has no normalization"):
        predict_map(timl.nn.Classifier(), export, tmp_path / "m.tif")
    for named in ({"threshold": 1.0}, {"prevalence": 0.0}, {"fill": "mean"}, {"workers": 0}):
        with pytest.raises(ValueError, match=next(iter(named))):
            predict_map(classifier, export, tmp_path / "m.tif", **named)


def test_an_export_without_any_value_makes_a_map_without_data(classifier, tmp_path):
    raw = np.full((206, 3, 4), np.nan)
    path = exports.write_export(tmp_path / "nothing.tif", raw)
    values, _ = read(predict_map(classifier, path, tmp_path / "m.tif", progress=False).map)
    assert np.isnan(values).all()


def test_memory_limits_are_those_of_windows():
    """Windows have at most 65,536 pixels and cover each pixel once, whatever the blocks."""
    for height, width, block in (
        (1, 1, (1, 1)),
        (700, 900, (256, 256)),
        (700, 200_000, (1, 200_000)),
        (3000, 3000, (1024, 1024)),
        (513, 77, (3, 77)),
        (600, 600, (128, 128)),
    ):
        seen = np.zeros((height, width), np.int8)
        for window in windows.windows(height, width, block):
            assert window.height * window.width <= 65_536
            seen[window.slices] += 1
        assert (seen == 1).all()
