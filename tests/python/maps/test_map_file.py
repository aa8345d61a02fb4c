"""Maps are read at the size of a screen, and their grids know degrees, metres and north."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from map_files import made_bands, made_points, write_map
from timl.data.sources.grid import Grid, ground_way, length_text, round_length
from timl.maps.drawing.legend import LAYERS, NO_DATA_COLOUR, POINT_COLOURS
from timl.maps.drawing.map_file import read_map_file, read_shrunk
from timl.maps.drawing.places import place_points
from timl.maps.drawing.quicklook import scale_bar

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed: timl[maps]")

PLACES = [
    ("EPSG:4326", 34.2, 0.6, 0.0001),
    ("EPSG:4326", 20.0, 62.0, 0.001),
    ("EPSG:32636", 780_000, 6_900_000, 10.0),
    ("EPSG:32760", 815_000, 8_040_000, 10.0),  # the 180th meridian crosses it
]


# What is seen without the pigment for red or green, linear RGB to linear RGB (Machado, Oliveira and
# Fernandes 2009, A physiologically-based model for simulation of color vision deficiency, table 1)
SIGHTS = {
    "all": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


def linear(colours: object) -> np.ndarray:
    """Linear RGB of sRGB colours, 0 to 255 (IEC 61966-2-1)."""
    values = np.array([list(colour) for colour in colours]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(colours: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB, for white D65."""
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = colours @ to_xyz.T / to_xyz.sum(1)
    x, y, z = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def grid(crs: str, west: float, north: float, pixel: float, size: int = 600) -> Grid:
    transform = rasterio.transform.from_origin(west, north, pixel, pixel)
    return Grid(rasterio.crs.CRS.from_string(crs), transform, size, size)


@pytest.mark.parametrize("overviews", [(), (2, 4)])
def test_a_shrunk_map_holds_means_of_pixels_and_the_class_of_half(
    tmp_path: Path, overviews: tuple[int, ...]
):
    bands = made_bands(64, 96)
    path = write_map(tmp_path / "map.tif", bands, overviews=overviews)
    described, shrunk, read = read_shrunk(path, 24)
    assert list(read) == list(LAYERS) and (shrunk.height, shrunk.width) == (16, 24)
    assert shrunk.coordinates(24, 16) == pytest.approx(described.grid.coordinates(96, 64))
    blocks = bands["probability"].reshape(16, 4, 24, 4).swapaxes(1, 2).reshape(16, 24, 16)
    np.testing.assert_allclose(read["probability"][:, 1:], blocks[:, 1:].mean(-1), rtol=1e-5)
    np.testing.assert_allclose(read["probability"][:, 0], np.nanmean(blocks[:, 0], -1), rtol=0.2)
    # overviews count pixels without data as whole cells: there only cells with all of them
    many = (blocks >= 0.42).mean(-1)
    clear = (abs(many - 0.5) > 0.01) & ~np.isnan(blocks).any(-1)
    assert clear.sum() > 250
    np.testing.assert_array_equal(read["class"][clear], many[clear] > 0.5)


def test_a_small_map_keeps_its_pixels(tmp_path: Path):
    bands = made_bands(3, 5)
    _, _, read = read_shrunk(write_map(tmp_path / "map.tif", bands), 1500)
    for name, band in bands.items():
        np.testing.assert_array_equal(read[name], band)


@pytest.mark.parametrize("place", PLACES)
def test_lengths_on_the_ground_are_geodesics(place: tuple[str, float, float, float]):
    geodesics = pytest.importorskip("pyproj").Geod(ellps="WGS84")
    cells = grid(*place)
    metres, count = scale_bar(cells)
    middle = cells.height / 2
    ends = [cells.width / 2 - count / 2, cells.width / 2 + count / 2]
    lats, lons = cells.degrees(ends, [middle, middle])
    _, _, length = geodesics.inv(lons[0], lats[0], lons[1], lats[1])
    assert length == pytest.approx(metres, rel=1e-3)
    _, height = cells.cell_size()
    lats, lons = cells.degrees([300, 300], [0, 600])
    _, _, length = geodesics.inv(lons[0], lats[0], lons[1], lats[1])
    assert length / 600 == pytest.approx(height, rel=2e-3)
    east, north = ground_way(45, 10, 45.5, 11)
    assert np.hypot(east, north) == pytest.approx(geodesics.inv(10, 45, 11, 45.5)[2], rel=1e-3)


@pytest.mark.parametrize("place", PLACES)
def test_north_is_where_latitude_grows(place: tuple[str, float, float, float]):
    cells = grid(*place)
    angle = np.radians(cells.north())
    width, height = cells.cell_size()
    right, up = 500 * np.sin(angle) / width, 500 * np.cos(angle) / height
    lats, lons = cells.degrees([300, 300 + right], [300, 300 - up])
    assert lats[1] > lats[0] and lons[1] == pytest.approx(lons[0], abs=2e-5)


