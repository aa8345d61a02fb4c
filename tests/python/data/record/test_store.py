"""Packing: once, whole or not at all, and without trusting the source."""

from __future__ import annotations

import gzip
import io
import multiprocessing
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from timl.data.record import packing
from timl.data.record import store as store_module
from timl.data.record.ndvi import NdviMeter
from timl.data.record.store import Store, open_store
from worlds import Files, hdf5, measured, packed, stores, tar, write_world

World = Callable[..., Path]


def contents(store: Store) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.folder.iterdir()}


def test_a_store_holds_what_the_files_hold(world: World) -> None:
    store = open_store(world())
    assert store.folder.parent == world() / ".timl"
    assert isinstance(store.series, np.memmap)
    assert store.series.dtype == np.float32
    for position, index in enumerate(store.index):
        np.testing.assert_array_equal(store.series[position], measured(index).astype(np.float32))
    assert store.dataset.tolist() == ["made"] * 5
    assert store.tests == {"made_crop": (0, 3)}
    np.testing.assert_array_equal(store.test["x"][2], measured(102).astype(np.float32))
    assert store.test["y"].tolist() == [1, 0, -1]
    assert store.ndvi == "true"
    assert store.skipped == ()
    values = store.series.reshape(-1, 18).astype(np.float64)
    np.testing.assert_allclose(store.mean, values.mean(0), rtol=1e-12)
    np.testing.assert_allclose(store.std, values.std(0), rtol=1e-12)


def test_archives_and_folders_give_the_same_bytes_every_time(world: World) -> None:
    opened = [
        open_store(world(name="a")),
        open_store(world(name="b")),
        open_store(world(name="c", archived=False)),
    ]
    first = contents(opened[0])
    assert len(first) == 8
    assert contents(opened[1]) == first
    # The manifest also describes the source, which is another one.
    assert contents(opened[2]) | {"store.json": b""} == first | {"store.json": b""}


def test_given_statistics_are_taken_and_wrong_ones_are_not(world: World) -> None:
    mean, std = np.arange(18.0), np.arange(1.0, 19.0)
    store = open_store(world({"features/normalizing_dict.h5": hdf5(mean=mean, std=std)}))
    assert store.mean.tolist() == mean.tolist()
    assert store.std.tolist() == std.tolist()
    wrong = {"features/normalizing_dict.h5": hdf5(mean=mean, std=std * 0)}
    store, reasons = packed(world(wrong, name="wrong"))
    assert "std is not positive" in reasons["features/normalizing_dict.h5"]
    assert store.mean[0] != 0


def test_a_constant_band_has_deviation_one(tmp_path: Path) -> None:
    series = measured(0)
    series[:, 10] = 988.4
    others = np.arange(18) != 10
    files = {f"features/arrays/{i}_a.h5": hdf5(array=series * (1 + i * others)) for i in range(3)}
    assert open_store(write_world(tmp_path, files)).std[10] == 1


def measure_ndvi(series: np.ndarray) -> str:
    meter = NdviMeter()
    for block in np.array_split(series, 2):
        meter.add(block)
    return meter.result()


def test_the_ndvi_is_measured() -> None:
    series = np.stack([measured(i) for i in range(4)]).astype(np.float32)
    assert measure_ndvi(series) == "true"
    series[..., 17] = (series[..., 7] - series[..., 3]) / (series[..., 7] + series[..., 3])
    assert measure_ndvi(series) == "record"
    assert measure_ndvi(series * 0) == "unknown"
    series[..., 17] = 0.3
    assert measure_ndvi(series) == "unknown"


