"""A simulated scene: an export that timl reads, the truth of its polygons, points in fields."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from timl.data import (
    BANDS,
    BBox,
    CropHarvest,
    Scene,
    own_points,
    read_export,
    read_regions,
    simulate,
    simulate_scene,
)
from timl.data.own.exports import DYNAMIC_BANDS
from timl.data.simulator.covers import COVERS, CROPS
from timl.data.simulator.draws import Stream
from timl.data.simulator.samples import Mix
from timl.data.simulator.scene import pixels, writing
from timl.data.simulator.scene import scene as of_scene
from timl.data.simulator.scene.landscape import Landscape
from timl.data.simulator.scene.noise import TILE, PixelDraws

rasterio = pytest.importorskip("rasterio")
shapely = pytest.importorskip("shapely")

SIZE = 150
"""Not a multiple of the tiles' edge."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("scenes") / "world", countries=4, samples=1000)


@pytest.fixture(scope="module")
def scene(world: Path) -> Scene:
    return simulate_scene(world.parent / "scene", world, size=SIZE, points=40)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_the_same_arguments_give_the_same_bytes(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = simulate_scene(tmp_path / "a", world, size=70, points=5, seed=2)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    second = simulate_scene(tmp_path / "b", world, size=70, points=5, seed=2)
    assert contents(first.folder) == contents(second.folder)
    other = simulate_scene(tmp_path / "c", world, size=70, points=5, seed=3)
    assert other.points.read_bytes() != first.points.read_bytes()


def test_a_finished_scene_stays_and_a_foreign_folder_too(
    world: Path, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_scene, "write_scene", lambda *_: pytest.fail("written again"))
    assert simulate_scene(scene.folder, world, size=SIZE, points=40) == scene
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="no simulated scene"):
        simulate_scene(tmp_path, world)


def test_the_export_is_in_the_exporters_format(scene: Scene, world: Path) -> None:
    with rasterio.open(scene.export) as file:
        assert (file.width, file.height, file.count) == (SIZE, SIZE, 206)
        assert file.crs.is_projected and file.res == (10, 10)
        assert file.descriptions[:17] == DYNAMIC_BANDS
        assert file.descriptions[-3:] == ("total_precipitation_11", "elevation", "slope")
        raw = file.read()
    gaps = np.isnan(raw)
    assert gaps[-1, :3].all() and not gaps[-1, 3:-3, 3:-3].any() and not gaps[:-1].any()
    export = read_export(scene.export, "record")
    assert export.series.shape == (SIZE * SIZE, 12, 18) and np.isfinite(export.series).all()
    box = country(scene, world)
    assert box.contains(export.lats, export.lons).all()
    start = scene.export.name.split("=")[1][:7]
    assert start == scene.first_month == json.loads(mark(scene))["first_month"]


def country(scene: Scene, world: Path) -> BBox:
    return next(box for box in read_regions(world / "regions.json") if box.name == scene.country)


def mark(scene: Scene) -> str:
    return (scene.folder / "scene.json").read_text("utf-8")


def test_the_truth_is_that_of_the_polygons(scene: Scene) -> None:
    with rasterio.open(scene.truth) as file:
        truth, crs, transform = file.read(1), file.crs, file.transform
        assert file.nodata == 0
    fields = json.loads(scene.fields.read_text("utf-8"))["features"]
    areas = dict.fromkeys(scene.legend.values(), 0.0)
    numbers = {label: number for number, label in scene.legend.items()}
    shapes = []
    for field in fields:
        label = field["properties"]["label"]
        areas[label] += field["properties"]["hectares"]
        shape = rasterio.warp.transform_geom("OGC:CRS84", crs, field["geometry"])
        shapes.append((shape, numbers[label]))
    drawn = rasterio.features.rasterize(shapes, truth.shape, transform=transform)
    assert (drawn == truth).mean() > 0.999  # degrees are rounded
    assert sum(areas.values()) == pytest.approx(SIZE**2 / 100, rel=1e-4)
    for label, hectares in areas.items():
        assert (truth == numbers[label]).sum() / 100 == pytest.approx(hectares, abs=2.5)


