"""The picture of a map: a PNG of whatever the map has."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from map_files import made_bands, made_points, write_map
from timl.maps.drawing.legend import LAYERS, NO_DATA_COLOUR, POINT_COLOURS
from timl.maps.drawing.quicklook import write_quicklook

pytest.importorskip("rasterio", reason="rasterio is not installed: timl[maps]")
Image = pytest.importorskip("PIL.Image", reason="matplotlib is not installed: timl[plot]")


def colours_of(path: Path) -> set[tuple[int, ...]]:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}


def rgb(text: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(text[1:]))


@pytest.mark.parametrize(
    ("names", "crs"),
    [
        (tuple(LAYERS), "EPSG:4326"),
        (("class",), "EPSG:4326"),
        (("probability", "uncertainty"), "EPSG:32736"),
        (("unlike",), "EPSG:32736"),
    ],
)
def test_any_bands_in_any_system_give_a_picture(tmp_path: Path, names: tuple[str, ...], crs: str):
    bands = {name: band for name, band in made_bands(20, 30).items() if name in names}
    place = (34.2, 0.6, 0.0001) if crs == "EPSG:4326" else (500_000, 9_900_000, 10.0)
    path = write_map(tmp_path / "map.tif", bands, crs, *place)
    out = tmp_path / "map.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_quicklook(path, out, points=made_points(), title="50 $ <b>\n$x^2$" + " long" * 90)
    found = colours_of(out)
    assert rgb(NO_DATA_COLOUR) in found
    if crs == "EPSG:4326":
        assert {rgb(colour) for colour in POINT_COLOURS.values()} <= found
    if names == ("class",):
        assert {tuple(colour) for colour in LAYERS["class"].palette().tolist()} <= found


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1)])
def test_maps_of_one_pixel_or_row_without_data_give_a_picture(
    tmp_path: Path, shape: tuple[int, int]
):
    bands = {name: np.full(shape, np.nan, np.float32) for name in LAYERS}
    write_quicklook(write_map(tmp_path / "map.tif", bands), tmp_path / "map.png")
    assert rgb(NO_DATA_COLOUR) in colours_of(tmp_path / "map.png")


def test_a_failure_leaves_no_picture(tmp_path: Path):
    path = write_map(tmp_path / "map.tif", made_bands(2, 3))
    points = made_points().assign(label="perhaps")
    with pytest.raises(ValueError, match="perhaps"):
        write_quicklook(path, tmp_path / "map.png", points=points)
    assert [file.name for file in tmp_path.iterdir()] == ["map.tif"]