@settings(max_examples=25)
@given(
    place=st.sampled_from(PLACES),
    columns=st.lists(st.floats(0, 600), min_size=1, max_size=5),
)
def test_cells_and_degrees_are_inverses(
    place: tuple[str, float, float, float], columns: list[float]
):
    cells = grid(*place)
    rows = 600 - np.array(columns)
    found = cells.cells(*cells.degrees(columns, rows))
    np.testing.assert_allclose(found, [columns, rows], atol=1e-3)


@pytest.mark.parametrize("place", PLACES)
def test_between_the_places_of_the_mesh_degrees_are_linear(
    place: tuple[str, float, float, float],
):
    cells = grid(*place)
    lats, lons = cells.mesh(17)
    assert np.ptp(lons) < 1
    at = np.linspace(0, 600, 33)[1::2]  # half way
    true_lats, true_lons = cells.degrees(at, np.full(16, 300.0))
    half_way = [(values[8, 1:] + values[8, :-1]) / 2 for values in (lats, lons)]
    columns, rows = cells.cells(*half_way)
    np.testing.assert_allclose([columns, rows], [at, np.full(16, 300.0)], atol=0.05)
    assert np.isfinite([true_lats, true_lons]).all()


@given(st.floats(1e-3, 1e7))
def test_a_round_length_fills_at_least_two_fifths(most: float):
    length = round_length(most)
    assert 0.399 * most <= length <= most * (1 + 1e-8)
    assert length_text(2000.0) == "2 km" and length_text(500.0) == "500 m"


def test_values_take_the_nearest_colour_and_none_where_there_is_no_data():
    layer = LAYERS["uncertainty"]
    numbers = layer.colour_numbers(np.array([0, 0.0024, 0.0026, 0.3, 9, np.nan], np.float32))
    assert numbers.tolist() == [1, 1, 2, 61, 61, 0]
    for layer in LAYERS.values():
        palette = layer.palette()
        assert palette.shape == (round(layer.top / layer.step) + 1, 3)
        assert len(np.unique(palette, axis=0)) == len(palette)


def test_what_is_no_map_is_told_so(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_map_file(tmp_path / "none.tif")
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"II*\0 and no more")
    with pytest.raises(ValueError, match="no readable GeoTIFF"):
        read_map_file(broken)
    bands = made_bands(2, 3)
    with pytest.raises(ValueError, match="with bands red: give one with"):
        read_map_file(write_map(tmp_path / "red.tif", {"red": bands["class"]}))
    with pytest.raises(ValueError, match="no reference system"):
        read_map_file(write_map(tmp_path / "nowhere.tif", bands, crs=None))
    with pytest.raises(ValueError, match="TIML_THRESHOLD 'much': give a number"):
        read_map_file(write_map(tmp_path / "much.tif", bands, tags={"TIML_THRESHOLD": "much"}))
    whole = write_map(tmp_path / "whole.tif", made_bands(300, 300))
    whole.write_bytes(whole.read_bytes()[:100_000])
    with pytest.raises(ValueError, match="which is damaged"):
        read_shrunk(whole, 1500)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("lat", [100.0, 0.0, 0.0], "lat is 100.0 in row 0: give degrees in"),
        ("lon", [0.0, float("nan"), 0.0], "lon is nan in row 1"),
        ("label", ["positive", "perhaps", "0"], "label is 'perhaps' in row 1"),
    ],
)
def test_points_that_make_no_sense_are_told_so(column: str, values: list[object], message: str):
    points = made_points().assign(**{column: values})
    with pytest.raises(ValueError, match=message):
        place_points(points, grid(*PLACES[0]))
    with pytest.raises(ValueError, match=f"{column} is missing"):
        place_points(points.drop(columns=column), grid(*PLACES[0]))


@pytest.mark.parametrize("labels", [[1, 0, 1], [1.0, 0.0, 1.0], [True, False, True]])
def test_points_are_where_they_should_be(labels: list[object]):
    cells = grid(*PLACES[0])
    places = place_points(made_points().assign(label=labels), cells)
    np.testing.assert_allclose(places.columns[:2], [5, 15.5], atol=1e-6)
    np.testing.assert_allclose(places.rows[:2], [5, 9.5], atol=1e-6)
    assert places.classes.tolist() == [1, 0, 1]
    assert places.inside(cells).tolist() == [True, True, False]


@pytest.mark.parametrize("sight", SIGHTS)
def test_colours_can_be_told_apart_without_red_or_green(sight: str):
    def lightness_and_hue(colours: object) -> np.ndarray:
        return lab(np.clip(linear(colours) @ np.array(SIGHTS[sight]).T, 0, 1))

    grey = lightness_and_hue([bytes.fromhex(NO_DATA_COLOUR[1:])])
    for layer in LAYERS.values():
        shades = lightness_and_hue(layer.palette())
        assert (np.diff(shades[:, 0]) < 0).all()  # darker and darker
        assert np.linalg.norm(shades - grey, axis=1).min() > 10  # 2.3 can just be noticed
    points = lightness_and_hue([bytes.fromhex(c[1:]) for c in POINT_COLOURS.values()])
    assert np.linalg.norm(points[0] - points[1]) > 50
