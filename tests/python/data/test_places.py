"""Regions from shapes, shipped benchmarks, and what tasks and benchmarks share."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from timl.data import BBox, CropHarvest, meta_tasks, overlap_report, read_regions
from worlds import hdf5, label, measured, write_labels, write_world

PLACES = {  # latitude, longitude
    "Kenya": (0.6, 34.3),
    "Brazil": (-12.1, -45.8),
    "Togo": (8.6, 1.0),
    "China": (39.9, 116.4),
    "France": (48.9, 2.3),
}


def world(tmp_path: Path, test_files: tuple[str, ...] = ()) -> CropHarvest:
    """In each place: 3 maize, 3 coffee, 3 of no name that are no crops."""
    samples = [
        (lat, lon, crop)
        for lat, lon in PLACES.values()
        for crop in ("maize", "coffee", None)
        for _ in range(3)
    ]
    features = {
        f"features/arrays/{i}_made.h5": hdf5(array=measured(i)) for i in range(len(samples))
    }
    tests = {
        f"test_features/{name}.h5": hdf5(
            x=np.stack([measured(900 + i) for i in range(n)]),
            y=np.arange(n) % 2,
            lats=np.full(n, 0.61),
            lons=np.full(n, 34.3),
        )
        for n, name in enumerate(test_files, start=1)
    }
    root = write_world(tmp_path, features, tests)
    write_labels(
        root,
        [
            label(i, lat=lat, lon=lon, label=crop, is_crop=int(crop is not None))
            for i, (lat, lon, crop) in enumerate(samples)
        ],
    )
    return CropHarvest(root)


def tasks_of(data: CropHarvest, **options: object) -> set[str]:
    tasks = meta_tasks(data, k=1, query=2, **options)  # type: ignore[arg-type]
    return {task.id for task in tasks}


def test_the_records_evaluation_tasks_are_shipped(tmp_path: Path) -> None:
    data = world(tmp_path, ("Kenya_maize_2020_0_0", "Kenya_maize_2020_1_0", "togo-eval"))
    assert [benchmark.name for benchmark in data.benchmarks] == [
        "Kenya maize",
        "Brazil coffee",
        "Togo crop",
        "China crop",
    ]
    assert [benchmark.task.id for benchmark in data.benchmarks] == [
        "Kenya_1_maize",
        "Brazil_0_coffee",
        "Togo_crop",
        "People's Republic of China_11_crop",
    ]
    kenya = data.benchmark("Kenya maize")
    assert len(kenya.positives) == 3
    assert len(kenya.negatives) == 6
    np.testing.assert_array_equal(kenya.info[3:], [0, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    # two files make its test set, in the order of their names
    assert kenya.test.y.tolist() == [0, 0, 1]
    assert kenya.test.x.shape == (3, 12, 18)
    with pytest.raises(
        FileNotFoundError, match=r"Brazil_coffee.*whose name begins so: give one of.*togo-eval"
    ):
        _ = data.benchmark("Brazil coffee").test


def test_evaluation_tasks_are_withheld_and_the_authors_code_on_request(tmp_path: Path) -> None:
    data = world(tmp_path)
    everything = tasks_of(data, withhold=False)
    labels = ("crop", "maize", "coffee")
    withheld = {"Kenya_1_maize", "Brazil_0_coffee"}
    regions = {"Togo", "People's Republic of China_11"}
    for region in regions:
        withheld |= {f"{region}_{name}" for name in labels}
    assert withheld <= everything
    assert everything - tasks_of(data) == withheld
    # It says that it leaves out all of Togo, and does not.
    published = tasks_of(data, withhold="as_published")
    assert everything - published == {"Kenya_1_maize", "Brazil_0_coffee"}


def test_own_regions_take_precedence_and_are_withheld_by_name_or_edges(tmp_path: Path) -> None:
    data = world(tmp_path)
    kenya = data.benchmark("Kenya maize").task.bounding_box
    edges = {k: getattr(kenya, k) for k in ("min_lat", "max_lat", "min_lon", "max_lon")}
    regions = [
        {"name": "same place", **edges},
        {"name": "Kenya_7", **edges, "max_lon": 40.0},
        {"name": "other", **edges, "max_lon": 39.0},
    ]
    (data.root / "regions.json").write_text(json.dumps(regions))
    kept = tasks_of(data)
    assert kept == {
        *(f"{name}_{crop}" for name in ("same place", "Kenya_7") for crop in ("crop", "coffee")),
        *(f"other_{crop}" for crop in ("crop", "coffee", "maize")),
    }
    assert "France_1_maize" in tasks_of(data, regions="countries")


def test_a_data_set_far_from_the_evaluation_tasks_has_none_of_them(tmp_path: Path) -> None:
    root = write_world(tmp_path, {"features/arrays/0_made.h5": hdf5(array=measured(0))})
    write_labels(root, [label(0, lat=-30, lon=140)])
    assert CropHarvest(root).benchmarks == []


def test_regions_are_read_from_shapes(tmp_path: Path) -> None:
    geopandas = pytest.importorskip("geopandas")
    from shapely.geometry import Point, box

    path = tmp_path / "zones.gpkg"
    shapes = [box(10, 0, 11, 1), Point(5, 5).buffer(1)]
    frame = geopandas.GeoDataFrame({"zone": ["a", "b"]}, geometry=shapes, crs="EPSG:4326")
    frame.to_crs("EPSG:3857").to_file(path)
    first, second = read_regions(path, name_column="zone")
    assert (first.name, second.name) == ("a", "b")
    found = [first.min_lat, first.max_lat, first.min_lon, first.max_lon]
    np.testing.assert_allclose(found, [0, 1, 10, 11], atol=1e-9)
    assert second.centre == pytest.approx((5, 5), abs=1e-6)
    with pytest.raises(ValueError, match=r"name_column is 'name'.*give one of zone, geometry"):
        read_regions(path)
    frame.assign(name="same").to_file(tmp_path / "twice.geojson")
    with pytest.raises(ValueError, match="repeats the names same"):
        read_regions(tmp_path / "twice.geojson")
    (tmp_path / "text.shp").write_text("no shapes")
    with pytest.raises(ValueError, match="no file of geometries"):
        read_regions(tmp_path / "text.shp")


def test_without_geopandas_the_extra_is_named(
    tmp_path: Path, realcrops: CropHarvest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "geopandas", None)
    (tmp_path / "zones.shp").touch()
    for needs_it in (realcrops.to_geopandas, lambda: read_regions(tmp_path / "zones.shp")):
        with pytest.raises(ImportError, match=r"timl\[geo\]"):
            needs_it()


def test_labels_and_tasks_go_on_a_map(realcrops: CropHarvest) -> None:
    pytest.importorskip("geopandas")
    points = realcrops.to_geopandas()
    assert points.crs.to_epsg() == 4326
    assert len(points) == len(realcrops.labels)
    assert points.geometry.iloc[7].coords[0] == (points["lon"][7], points["lat"][7])
    tasks = meta_tasks(realcrops)
    boxes = tasks.to_geopandas()
    box = tasks[3].bounding_box
    bounds = boxes.geometry.iloc[3].bounds
    assert bounds == (box.min_lon, box.min_lat, box.max_lon, box.max_lat)
    pd.testing.assert_frame_equal(pd.DataFrame(boxes.drop(columns="geometry")), tasks.table())


def test_the_overlap_of_the_real_tasks_is_found(realcrops: CropHarvest) -> None:
    tasks = meta_tasks(realcrops)
    report = overlap_report(tasks)
    described = json.loads((realcrops.root / "benchmark.json").read_text())
    for entry in described:
        rows = report[report["benchmark"] == entry["name"]]
        own, others = rows.iloc[0], rows.iloc[1:]
        assert own["label"] == (entry["target_label"] or "crop")
        assert own["same_label"]
        # the README's smallest distance between a task's training and test samples
        assert own["nearest_km"] == pytest.approx(entry["min_train_test_km"], abs=0.006)
        assert own["target"] == entry["train_positives"]
        # the other labels of the region are there, and share its samples
        region = entry["region"]["name"]
        labels = {t.target_label for t in tasks if t.bounding_box.name == region}
        assert set(others[others["same_region"]]["label"]) == labels
        assert not others["same_label"].any()
        assert (others["shared"] > 0).all()
        assert (others["nearest_km"] >= 2).all()
    assert (report["test_rows"] == 0).all()
    kenya = report[(report["benchmark"] == "kenya_maize") & (report["label"] == "cassava")].iloc[0]
    assert kenya["shared"] == 119 + 73
    assert kenya["target"] == 119  # maize, now among the negatives
    assert 0 < len(report[report["near"] > 0]) <= len(report)
    near = overlap_report(tasks, radius_km=2.2)
    fergana = near[near["benchmark"] == "fergana_rice"]
    assert (fergana["near"] > 0).all()
    assert (near[near["benchmark"] == "kenya_maize"]["near"] == 0).all()


def test_a_withheld_task_left_in_shows_in_the_report(realcrops: CropHarvest) -> None:
    benchmark = realcrops.benchmark("kenya maize")
    report = overlap_report(meta_tasks(realcrops, withhold=False), [benchmark])
    same = report[report["same_region"] & report["same_label"]]
    assert same["shared"].tolist() == [0, 119 + 73]  # the benchmark itself, and the task


def test_overlap_across_borders_and_without_a_test_file(tmp_path: Path) -> None:
    data = world(tmp_path, ("Kenya_maize_2020_0_0",))
    here = BBox(0, 1, 34, 35, "border")
    tasks = meta_tasks(data, [here, BBox(48, 49, 2, 3, "Paris")], k=1, query=2)
    report = overlap_report(tasks)
    kenya = report[report["benchmark"] == "Kenya maize"]
    assert kenya["region"].tolist() == ["Kenya_1", *["border"] * 3]
    assert not kenya["same_region"][1:].any()
    assert kenya["nearest_km"].to_numpy() == pytest.approx(6371.0 * np.radians(0.01), rel=1e-6)
    togo = report[report["benchmark"] == "Togo crop"]
    assert togo["nearest_km"].isna().all()
    with pytest.raises(ValueError, match="radius_km is 0"):
        overlap_report(tasks, radius_km=0)
    other = world(tmp_path / "other")
    with pytest.raises(ValueError, match="'Kenya maize' is of"):
        overlap_report(tasks, other.benchmarks)
