"""Maps, samples drawn from them, and the way back from a filled-in table to hectares."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from timl.area import assess_map, class_map, draw_sample, open_map, reference_sample
from timl.cli import app
from typer.testing import CliRunner, Result

pytest.importorskip("rasterio")


def write_map(
    path: Path,
    classes: np.ndarray,
    *,
    crs: str | None = "EPSG:32636",
    west: float = 500_000.0,
    north: float = 60_000.0,
    pixel: float = 10.0,
    **profile: Any,
) -> Path:
    """Write a map as `timl map` does: bands probability and class, NaN where there is none."""
    import rasterio
    from rasterio.transform import from_origin

    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=2,
        height=classes.shape[0],
        width=classes.shape[1],
        dtype="float32",
        crs=crs,
        transform=from_origin(west, north, pixel, pixel),
        nodata=np.nan,
        **profile,
    ) as file:
        file.write(np.stack([classes * 0.9 + 0.05, classes]).astype(np.float32))
        file.descriptions = ("probability", "class")
    return path


@pytest.fixture
def scene() -> np.ndarray:
    """Classes of 90 x 120 pixels, a fifth of them 1, with a corner without any."""
    classes = (np.random.default_rng(0).random((90, 120)) < 0.2).astype(float)
    classes[:10, :20] = np.nan
    return classes


def true_hectares(crs: str, west: float, north: float, pixel: float, row: int) -> float:
    """Area of a pixel of the first column by pyproj's geodesic polygon."""
    pyproj = pytest.importorskip("pyproj")
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    top, bottom = north - row * pixel, north - (row + 1) * pixel
    along = np.linspace(0, 1, 50)
    x = np.concatenate([west + pixel * along, west + pixel * along[::-1]])
    y = np.concatenate([np.full(50, top), np.full(50, bottom)])
    lon, lat = to_degrees.transform(x, y)
    return abs(pyproj.Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)[0]) / 10_000


@pytest.mark.parametrize(
    ("crs", "west", "north", "pixel"),
    [
        ("EPSG:4326", 34.0, 1.0, 0.01),
        ("EPSG:4326", 179.995, 66.0, 0.01),
        ("EPSG:4326", 10.0, -50.0, 0.25),
        ("EPSG:32636", 300_000.0, 60_000.0, 10.0),
        ("EPSG:3857", 1_000_000.0, 7_000_000.0, 30.0),
    ],
)
def test_the_area_of_a_pixel_is_that_on_the_ground(
    tmp_path: Path, crs: str, west: float, north: float, pixel: float
) -> None:
    path = write_map(tmp_path / "m.tif", np.ones((40, 3)), crs=crs, west=west, north=north,
                     pixel=pixel)  # fmt: skip
    with open_map(path) as opened:
        (strip,) = opened.strips()
    for row in (0, 39):
        expected = true_hectares(crs, west, north, pixel, row)
        # a cell of 32 pixels counts as equal: in the Mercator projection it is not quite
        tolerance = 2e-4 if crs == "EPSG:3857" else 2e-5
        assert strip.hectares[row, 0] == pytest.approx(expected, rel=tolerance)


def test_the_sizes_of_classes_leave_out_what_has_none(tmp_path: Path, scene: np.ndarray) -> None:
    with open_map(write_map(tmp_path / "m.tif", scene)) as opened:
        pixels, hectares = opened.class_sizes()
        assert pixels == {0: int((scene == 0).sum()), 1: int((scene == 1).sum())}
        assert sum(pixels.values()) == 90 * 120 - 200
        assert hectares[1] == pytest.approx(0.01 * pixels[1], rel=1e-3)  # scale of UTM: 0.9996
        lat, lon = opened.places([50, 5], [30, 5]).T
        assert opened.classes_at(lat, lon) == [int(scene[50, 30]), None]
        assert opened.classes_at([0.0], [0.0]) == [None]


