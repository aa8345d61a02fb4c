"""Writing a small world in the record's layout."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from timl.data.record.store import Store, open_store

Files = dict[str, bytes]


def hdf5(**datasets: Any) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, values in datasets.items():
            file[name] = values
    return buffer.getvalue()


def measured(number: int) -> np.ndarray:
    """A series whose last band is the true NDVI and which tells its number."""
    series = np.random.default_rng(number).uniform(100, 5000, (12, 18))
    series[0, 0] = number
    series[:, 17] = (series[:, 8] - series[:, 4]) / (series[:, 8] + series[:, 4])
    return series


def tar(files: Files) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, contents in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(contents)
            archive.addfile(member, io.BytesIO(contents))
    return buffer.getvalue()


def write_world(
    root: Path, features: Files, tests: Files | None = None, archived: bool = True
) -> Path:
    """Write features and test files under ``root``, as archives or unpacked, and no labels."""
    root.mkdir(parents=True, exist_ok=True)
    for stem, files in (("features", features), ("test_features", tests or {})):
        if archived and files:
            (root / f"{stem}.tar.gz").write_bytes(gzip.compress(tar(files), mtime=0))
        for name, contents in {} if archived else files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(contents)
    return root


def write_benchmarked_world(root: Path, seed: int = 0) -> Path:
    """Write four regions of 40 samples, two of them with a benchmark, whose crops are greener."""
    rng = np.random.default_rng(seed)
    features, labels, regions, benchmarks, tests = {}, [], [], [], {}

    def series(is_crop: int) -> np.ndarray:
        made = measured(int(rng.integers(10_000)))
        made[:, 7] += 1500 * is_crop
        return made

    for region in range(4):
        box = {"name": f"R{region}", "min_lat": region, "max_lat": region + 0.9}
        regions.append(box | {"min_lon": 0, "max_lon": 1})
        for number in range(40):
            index, is_crop = 40 * region + number, number % 2
            features[f"features/arrays/{index}_made.h5"] = hdf5(array=series(is_crop))
            labels.append(label(index, is_crop=is_crop, lat=region + 0.5, lon=0.5))
        if region < 2:
            y = np.array([1, 0, -1] * 8)
            x = np.stack([series(max(0, one)) for one in y])
            contents = hdf5(x=x, y=y, lats=np.zeros(24), lons=np.zeros(24))
            tests[f"test_features/test_{region}.h5"] = contents
            benchmarks.append(
                {
                    "name": f"world_{region}",
                    "region": regions[-1],
                    "target_label": None,
                    "classification_label": "crop",
                    "balance_negative_crops": False,
                    "test_file": f"test_{region}.h5",
                }
            )
    write_world(root, features, tests)
    write_labels(root, labels)
    (root / "regions.json").write_text(json.dumps(regions))
    (root / "benchmark.json").write_text(json.dumps(benchmarks))
    return root


def label(index: float, **properties: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "index": index,
        "dataset": "made",
        "is_crop": 1,
        "lat": 0.5,
        "lon": 10.5,
        "label": None,
        "classification_label": None,
        "is_test": False,
    }
    return {"type": "Feature", "properties": defaults | properties, "geometry": None}


def write_labels(root: Path, features: list[dict[str, Any]]) -> None:
    collection = {"type": "FeatureCollection", "features": features}
    (root / "labels.geojson").write_text(json.dumps(collection))


def stores(root: Path) -> list[str]:
    """Names in the folder of stores, without the lock file."""
    return [path.name for path in (root / ".timl").iterdir() if path.name != "lock"]


def packed(root: Path, **options: bool) -> tuple[Store, dict[str, str]]:
    """Open a store and give the reasons of what was left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        store = open_store(root, **options)
    return store, dict(store.skipped)
