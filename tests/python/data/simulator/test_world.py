"""A simulated world: the record's layout, whole or not at all, the same bytes for a seed."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from itertools import combinations
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from timl.data import BANDS, CropHarvest, meta_tasks, read_regions, simulate
from timl.data.simulator import writing

SMALL: dict[str, Any] = {"countries": 4, "samples": 800}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_CHUNK", 64)  # ten chunks
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    first = contents(simulate(tmp_path / "a", **SMALL, seed=3))
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert contents(simulate(tmp_path / "b", **SMALL, seed=3)) == first
    other = contents(simulate(tmp_path / "c", **SMALL, seed=4))
    assert all(other[name] != first[name] for name in first)


def test_the_files_are_those_of_the_record(simulated: CropHarvest) -> None:
    assert {path.name for path in simulated.root.iterdir()} == {
        *("labels.geojson", "features.tar.gz", "test_features.tar.gz"),
        *("regions.json", "benchmark.json", "world.json", ".timl"),
    }
    archive = gzip.decompress((simulated.root / "features.tar.gz").read_bytes())
    assert int.from_bytes((simulated.root / "features.tar.gz").read_bytes()[4:8], "little") == 0
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = tar.getmembers()
        assert {member.mtime for member in members} == {0}
        assert [member.name for member in members[:2]] == ["features", "features/arrays"]
        assert members[-1].name == "features/normalizing_dict.h5"
        assert len(members) == 3 + len(simulated)
        labels = simulated.labels[simulated.labels["position"] >= 0]
        for row in (0, 1500, len(simulated) - 1):  # a file h5py reads, with its label's series
            label = labels.iloc[row]
            member = tar.extractfile(f"features/arrays/{label['index']}_{label['dataset']}.h5")
            assert member is not None
            with h5py.File(io.BytesIO(member.read())) as file:
                assert file["array"].dtype == np.float64
                stored = simulated.series(label["position"], normalize=False)
                np.testing.assert_array_equal(file["array"][:].astype(np.float32), stored)


def test_it_opens_without_complaint(simulated: CropHarvest) -> None:
    assert len(simulated.report) == 0
    assert simulated.ndvi == "record"
    assert len(simulated.labels) == 8000
    is_test = simulated.labels["is_test"].to_numpy(bool)
    assert ((simulated.labels["position"] < 0) == is_test).all()
    assert is_test.sum() == 600
    values = simulated.series(np.arange(len(simulated))).astype(np.float64).reshape(-1, len(BANDS))
    np.testing.assert_allclose(values.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(values.std(0), 1, atol=1e-4)


def test_two_thirds_have_no_name_and_few_countries_have_most(simulated: CropHarvest) -> None:
    training = simulated.labels[simulated.labels["is_test"] == 0]
    assert training["label"].isna().mean() == pytest.approx(2 / 3, abs=0.01)
    assert training["is_crop"].mean() == pytest.approx(0.6, abs=0.1)
    named = training["dataset"][training["label"].notna()].value_counts()
    assert len(named) == 20
    assert named.iloc[:5].sum() > 0.45 * named.sum()


def test_countries_lie_apart_on_land_latitudes(simulated: CropHarvest) -> None:
    regions = read_regions(simulated.root / "regions.json")
    assert len({region.name for region in regions}) == 20
    for region in regions:
        assert region.min_lat >= -40
        assert region.max_lat <= 60
    for a, b in combinations(regions, 2):
        assert max(a.min_lat, b.min_lat) > min(a.max_lat, b.max_lat) or max(
            a.min_lon, b.min_lon
        ) > min(a.max_lon, b.max_lon)


def test_there_are_about_a_hundred_tasks(simulated: CropHarvest) -> None:
    tasks = meta_tasks(simulated)
    assert 85 <= len(tasks) <= 120
    table = tasks.table()
    assert table["region"].nunique() == 20
    assert (table["label"] == "crop").sum() == 19  # one is withheld
    assert table["classification_label"].nunique() == 11


def test_the_benchmark_file_tells_what_the_tasks_are(simulated: CropHarvest) -> None:
    entries = json.loads((simulated.root / "benchmark.json").read_text())
    assert [entry["target_label"] for entry in entries] == ["maize", "sunflower", None]
    for entry, benchmark in zip(entries, simulated.benchmarks, strict=True):
        assert entry["train_positives"] == len(benchmark.positives) >= 20
        assert entry["train_negatives"] == len(benchmark.negatives) >= 20
        test = benchmark.test
        assert entry["test_positives"] == (test.y == 1).sum() >= 50
        assert entry["test_negatives"] == (test.y == 0).sum() >= 50
        assert ((test.y == -1).sum() > 0) == (entry["target_label"] is not None)


def test_test_samples_lie_kilometres_from_training_samples(simulated: CropHarvest) -> None:
    labels = simulated.labels[simulated.labels["position"] >= 0]
    for entry, benchmark in zip(
        json.loads((simulated.root / "benchmark.json").read_text()),
        simulated.benchmarks,
        strict=True,
    ):
        test = benchmark.test
        assert benchmark.task.bounding_box.contains(test.lats, test.lons).all()
        lats, lons = np.radians(labels["lat"].to_numpy()), np.radians(labels["lon"].to_numpy())
        least = np.inf
        for lat, lon in zip(np.radians(test.lats), np.radians(test.lons), strict=True):
            half = np.sin((lats - lat) / 2) ** 2
            half += np.cos(lat) * np.cos(lats) * np.sin((lons - lon) / 2) ** 2
            least = min(least, 2 * 6371 * np.arcsin(np.sqrt(half.min())))
        assert least == pytest.approx(entry["min_train_test_km"], abs=0.01)
        assert least > 5


@pytest.mark.parametrize("countries", [1, 2, 7])
def test_small_worlds_are_whole(tmp_path: Path, countries: int) -> None:
    data = CropHarvest(
        simulate(tmp_path / "w", countries, max(800, 200 * countries), seed=countries)
    )
    assert len(data.report) == 0
    for benchmark in data.benchmarks:
        assert set(np.unique(benchmark.test.y)) >= {0, 1}
        assert min(len(benchmark.positives), len(benchmark.negatives)) >= 10


def test_progress_goes_from_nothing_to_all(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    simulate(tmp_path / "w", **SMALL, progress=lambda made, total: told.append((made, total)))
    assert told == sorted(told)
    assert told[-1] == (800, 800)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"countries": 0}, ValueError, "countries is 0: give 1 to 540"),
        ({"countries": 541}, ValueError, "countries is 541: give 1 to 540"),
        ({"samples": 799}, ValueError, "samples is 799: give at least 800 for 4 countries"),
        ({"countries": 20}, ValueError, "samples is 800: give at least 4000 for 20 countries"),
        ({"seed": -1}, ValueError, "seed is -1"),
        ({"seed": 2**64}, ValueError, "seed is 18446744073709551616"),
        ({"seed": 1.5}, TypeError, "seed is 1.5: give an integer"),
    ],
)
def test_bad_arguments_are_told(
    tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        simulate(tmp_path / "w", **(SMALL | arguments))
    assert not list(tmp_path.iterdir())


def test_only_a_simulated_world_is_replaced(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"other, which is no simulated world"):
        simulate(other, **SMALL)
    assert contents(other) == {"thesis.txt": b"mine"}
    world = tmp_path / "made" / "world"
    before = contents(simulate(world, **SMALL, seed=0))
    after = contents(simulate(world, **SMALL, seed=1))
    assert after.keys() == before.keys()
    assert after["labels.geojson"] != before["labels.geojson"]
    assert list(world.parent.iterdir()) == [world]


@pytest.mark.parametrize("there", [False, True])
def test_an_interrupted_world_leaves_what_was_there(tmp_path: Path, there: bool) -> None:
    before = contents(simulate(tmp_path / "w", **SMALL)) if there else {}

    def stop(made: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "w", **SMALL, seed=1, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["w"] * there
    assert not there or contents(tmp_path / "w") == before