def test_a_sample_is_the_same_for_any_strips_and_another_for_another_seed(
    tmp_path: Path, scene: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_map(tmp_path / "m.tif", scene)
    whole = draw_sample(path, 100, seed=3)
    monkeypatch.setattr(class_map, "_PIXELS_AT_ONCE", 1000)
    monkeypatch.setattr(reference_sample, "_PIXELS_AT_ONCE", 300)
    pd.testing.assert_frame_equal(whole.points, draw_sample(path, 100, seed=3).points)
    assert not whole.points.equals(draw_sample(path, 100, seed=4).points)
    tiled = write_map(tmp_path / "t.tif", scene, tiled=True, blockxsize=16, blockysize=32)
    pd.testing.assert_frame_equal(whole.points, draw_sample(tiled, 100, seed=3).points)
    points = whole.points
    assert (scene[points["row"], points["column"]] == points["stratum"]).all()
    assert not points.duplicated(["row", "column"]).any()
    assert repr(whole) == "ReferenceSample(100 points: 75 of class 0, 25 of class 1)"


def test_points_are_uniform_on_the_ground_and_not_over_pixels(tmp_path: Path) -> None:
    """In degrees, from the equator to 60 degrees, the northern half has 36.6 % of the area."""
    path = write_map(tmp_path / "m.tif", np.zeros((120, 400)), crs="EPSG:4326", west=0.0,
                     north=60.0, pixel=0.5)  # fmt: skip
    rows = draw_sample(path, 3000, seed=1).points["row"]
    north = (np.sin(np.radians(60)) - 0.5) / np.sin(np.radians(60))
    assert (rows < 60).mean() == pytest.approx(north, abs=0.025)


def test_a_field_team_does_not_see_what_the_map_says(tmp_path: Path, scene: np.ndarray) -> None:
    drawn = draw_sample(write_map(tmp_path / "m.tif", scene), standard_error=0.03)
    drawn.write(tmp_path / "out")
    visited = pd.read_csv(tmp_path / "out" / "sample.csv")
    assert visited.columns.tolist() == ["id", "lat", "lon", "reference"]
    assert visited["reference"].isna().all()
    features = json.loads((tmp_path / "out" / "sample.geojson").read_text())["features"]
    assert features[4]["properties"] == {"id": 5, "reference": None}
    np.testing.assert_allclose(
        features[4]["geometry"]["coordinates"], visited.loc[4, ["lon", "lat"]]
    )
    design = json.loads((tmp_path / "out" / "design.json").read_text())
    assert design["size"] == len(visited) and "promise a standard error of 0.03" in design["reason"]


def filled(folder: Path, truth: np.ndarray, drawn: Any) -> Path:
    """Fill in a sample's table as a team without errors would."""
    drawn.write(folder)
    table = pd.read_csv(folder / "sample.csv", dtype={"reference": object})
    table["reference"] = truth[drawn.points["row"], drawn.points["column"]].astype(int)
    table.to_csv(folder / "sample.csv", index=False)
    return folder / "sample.csv"


def test_from_a_map_and_a_filled_in_table_to_hectares(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    truth = (generator.random((200, 200)) < 0.3).astype(float)
    mapped = np.where(generator.random(truth.shape) < 0.12, 1 - truth, truth)
    path = write_map(tmp_path / "m.tif", mapped)
    csv = filled(tmp_path / "out", truth, draw_sample(path, 600, seed=2))
    names = {0: "other", 1: "maize"}
    result = assess_map(path, csv, names=names)
    maize = result.to_frame().loc["maize"]
    true = truth.mean() * 400 * 0.9996**-2
    assert maize["area_low"] < true < maize["area_high"] < maize["mapped"] * 1.1
    assert abs(maize["area"] - true) < abs(maize["mapped"] - true)
    assert result.classes == ("maize", "other") and result.total == pytest.approx(400, rel=2e-3)

    # a better map of the same place is assessed by the same sample, whose strata are the old map's
    better = np.where(generator.random(truth.shape) < 0.03, 1 - truth, truth)
    second = assess_map(write_map(tmp_path / "b.tif", better), csv, names=names)
    assert second.overall.value > result.overall.value
    assert abs(second.overall.value - (better == truth).mean()) < 3 * second.overall.standard_error
    assert second.areas[0].value == pytest.approx(result.areas[0].value)  # the strata are the same


def test_points_without_a_reference_are_left_out_and_wrong_tables_refused(
    tmp_path: Path, scene: np.ndarray
) -> None:
    path = write_map(tmp_path / "m.tif", scene)
    csv = filled(tmp_path / "out", np.nan_to_num(scene), draw_sample(path, 60))
    table = pd.read_csv(csv, dtype={"reference": object})

    def written(changed: pd.DataFrame) -> Path:
        changed.to_csv(csv, index=False)
        return csv

    with pytest.warns(UserWarning, match="1 of 60 points have no reference class"):
        assess_map(path, written(table.assign(reference=["", *table["reference"][1:]])))
    for changed, message in (
        (table.assign(reference="maize"), "class 'maize': give one of 0, 1"),
        (table.assign(reference=""), "none with a class"),
        (table.drop(columns="lat"), "give lat too"),
        (table.assign(id=1), "point 1 twice"),
        (table.assign(id=table["id"] + 1), "point 61, and 1 in all"),
        (table.assign(lat=table["lon"], lon=table["lat"]), "lat and lon that are not swapped"),
        (table.assign(lat=100.0), "give degrees"),
    ):
        with warnings.catch_warnings(), pytest.raises(ValueError, match=message):
            assess_map(path, written(changed))


def test_wrong_maps_are_refused(tmp_path: Path, scene: np.ndarray) -> None:
    path = write_map(tmp_path / "m.tif", scene)
    empty = write_map(tmp_path / "e.tif", np.full((5, 5), np.nan))
    nowhere = write_map(tmp_path / "n.tif", scene, crs=None)
    (tmp_path / "broken.tif").write_bytes(path.read_bytes()[:3000])
    (tmp_path / "text.tif").write_text("no map")
    for wrong, options, message in (
        (path, {"band": "crop"}, "band is 'crop', and .* has 1 probability, 2 class"),
        (path, {"band": 3}, "band is 3"),
        (path, {"band": "probability"}, "give the band of classes"),
        (path, {"size": 8000, "allocation": "equal"}, "size is 8000, of which 4000 points"),
        (path, {"standard_error": 0.1}, "give one of the two"),
        (empty, {}, "no classes at all"),
        (nowhere, {}, "no reference system"),
        (tmp_path / "broken.tif", {}, "damaged|readable"),
        (tmp_path / "text.tif", {}, "no readable GeoTIFF"),
    ):
        with pytest.raises(ValueError, match=message):
            draw_sample(wrong, **{"size": 50, **options})
    with pytest.raises(FileNotFoundError, match="does not exist"):
        draw_sample(tmp_path / "no.tif", 50)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_commands(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    truth = (generator.random((100, 100)) < 0.3).astype(float)
    mapped = np.where(generator.random(truth.shape) < 0.15, 1 - truth, truth)
    path, out = write_map(tmp_path / "m.tif", mapped), tmp_path / "out"
    result = run("sample", "--map", path, "--out", out, "--size", 200, "--seed", 2)
    assert result.exit_code == 0, result.output
    assert "200 points" in result.output and "class 1" in result.output
    planned = run("sample", "--map", path, "--out", tmp_path / "p", "--standard-error", 0.02,
                  "--accuracy", "0=0.9,1=0.7")  # fmt: skip
    assert planned.exit_code == 0 and "0.7 of class 1" in planned.output, planned.output
    csv = filled(out, truth, draw_sample(path, 200, seed=2))
    result = run("area", "--map", path, "--reference", csv, "--names", "0=other,1=maize")
    assert result.exit_code == 0, result.output
    assert "Overall accuracy 0.8" in result.output and "Counting pixels is biased" in result.output
    assert json.loads((out / "area.json").read_text())["classes"][0]["class"] == "maize"
    assert (out / "area.md").read_text().startswith("| class |")
    for arguments, message in (
        (("sample", "--map", path, "--out", out), "give one of the two"),
        (
            ("sample", "--map", path, "--out", out, "--size", 9, "--accuracy", "0.9"),
            "--accuracy is '0.9'",
        ),
        (("area", "--map", path, "--reference", tmp_path / "no.csv"), "does not exist"),
        (("area", "--map", path, "--reference", csv, "--names", "maize"), "--names is 'maize'"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2 and message in result.stderr and "\n" not in result.stderr[:-1]
