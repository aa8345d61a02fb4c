"""The data set as its users see it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from timl.data import CropHarvest, meta_tasks
from worlds import hdf5, label, measured, write_labels

World = Callable[..., Path]


def test_labels_know_their_series(world: World) -> None:
    root = world()
    write_labels(root, [label(i) for i in (4, 0, 99, 2, 1)])
    data = CropHarvest(root)
    assert data.labels["position"].tolist() == [4, 0, -1, 2, 1]
    assert len(data) == 5
    assert data.report.values.tolist() == [["3_made.h5", "no row in labels.geojson"]]
    series = data.series(data.labels["position"][[0, 1]])
    expected = (np.stack([measured(4), measured(0)]).astype(np.float32) - data.mean) / data.std
    np.testing.assert_allclose(series, expected, rtol=1e-6)
    assert series.dtype == np.float32
    np.testing.assert_array_equal(data.series([[2]], normalize=False)[0, 0, 0, 0], 2)
    assert data.benchmarks == []
    with pytest.raises(ValueError, match="give one of none"):
        data.benchmark("kenya_maize")
    with pytest.raises(ValueError, match="no task has 14 positives"):
        meta_tasks(data)  # the countries' boxes, where there is no regions.json


def test_positions_out_of_range_are_refused(world: World) -> None:
    write_labels(world(), [label(0)])
    data = CropHarvest(world())
    with pytest.raises(IndexError, match=r"positions is from -1 to 3: give integers in \[0, 5\)"):
        data.series([3, -1])
    with pytest.raises(TypeError, match="float64"):
        data.series([0.5])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a GeoJSON file"),
        ("[]", "not a GeoJSON file"),
        (json.dumps({"features": [{}]}), "lack the properties index"),
        (json.dumps({"features": [{"properties": {"index": 1}}]}), "lack the properties dataset"),
        (json.dumps({"features": [label(0, lat="north")]}), "not one of 1 features"),
    ],
)
def test_wrong_labels_are_refused_before_anything_is_written(
    world: World, content: str, message: str
) -> None:
    (world() / "labels.geojson").write_text(content)
    with pytest.raises(ValueError, match=message):
        CropHarvest(world())
    assert not (world() / ".timl").exists()


def test_missing_folders_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere, which is not a folder"):
        CropHarvest(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"labels\.geojson"):
        CropHarvest(tmp_path)


def benchmark(**replaced: Any) -> dict[str, Any]:
    region = {"name": "here", "min_lat": 0, "max_lat": 1, "min_lon": 10, "max_lon": 11}
    return {
        "name": "here_maize",
        "region": region,
        "target_label": "maize",
        "classification_label": "cereals",
        "balance_negative_crops": True,
        "test_file": "made_crop.h5",
    } | replaced


def test_a_benchmark_gives_training_and_test_data(world: World, tmp_path: Path) -> None:
    write_labels(world(), [label(i, label="maize" if i < 2 else "wheat") for i in range(5)])
    path = tmp_path / "own.json"
    path.write_text(json.dumps([benchmark()]))
    data = CropHarvest(world(), benchmarks=path)
    for name in ("here_maize", "Here maize", "HERE-MAIZE"):
        assert data.benchmark(name) is data.benchmarks[0]
    task = data.benchmark("here maize")
    assert task.positives.tolist() == [0, 1]
    assert task.negatives.tolist() == [2, 3, 4]
    x, y = task.train_arrays()
    assert y.tolist() == [1, 1, 0, 0, 0]
    np.testing.assert_array_equal(x, data.series(range(5)))
    np.testing.assert_array_equal(task.info, task.task.info)
    test = task.test
    assert test.y.tolist() == [1, 0, -1]
    assert test.y.dtype == np.int8
    expected = (measured(101).astype(np.float32) - data.mean) / data.std
    np.testing.assert_allclose(test.x[1], expected, rtol=1e-6)
    assert len(test) == len(test.lats) == len(test.lons) == 3


def test_benchmark_samples_are_balanced_and_repeatable(realcrops: CropHarvest) -> None:
    task = realcrops.benchmark("Fergana rice")
    x, y = task.sample(10, seed=0)
    assert y.tolist() == [1] * 10 + [0] * 10
    assert len(np.unique(x.reshape(20, -1), axis=0)) == 20
    np.testing.assert_array_equal(task.sample(10, seed=0)[0], x)
    for other in (task.sample(10, seed=1), task.sample(10, seed=0, step=1)):
        assert (other[0] != x).any()
    with pytest.raises(ValueError, match=r"k is 16.*15 positives and 648 negatives: give 1 to 15"):
        task.sample(16, seed=0)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (1, "entry 0 is a int: give a benchmark"),
        (benchmark(region="here"), "region is a str: give an object"),
        (benchmark(test_file=None), "'test_file' is None: give str"),
        (benchmark(target_label=3), "'target_label' is 3: give str or null"),
        ({"name": "a"}, "'target_label' is None: give str"),
    ],
)
def test_a_wrong_benchmark_file_is_refused(world: World, entry: object, message: str) -> None:
    write_labels(world(), [label(0)])
    (world() / "benchmark.json").write_text(json.dumps([entry]))
    with pytest.raises(ValueError, match=message):
        CropHarvest(world())


def test_a_missing_test_file_is_named(world: World) -> None:
    write_labels(world(), [label(0)])
    (world() / "benchmark.json").write_text(json.dumps([benchmark(test_file="other.h5")]))
    with pytest.raises(FileNotFoundError, match=r"identifier is 'other'.*give one of made_crop"):
        _ = CropHarvest(world()).benchmarks[0].test


def test_tables_show_themselves(realcrops: CropHarvest) -> None:
    assert "worldcrops-kenya" in realcrops._repr_html_()
    assert "14134 training series, 3 benchmarks, NDVI true" in repr(realcrops)
    assert "Canada-British-Columbia" in meta_tasks(realcrops)._repr_html_()
    assert realcrops.report.empty


def test_the_benchmarks_of_the_real_data_set_are_those_of_its_file(realcrops: CropHarvest) -> None:
    described = json.loads((realcrops.root / "benchmark.json").read_text())
    for entry in described:
        task = realcrops.benchmark(entry["name"])
        assert len(task.positives) == entry["train_positives"]
        assert len(task.negatives) == entry["train_negatives"]
        y = task.test.y
        assert (int((y == 1).sum()), int((y == 0).sum())) == (
            entry["test_positives"],
            entry["test_negatives"],
        )
        here = task.task.bounding_box
        assert here.contains(task.test.lats, task.test.lons).all()


def test_series_without_labels_do_not_become_samples(world: World) -> None:
    root = world({"features/arrays/7_other.h5": hdf5(array=measured(7))})
    write_labels(root, [label(i) for i in range(5)])
    assert CropHarvest(root).report["file"].tolist() == ["7_other.h5"]
