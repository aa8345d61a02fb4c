"""From exports to series: order of bands, NDVI, what is missing, and where pixels are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from exports import bands, centre, write_export
from timl.data import BANDS, read_export
from timl.data.own import exports as own_exports
from timl.data.own.exports import (
    DYNAMIC_BANDS,
    fill_missing,
    means_of_sums,
    read_pixel,
    series_of_bands,
    sums_of_series,
)

pytest.importorskip("rasterio")


def band(raw: np.ndarray, name: str, step: int) -> np.ndarray:
    """A band of one step, by the order that the format's description gives."""
    if name in ("elevation", "slope"):
        return np.asarray(raw[-2 if name == "elevation" else -1])
    return np.asarray(raw[step * 17 + DYNAMIC_BANDS.index(name)])


def test_every_band_and_step_finds_its_place() -> None:
    raw = bands(1, 3, steps=14)[:, 0]
    series = series_of_bands(raw, "true")
    assert series.shape == (3, 12, 18)
    for step in range(12):  # the first 12 steps of a longer file
        for name in BANDS[:-1]:
            np.testing.assert_array_equal(series[:, step, BANDS.index(name)], band(raw, name, step))
    assert not {"B1", "B10"} & set(BANDS)


@pytest.mark.parametrize(("ndvi", "high", "low"), [("true", "B8", "B4"), ("record", "B7", "B3")])
def test_ndvi_is_that_of_the_data_set_and_0_where_it_is_not_defined(
    ndvi: str, high: str, low: str
) -> None:
    raw = bands(1, 4)[:, 0]
    first = [DYNAMIC_BANDS.index(name) for name in (high, low)]
    raw[first, 1] = 0
    raw[first[0], 2] = np.nan
    raw[first, 3] = -5, 2
    found = series_of_bands(raw, ndvi)[..., -1]
    a, b = band(raw, high, 0)[0], band(raw, low, 0)[0]
    assert found[0, 0] == pytest.approx((a - b) / (a + b))
    assert found[1:, 0].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="ndvi is 'unknown'"):
        series_of_bands(raw, "unknown")


@pytest.mark.parametrize("count", [12 * 17, 11 * 17 + 2, 12 * 17 + 3, 2, 0])
def test_another_number_of_bands_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=rf"{count} bands.*206 or 17 more"):
        series_of_bands(np.zeros((count, 1)), "true")


def test_missing_values_take_the_mean_over_time_of_the_mean_over_pixels() -> None:
    series = np.zeros((2, 12, 18))
    series[0, :, 0], series[1, :, 0] = 1, 3
    series[1, 0, 0] = np.nan  # step 0: mean 1, the others: mean 2
    expected = (1 + 11 * 2) / 12
    assert fill_missing(series, means_of_sums([sums_of_series(series)]), "file")[
        1, 0, 0
    ] == pytest.approx(expected)
    assert fill_missing(series, means_of_sums([sums_of_series(series)]), "pixel")[1, 0, 0] == 3


def test_a_pixel_without_slope_takes_the_files() -> None:
    series = np.zeros((2, 12, 18))
    slope, elevation = BANDS.index("slope"), BANDS.index("elevation")
    series[0, :, slope] = 7
    series[1, :, [slope, elevation]] = np.nan
    means = means_of_sums([sums_of_series(series)])
    filled = fill_missing(series, means, "pixel")
    assert (filled[1, :, slope] == 7).all()
    assert np.isnan(filled[1, :, elevation]).all()  # the record leaves such a pixel out
    assert (fill_missing(series, means, "file")[1, :, elevation] == 0).all()


def test_pixels_are_in_rows_from_the_north_with_their_places(tmp_path: Path) -> None:
    raw = bands(2, 3)
    export = read_export(write_export(tmp_path / "a.tif", raw), "true")
    assert (export.height, export.width, len(export.series)) == (2, 3, 6)
    assert repr(export) == "Export('a.tif', 2 x 3 pixels)"
    for pixel in range(6):
        row, column = divmod(pixel, 3)
        assert export.series[pixel, 0, 0] == raw[0, row, column]
        lat, lon = centre(row, column)
        assert (export.lats[pixel], export.lons[pixel]) == pytest.approx((lat, lon))