def linked(target: Path) -> bytes:
    """A file whose dataset is a link to another file."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["array"] = h5py.ExternalLink(str(target), "array")
    return buffer.getvalue()


def test_bad_files_are_reported_and_the_rest_is_packed(tmp_path: Path, world: World) -> None:
    secret = tmp_path / "secret.h5"
    secret.write_bytes(hdf5(array=measured(9)))
    holed, infinite, huge = measured(1), measured(2), measured(3)
    holed[3, 3], infinite[0, 0], huge[0, 0] = np.nan, np.inf, 1e300
    good = hdf5(array=measured(9))
    bad = {
        "features/arrays/10_made.h5": (good[: len(good) // 2], "not a readable HDF5 file"),
        "features/arrays/11_made.h5": (b"", "not a readable HDF5 file"),
        "features/arrays/12_made.h5": (
            hdf5(array=measured(9)[:11]),
            "shape [11, 18], not [12, 18]",
        ),
        "features/arrays/13_made.h5": (hdf5(other=measured(9)), "has no dataset 'array'"),
        "features/arrays/14_made.h5": (hdf5(array=holed), "NaN"),
        "features/arrays/15_made.h5": (hdf5(array=infinite), "infinite"),
        "features/arrays/16_made.h5": (hdf5(array=huge), "infinite"),
        "features/arrays/17_made.h5": (linked(secret), "has no dataset 'array'"),
        "features/arrays/18_made.h5": (hdf5(array=[["a"] * 18] * 12), "not a readable HDF5 file"),
        "features/arrays/x_made.h5": (good, "unexpected name"),
        "features/arrays/19_made.txt": (good, "unexpected name"),
        "features/notes.txt": (b"hello", "unexpected name"),
    }
    root = world({name: contents for name, (contents, _) in bad.items()})
    with pytest.warns(UserWarning, match="12 files or labels were left out"):
        store = open_store(root)
    assert store.index.tolist() == [0, 1, 2, 3, 4]
    reasons = dict(store.skipped)
    assert reasons.keys() == bad.keys()
    for name, (_, reason) in bad.items():
        assert reason in reasons[name], name


def test_names_that_lead_out_of_the_folder_are_never_followed(
    tmp_path: Path, features: Files
) -> None:
    good = hdf5(array=measured(9))
    hostile = {
        "../../features/arrays/20_made.h5": good,
        "/features/arrays/21_made.h5": good,
        "features/arrays/../arrays/22_made.h5": good,
        "features/arrays/23_../../x.h5": good,
        "features/arrays/24_\x1b[2J.h5": good,
    }
    root = write_world(tmp_path / "world", features | hostile)
    before = set(tmp_path.rglob("*"))
    store, reasons = packed(root)
    assert len(store.series) == 5
    assert set(reasons.values()) == {"unexpected name"}
    assert len(reasons) == len(hostile)
    assert not any("\x1b" in name for name in reasons)
    assert {p for p in set(tmp_path.rglob("*")) - before if ".timl" not in p.parts} == set()


def test_links_and_devices_in_an_archive_are_not_followed(tmp_path: Path, features: Files) -> None:
    buffer = io.BytesIO(tar(features))
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        for number, kind in ((30, tarfile.SYMTYPE), (31, tarfile.LNKTYPE), (32, tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(f"features/arrays/{number}_made.h5")
            member.type, member.linkname = kind, "features/arrays/0_made.h5"
            archive.addfile(member)
    (tmp_path / "features.tar.gz").write_bytes(gzip.compress(buffer.getvalue()))
    store, reasons = packed(tmp_path)
    assert len(store.series) == 5
    assert list(reasons.values()) == ["not a regular file"] * 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda blob, plain: blob[: len(blob) * 3 // 5],
        lambda blob, plain: blob[:-4] + b"\0\0\0\1",
        lambda blob, plain: blob[:-8] + b"\0\0\0\0" + blob[-4:],
        lambda blob, plain: gzip.compress(plain[: len(plain) * 3 // 5]),
        lambda blob, plain: gzip.compress(broken_header(plain)),
    ],
    ids=["cut short", "wrong length", "wrong sum", "tar cut short", "broken header"],
)
def test_a_damaged_archive_is_refused_or_salvaged_on_request(
    damage: Callable[[bytes, bytes], bytes], world: World
) -> None:
    root = world()
    archive = root / "features.tar.gz"
    blob = archive.read_bytes()
    archive.write_bytes(damage(blob, gzip.decompress(blob)))
    with pytest.raises(ValueError, match=r"features\.tar\.gz.*damaged.*bytes read.*salvage=True"):
        open_store(root)
    assert stores(root) == []
    store, reasons = packed(root, salvage=True)
    assert "damaged or cut short" in reasons["features.tar.gz"]
    with pytest.warns(UserWarning, match="damaged or cut short"):
        open_store(root)
    for position, index in enumerate(store.index):
        np.testing.assert_array_equal(store.series[position], measured(index).astype(np.float32))


def broken_header(plain: bytes) -> bytes:
    """Overwrite the third member's name, so that the sum of its header is wrong."""
    start = plain.index(b"features/arrays/2_made.h5")
    return plain[:start] + b"#" * 10 + plain[start + 10 :]


def test_the_same_file_twice_counts_once(tmp_path: Path, features: Files) -> None:
    twice = tar(features)
    buffer = io.BytesIO(twice)
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        other = hdf5(array=measured(77))
        member = tarfile.TarInfo("features/arrays/0_made.h5")
        member.size = len(other)
        archive.addfile(member, io.BytesIO(other))
    (tmp_path / "features.tar.gz").write_bytes(gzip.compress(buffer.getvalue()))
    store, reasons = packed(tmp_path)
    assert reasons == {"features/arrays/0_made.h5": "a second file of this name"}
    np.testing.assert_array_equal(store.series[0], measured(0).astype(np.float32))