def test_points_lie_in_parcels_of_their_label(scene: Scene, world: Path) -> None:
    table = pd.read_csv(scene.points)
    assert len(table) == 40 and set(table["is_crop"]) == {0, 1}
    with rasterio.open(scene.truth) as file:
        xs, ys = rasterio.warp.transform("EPSG:4326", file.crs, table["lon"], table["lat"])
        truth = file.read(1)
        places = [file.index(x, y) for x, y in zip(xs, ys, strict=True)]
    for (row, column), label in zip(places, table["label"], strict=True):
        around = truth[row - 1 : row + 2, column - 1 : column + 2]
        assert {scene.legend[int(value)] for value in np.unique(around)} == {label}
    own = own_points(scene.points, scene.folder / "exports", like=CropHarvest(world))
    assert len(own.positives) == table["is_crop"].sum() and len(own.unmatched) == 0
    known = {cover.label: cover.classification_label for cover in COVERS}
    assert [known[label] for label in table["label"]] == table["classification_label"].tolist()


def test_noise_is_distributed_as_in_a_world_and_shared_within_fields() -> None:
    pixel = np.arange(TILE * TILE)
    parcel = 96 * (pixel // TILE // 8 * 8 + pixel % TILE // 8)  # fields of 8 x 8 pixels
    cover = np.zeros(len(pixel), np.int64)
    parts = [
        PixelDraws(0, tile, 0, pixel, parcel + 96 * 64 * tile, cover).normal(
            Stream.REFLECTANCE, len(pixel), 148
        )
        for tile in range(6)
    ]
    field, grain = np.stack(parts)[..., :4], np.stack(parts)[..., 16:]
    for noise in (field, grain):
        assert abs(noise.mean()) < 0.1 and noise.std() == pytest.approx(1, abs=0.1)
    blocks = field.reshape(6, 8, 8, 8, 8, 4).std(axis=(2, 4))  # within fields
    assert blocks.mean() < 0.5


def test_series_are_like_those_of_the_world(scene: Scene, world: Path) -> None:
    data = CropHarvest(world)
    x = read_export(scene.export, data.ndvi).series
    labels = data.labels
    here = labels["position"] >= 0
    here &= country(scene, world).contains(labels["lat"].to_numpy(), labels["lon"].to_numpy())
    known = data.series(labels.loc[here, "position"].to_numpy(), normalize=False)
    for band in ("VV", "B4", "B8", "temperature_2m", "NDVI"):
        k = BANDS.index(band)
        spread = known[..., k].std()
        assert abs(np.median(x[..., k]) - np.median(known[..., k])) < 0.6 * spread, band


def test_a_cell_does_not_depend_on_the_scenes_other_cells() -> None:
    mix = Mix(np.array([0, 1, 5]), np.array([5, 3, 2]))
    one, other = (Landscape(300, mix, 7) for _ in range(2))
    other.parcels(0, 0, 300, 300)
    for a, b in zip(one.cell(1, 2), other.cell(1, 2), strict=True):
        assert a.key == b.key and a.cover == b.cover and a.shape.equals(b.shape)
    shapes = [parcel.shape for parcel in one.parcels(0, 0, 300, 300)]
    inside = shapely.intersection(shapes, shapely.box(0, 0, 300, 300))
    assert shapely.area(inside).sum() == pytest.approx(300**2, rel=1e-6)  # no gap, no overlap
    assert {p.cover for p in one.parcels(0, 0, 300, 300)} & set(CROPS) == {0, 1, 5}


@pytest.fixture
def impatient_threads() -> Iterator[None]:
    """Let threads take turns a thousand times as often as usual."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(interval / 1000)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("impatient_threads")
def test_tiles_in_threads_warn_of_nothing_and_leave_pythons_filters_of_warnings() -> None:
    square = shapely.box(0, 0, 2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", rasterio.errors.NotGeoreferencedWarning)
        before = list(warnings.filters)
        with ThreadPoolExecutor(8) as pool:
            made = [pool.submit(pixels._composition, [square], (0, 0, 2, 2)) for _ in range(600)]
        for one in made:
            one.result()
        assert warnings.filters == before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"size": 63}, ValueError, "size is 63"),
        ({"size": 100.0}, TypeError, "size is 100.0"),
        ({"points": 0}, ValueError, "points is 0"),
        ({"points": 5000, "size": 64}, ValueError, "points is 5000"),
        ({"seed": -1}, ValueError, "seed is -1"),
        ({"country": "France"}, ValueError, "country is 'France': give one of"),
    ],
)
def test_wrong_arguments_leave_nothing(
    arguments: dict,
    error: type[Exception],
    message: str,
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writing, "_MOST_TRIES", 1)
    with pytest.raises(error, match=message):
        simulate_scene(tmp_path / "scene", world, **arguments)
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match="no simulated world"):
        simulate_scene(tmp_path / "scene", tmp_path)
