"""Writing a small world in the record's layout."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

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
