"""Processes that race, die or run out of space: a whole store or none, and the next one works."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from timl import files
from timl.data.record import packing, store
from timl.data.record.store import open_store, verify_store
from worlds import hdf5, measured, stores

World = Callable[..., Path]
fork = multiprocessing.get_context("fork")


def run(target: Callable[..., object], *arguments: object) -> int | None:
    process = fork.Process(target=target, args=arguments)
    process.start()
    process.join(30)
    return process.exitcode


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (packing, "_pack_tests"),
        (packing, "write_manifest"),
        (packing, "_write_header"),
        (store, "pack"),
        (files, "sync_folder"),
        (os, "rename"),
        (store, "_load"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_process_killed_while_packing_leaves_a_whole_store_or_none(
    world: World, monkeypatch: pytest.MonkeyPatch, place: Any, name: str
) -> None:
    root = world()
    with monkeypatch.context() as patch:
        patch.setattr(place, name, die)
        assert run(open_store, root) == -signal.SIGKILL
    opened = open_store(root)
    verify_store(opened, root)
    assert len(opened.series) == 5
    assert [path.name for path in (root / ".timl").iterdir()] in (
        ["lock", opened.folder.name],
        [opened.folder.name, "lock"],
    )


def test_a_process_killed_while_replacing_a_store_leaves_a_whole_one_or_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = world()
    open_store(root)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", die)
        assert run(lambda: open_store(root, again=True)) == -signal.SIGKILL
    verify_store(open_store(root), root)


def slow_pack(count: Any, *arguments: Any, **options: Any) -> None:
    with count.get_lock():
        count.value += 1
    time.sleep(0.3)
    packing.pack(*arguments, **options)


def test_of_several_processes_one_packs_and_the_others_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = world()
    count = fork.Value("i", 0)
    monkeypatch.setattr(store, "pack", lambda *a, **o: slow_pack(count, *a, **o))
    processes = [fork.Process(target=open_store, args=(root,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert count.value == 1


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_lock", lambda _: False)


@pytest.mark.usefixtures("without_locks")
@pytest.mark.parametrize("again", [False, True])
def test_without_locks_everyone_packs_and_the_result_is_whole(world: World, again: bool) -> None:
    root = world()
    processes = [
        fork.Process(target=open_store, args=(root,), kwargs={"again": again}) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    verify_store(open_store(root), root)
    assert len(stores(root)) == 1


@pytest.mark.usefixtures("without_locks")
def test_without_locks_a_whole_store_of_another_process_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = world()

    def pack_late(*arguments: Any, **options: Any) -> None:
        packing.pack(*arguments, **options)
        monkeypatch.setattr(store, "pack", packing.pack)
        others.append(open_store(root).folder.stat().st_ino)

    others: list[int] = []
    monkeypatch.setattr(store, "pack", pack_late)
    assert [open_store(root).folder.stat().st_ino] == others


@pytest.mark.usefixtures("without_locks")
def test_without_locks_a_store_that_another_process_is_replacing_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = store._load
    answers = iter([False, False, False, True])
    monkeypatch.setattr(
        store, "_load", lambda *arguments: load(*arguments) if next(answers) else None
    )
    assert len(open_store(world()).series) == 5


def _pack_limited(root: Path, limit: int) -> None:
    """Pack where no file may be larger than a limit, as on a disk that fills up."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with pytest.raises(OSError, match="File too large"):
        open_store(root)


@pytest.mark.parametrize("limit", [0, 1000, 4000])
def test_a_disk_that_fills_up_is_an_error_and_leaves_no_store(world: World, limit: int) -> None:
    root = world()
    assert run(_pack_limited, root, limit) == 0
    assert stores(root) == []
    assert len(open_store(root).series) == 5


def test_a_folder_that_cannot_be_written_is_an_error(world: World, tmp_path: Path) -> None:
    cache = tmp_path / "a file"
    cache.write_text("")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        open_store(world(), cache)


def test_a_source_that_changes_while_it_is_packed_is_an_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = world(archived=False)
    pack_tests = packing._pack_tests

    def change(*arguments: Any) -> Any:
        (root / "features/arrays/2_made.h5").write_bytes(hdf5(array=measured(60)))
        return pack_tests(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(packing, "_pack_tests", change)
        with pytest.raises(ValueError, match="changed while they were packed"):
            open_store(root)
    assert stores(root) == []
    np.testing.assert_array_equal(open_store(root).series[2], measured(60).astype(np.float32))


@pytest.mark.parametrize(
    "name", ["series.npy", "dataset.npy", "index.npy", "test_x.npy", "test_y.npy", "test_lats.npy"]
)
def test_a_flipped_bit_in_a_store_is_found_on_request(world: World, name: str) -> None:
    root = world()
    opened = open_store(root)
    verify_store(opened, root)
    path = opened.folder / name
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} does not hold what was packed.*again=True"):
        verify_store(opened, root)
    verify_store(open_store(root, again=True), root)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest | {"version": 1},
        lambda manifest: manifest | {"mean": manifest["mean"][:3]},
        lambda manifest: {},
        lambda manifest: [],
        lambda manifest: manifest | {"files": {"/etc/passwd": [1, "0"]}},
    ],
)
@pytest.mark.parametrize("signed", [True, False])
def test_a_manifest_that_was_changed_is_not_believed(
    world: World, change: Callable[[Any], Any], signed: bool
) -> None:
    root = world()
    path = open_store(root).folder / "store.json"
    whole = path.read_bytes()
    manifest = change(packing.read_manifest(path))
    if signed:
        packing.write_manifest(path, manifest)
    else:
        content = json.loads(whole)
        path.write_text(json.dumps(content | {"content": json.dumps(manifest)}))
    opened = open_store(root)
    assert opened.mean.shape == (18,)
    assert path.read_bytes() == whole


def test_one_file_of_many_overwritten_in_place_is_found_on_request(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("timl.data.record.archives._SAMPLED", 3)
    root = world(archived=False)
    opened = open_store(root)
    changed = 0
    for number in range(5):
        path = root / f"features/arrays/{number}_made.h5"
        whole, status = path.read_bytes(), path.stat()
        path.write_bytes(hdf5(array=measured(70)))
        with pytest.raises(ValueError, match="have changed since they were packed"):
            verify_store(opened, root)
        changed += store._load(opened.folder, root) is None
        path.write_bytes(whole)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        verify_store(opened, root)
    assert 0 < changed < 5


def test_a_store_that_vanishes_is_packed_again(world: World) -> None:
    root = world()
    shutil.rmtree(open_store(root).folder)
    assert len(open_store(root).series) == 5
