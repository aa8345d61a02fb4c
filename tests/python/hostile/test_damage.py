"""Archives, HDF5, checkpoints and maps with damaged bytes: read or refused, in a bounded time."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import timl
from damage import Reader, damages
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from timl.data.record.archives import Skipped
from timl.data.record.store import open_store
from worlds import Files, hdf5, measured, tar

FUZZ = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
HEADS = st.sampled_from([100, 1000, 10**9])
"""Where the damage is: in the first bytes, which say what the others are, or anywhere."""


@pytest.mark.parametrize(("door", "told"), [("crash", "the reader ended: -6"), ("error", "Zero")])
def test_a_crash_would_be_noticed(tmp_path: Path, door: str, told: str) -> None:
    reader = Reader()
    for _ in range(2):  # another process takes its place
        with pytest.raises(AssertionError, match=told):
            reader.require_read_or_refused(door, tmp_path)
    reader.close()


# --- HDF5 ----------------------------------------------------------------------------------------


def compressed() -> bytes:
    import io

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("array", data=measured(1), chunks=(4, 18), compression="gzip")
    return buffer.getvalue()


@pytest.mark.parametrize("made", ["plain", "compressed"])
@FUZZ
@given(data=st.data())
def test_a_damaged_series_is_read_or_refused(
    reader: Reader, tmp_path: Path, made: str, data: st.DataObject
) -> None:
    contents = hdf5(array=measured(1)) if made == "plain" else compressed()
    path = tmp_path / "damaged.h5"
    path.write_bytes(data.draw(damages(contents, data.draw(HEADS))))
    reader.require_read_or_refused("series", path)


@FUZZ
@given(data=st.data())
def test_a_damaged_test_file_is_read_or_refused(
    reader: Reader, tmp_path: Path, data: st.DataObject
) -> None:
    x = np.stack([measured(i) for i in range(3)])
    contents = hdf5(x=x, y=np.array([1, 0, -1]), lats=np.zeros(3), lons=np.ones(3))
    path = tmp_path / "damaged.h5"
    path.write_bytes(data.draw(damages(contents, data.draw(HEADS))))
    reader.require_read_or_refused("test", path)


# --- archives ------------------------------------------------------------------------------------


@pytest.mark.parametrize("within", ["the compressed bytes", "the archive"])
@pytest.mark.parametrize("salvage", [False, True])
@FUZZ
@given(data=st.data())
def test_a_damaged_archive_never_gives_other_series(
    features: Files, tmp_path: Path, within: str, salvage: bool, data: st.DataObject
) -> None:
    plain = tar(features)
    shutil.rmtree(tmp_path / "world", ignore_errors=True)
    root = tmp_path / "world"
    root.mkdir()
    if within == "the archive":  # of 5 files of 2 blocks and a header
        contents = gzip.compress(data.draw(damages(plain, data.draw(HEADS))), mtime=0)
    else:
        contents = data.draw(damages(gzip.compress(plain, mtime=0), data.draw(HEADS)))
    (root / "features.tar.gz").write_bytes(contents)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            store = open_store(root, salvage=salvage)
    except ValueError as error:
        assert str(root) in str(error)
        return
    assert len(store.series) <= 2 * len(features)
    assert np.isfinite(store.series).all()
    assert all(isinstance(skipped, Skipped) for skipped in store.skipped)


# --- checkpoints ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small model, which no test may change."""
    folder = tmp_path_factory.mktemp("model")
    timl.TIML(bands=4, steps=3, hidden=8, info_size=5, encoder_sizes=(16,)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("sums", ["kept", "made to fit"])
@FUZZ
@given(data=st.data())
def test_damaged_weights_are_read_or_refused(
    reader: Reader, model: Path, tmp_path: Path, sums: str, data: st.DataObject
) -> None:
    there = tmp_path / "model"
    shutil.copytree(model, there, dirs_exist_ok=True)
    contents = data.draw(damages((model / "model.safetensors").read_bytes(), data.draw(HEADS)))
    (there / "model.safetensors").write_bytes(contents)
    if sums == "made to fit":
        stored = json.loads((there / "config.json").read_text())
        stored["sha256"] = hashlib.sha256(contents).hexdigest()
        (there / "config.json").write_text(json.dumps(stored))
    told = reader.require_read_or_refused("model", there)
    if sums == "kept" and contents != (model / "model.safetensors").read_bytes():
        assert told == "refused"


@FUZZ
@given(data=st.data())
def test_a_damaged_configuration_is_read_or_refused(
    reader: Reader, model: Path, tmp_path: Path, data: st.DataObject
) -> None:
    there = tmp_path / "model"
    shutil.copytree(model, there, dirs_exist_ok=True)
    contents = (model / "config.json").read_bytes()
    (there / "config.json").write_bytes(data.draw(damages(contents, 10**9)))
    reader.require_read_or_refused("model", there)


@pytest.fixture(scope="module")
def authors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the authors' files of a small model."""
    import torch

    folder = tmp_path_factory.mktemp("authors")
    small = timl.TIML(bands=4, steps=12, hidden=8, info_size=5, encoder_sizes=(16,)).eval()
    classifier, encoder = small.authors_state_dicts()
    torch.save(classifier, folder / "state_dict.pth")
    torch.save(encoder, folder / "encoder_state_dict.pth")
    return folder


@pytest.mark.parametrize("name", ["state_dict.pth", "encoder_state_dict.pth"])
@settings(parent=FUZZ, max_examples=30)
@given(data=st.data())
def test_damaged_files_of_the_authors_are_read_or_refused(
    reader: Reader, authors: Path, tmp_path: Path, name: str, data: st.DataObject
) -> None:
    there = tmp_path / "authors"
    shutil.copytree(authors, there, dirs_exist_ok=True)
    contents = (authors / name).read_bytes()
    (there / name).write_bytes(data.draw(damages(contents, data.draw(HEADS))))
    reader.require_read_or_refused("model", there)


# --- maps ----------------------------------------------------------------------------------------


@FUZZ
@given(data=st.data())
def test_a_damaged_map_is_read_or_refused(
    reader: Reader, tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / "map.tif"
    if not path.exists():
        write_class_map(path)
        shutil.copy(path, tmp_path / "whole.tif")
    contents = (tmp_path / "whole.tif").read_bytes()
    path.write_bytes(data.draw(damages(contents, data.draw(HEADS))))
    reader.require_read_or_refused("map", path)


def write_class_map(path: Path) -> None:
    """Write a map of two classes in 20 x 20 pixels."""
    rasterio = pytest.importorskip("rasterio")
    options: dict[str, Any] = {"driver": "GTiff", "dtype": "uint8", "crs": "EPSG:4326"}
    with rasterio.open(
        path, "w", count=1, width=20, height=20, compress="deflate",
        transform=rasterio.Affine(1e-4, 0, 34, 0, -1e-4, 1), **options,
    ) as file:  # fmt: skip
        file.write((np.arange(400).reshape(1, 20, 20) % 2).astype(np.uint8))
        file.set_band_description(1, "class")


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\0v\0{}", b"\x80\x04N."])
def test_a_damaged_window_of_a_map_is_removed_and_named(tmp_path: Path, content: bytes) -> None:
    from timl.data.sources.windows import Window
    from timl.maps.writing import Parts

    parts = Parts(tmp_path / "m.tif", {"predictor": "a"}, [Window(0, 0, 2, 2)])
    parts.path(0).write_bytes(content)
    with pytest.raises(OSError, match=r"0000000\.npy is damaged, and was removed") as raised:
        parts.read(0)
    assert "pickle" not in str(raised.value)
    assert parts.missing() == [0]


@pytest.mark.parametrize("plan", [b"", b"\xff\xfe", b"[" * 1000])
def test_windows_of_an_unreadable_plan_are_not_used(tmp_path: Path, plan: bytes) -> None:
    from timl.data.sources.windows import Window
    from timl.maps.writing import Parts

    parts = Parts(tmp_path / "m.tif", {"predictor": "a"}, [Window(0, 0, 2, 2)])
    parts.write(0, np.zeros((1, 2, 2), np.float32))
    (parts.folder / "plan.json").write_bytes(plan)
    assert Parts(tmp_path / "m.tif", {"predictor": "a"}, parts.windows).missing() == [0]


# --- Zarr ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metadata",
    [
        "[" * 100_000, "{", "", "null", '{"zarr_format": 99}',
        '{"zarr_format": 3, "node_type": "group", "attributes": {}}',
    ],
)  # fmt: skip
def test_a_store_of_something_else_is_refused(tmp_path: Path, metadata: str) -> None:
    pytest.importorskip("zarr")
    from timl.maps import open_cube

    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "zarr.json").write_text(metadata)
    with pytest.raises(ValueError, match=r"source is .*a\.zarr, .* Zarr store.*: give another"):
        open_cube(tmp_path / "a.zarr")