@pytest.mark.parametrize(
    ("replaced", "reason"),
    [
        ({"y": [1, 0, 2]}, "other than 1, 0 and -1"),
        ({"y": [1, 0]}, "y has shape [2], not [3]"),
        ({"lats": [0, np.nan, 0]}, "lats or lons"),
        ({"x": np.zeros((3, 12, 17))}, "x has shape [3, 12, 17]"),
        ({"x": np.zeros((0, 12, 18))}, "x has shape [0, 12, 18]"),
    ],
)
def test_bad_test_files_are_reported(
    tmp_path: Path, features: Files, replaced: dict[str, object], reason: str
) -> None:
    fields = {"x": np.zeros((3, 12, 18)), "y": [1, 0, -1], "lats": [0.0] * 3, "lons": [0.0] * 3}
    root = write_world(tmp_path, features, {"test_features/a.h5": hdf5(**(fields | replaced))})
    store, reasons = packed(root)
    assert reason in reasons["test_features/a.h5"]
    assert store.tests == {}
    assert len(store.series) == 5


def test_nothing_readable_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"features\.tar\.gz"):
        open_store(tmp_path)
    root = write_world(tmp_path, {"features/arrays/0_a.h5": b"nonsense"})
    with pytest.raises(ValueError, match="not one series could be read"):
        open_store(root)
    assert stores(root) == []


def test_stopped_midway_leaves_nothing_and_can_be_repeated(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = world()

    def stop(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(packing, "_pack_tests", stop)
        with pytest.raises(KeyboardInterrupt):
            open_store(root)
    assert stores(root) == []
    assert len(open_store(root).series) == 5


def test_a_store_is_used_again_until_the_source_changes(
    world: World, features: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = world()
    first = open_store(root)
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "pack", None)
        assert open_store(root).folder == first.folder
    status = (root / "features.tar.gz").stat()
    write_world(root, features | {"features/arrays/7_made.h5": hdf5(array=measured(7))})
    os.utime(root / "features.tar.gz", ns=(status.st_atime_ns, status.st_mtime_ns))
    second = open_store(root)
    assert second.index.tolist() == [0, 1, 2, 3, 4, 7]
    assert stores(root) == [second.folder.name]
    os.utime(root / "features.tar.gz")
    assert open_store(root).folder != second.folder


def test_a_changed_file_of_an_unpacked_source_is_noticed(world: World) -> None:
    root = world(archived=False)
    open_store(root)
    (root / "features/arrays/0_made.h5").write_bytes(hdf5(array=measured(50)))
    np.testing.assert_array_equal(open_store(root).series[0], measured(50).astype(np.float32))


@pytest.mark.parametrize("file", ["series.npy", "store.json", "index.npy"])
def test_a_broken_store_is_made_again(world: World, file: str) -> None:
    root = world()
    store = open_store(root)
    whole = contents(store)
    path = store.folder / file
    path.write_bytes(whole[file][: len(whole[file]) // 2])
    assert contents(open_store(root)) == whole
    path.unlink()
    assert contents(open_store(root)) == whole


def test_a_read_only_source_is_packed_into_the_users_cache(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = world()
    root.chmod(0o555)
    try:
        store = open_store(root)
        assert not (root / ".timl").exists()
        assert (tmp_path / "cache" / "timl") in store.folder.parents
        assert open_store(root).folder == store.folder
    finally:
        root.chmod(0o755)


def test_a_given_cache_keeps_data_sets_apart(world: World, tmp_path: Path) -> None:
    a, b = world(name="a"), world({"features/arrays/7_a.h5": hdf5(array=measured(7))}, name="b")
    opened = [open_store(root, tmp_path / "cache") for root in (a, b, a)]
    assert [len(store.series) for store in opened] == [5, 6, 5]
    assert opened[0].folder == opened[2].folder
    assert not (a / ".timl").exists()


def _open(root: Path, start: multiprocessing.synchronize.Barrier) -> None:
    start.wait()
    assert len(open_store(root).series) == 5


def test_two_processes_may_pack_at_once(world: World) -> None:
    root = world()
    context = multiprocessing.get_context("fork")
    start = context.Barrier(3)
    processes = [context.Process(target=_open, args=(root, start)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert stores(root) == [open_store(root).folder.name]