def test_other_reference_systems_and_declared_gaps_are_understood(tmp_path: Path) -> None:
    raw = bands(2, 2)
    raw[4, 0, 0] = -9999
    path = write_export(
        tmp_path / "utm.tif", raw, 500_000, 100_000, "EPSG:32636", pixel=10, nodata=-9999
    )
    export = read_export(path, "true")
    assert export.lons[0] == pytest.approx(33, abs=1e-3)
    assert export.lats[0] == pytest.approx(0.9045, abs=1e-3)
    b3 = BANDS.index("B3")
    assert raw.min() < 0 < export.series[0, 0, b3]


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("fill", ["pixel", "file"])
def test_windows_change_no_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fill: Literal["pixel", "file"], tiled: bool
) -> None:
    import rasterio

    raw = bands(40, 50, seed=2)
    raw[np.random.default_rng(0).random(raw.shape) < 0.05] = np.nan
    raw[-1, :30] = np.nan  # the slope
    path = write_export(tmp_path / "a.tif", raw)
    with rasterio.open(path) as file:
        profile = file.profile | {"dtype": "float32", "tiled": tiled}
    if tiled:
        profile |= {"blockxsize": 16, "blockysize": 16}
    with rasterio.open(path, "w", **profile) as file:
        file.write(raw.astype(np.float32))
    series = series_of_bands(raw.reshape(len(raw), -1).astype(np.float32), "true")
    expected = fill_missing(series, means_of_sums([sums_of_series(series)]), fill)
    monkeypatch.setattr(own_exports, "_PIXELS", 300)
    export = read_export(path, "true", fill)
    assert export.series.dtype == np.float32
    np.testing.assert_array_equal(export.series, expected.astype(np.float32))
    with rasterio.open(path) as file:
        for row, column in ((0, 0), (33, 49), (39, 0)):
            pixel = read_pixel(file, row, column, "true", fill)
            np.testing.assert_allclose(pixel, expected[row * 50 + column], rtol=1e-12)


def test_types_that_float32_cannot_hold_stay_float64(tmp_path: Path) -> None:
    import rasterio

    path = write_export(tmp_path / "a.tif", bands(2, 2))
    with rasterio.open(path) as file:
        raw, profile = file.read(), file.profile
    for kind, found in (("int16", np.float32), ("int32", np.float64), ("float64", np.float64)):
        with rasterio.open(path, "w", **profile | {"dtype": kind, "nodata": None}) as file:
            file.write(raw.astype(kind))
        assert read_export(path, "true").series.dtype == found


def test_what_is_no_export_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.tif").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.tif, which is no readable GeoTIFF"):
        read_export(tmp_path / "text.tif", "true")
    with pytest.raises(FileNotFoundError, match=r"none\.tif"):
        read_export(tmp_path / "none.tif", "true")
    with pytest.raises(ValueError, match=r"few\.tif has 100 bands"):
        read_export(write_export(tmp_path / "few.tif", bands(2, 2)[:100]), "true")
    with pytest.raises(ValueError, match="no reference system"):
        read_export(write_export(tmp_path / "nowhere.tif", bands(2, 2), crs=None), "true")
    whole = write_export(tmp_path / "cut.tif", bands(20, 20)).read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.tif is"):
        read_export(tmp_path / "cut.tif", "true")
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(ImportError, match=r"timl\[maps\]"):
        read_export(tmp_path / "few.tif", "true")


@pytest.mark.parametrize("ndvi", ["record", "true"])
def test_real_exports_are_read_by_the_formats_rules(shared_data: Path, ndvi: str) -> None:
    import rasterio

    files = sorted((shared_data / "geotiffs").glob("*.tif"))
    if not files:
        pytest.skip(f"{shared_data} has no geotiffs")
    for path in files:
        export = read_export(path, ndvi)
        with rasterio.open(path) as file:
            raw = file.read().reshape(file.count, -1)
            assert (export.height, export.width) == file.shape
        assert np.isfinite(export.series).all()
        for name in ("VV", "B2", "B8A", "B12", "total_precipitation", "slope"):
            column = BANDS.index(name)
            values = np.stack([band(raw, name, step) for step in range(12)])  # [12, n]
            mean = np.nanmean(np.nanmean(values, axis=1))
            expected = np.where(np.isnan(values), mean, values).T
            np.testing.assert_allclose(export.series[:, :, column], expected, rtol=1e-7)
        assert 100 < np.median(export.series[..., BANDS.index("B4")]) < 5000
        assert export.series[..., BANDS.index("temperature_2m")].min() > 220
