"""Folders of results: timl replaces only its own, kills lose nothing, one process writes."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest
import timl
import timl.files
from killed import held_elsewhere, kill_at, run_apart
from timl.data import simulate
from timl.files import (
    atomic_folder,
    atomic_write,
    output_folder,
    recover_folder,
    remove_leftovers,
    wait_for_folder,
)

SMALL = {"countries": 4, "samples": 800}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated world, which no test may change."""
    return simulate(tmp_path_factory.mktemp("worlds") / "world", **SMALL)


def copy_of(world: Path, to: Path) -> Path:
    """Return another folder with the files of a world."""
    to.mkdir()
    for file in world.iterdir():
        os.link(file, to / file.name)
    return to


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


# --- what is not a simulation's own stays ---------------------------------------------------------


@pytest.mark.parametrize("path", ["thesis.txt", "notes/day1.txt", "empty/", ".git/config"])
def test_a_world_with_something_else_in_it_is_not_replaced(
    world: Path, tmp_path: Path, path: str
) -> None:
    there = copy_of(world, tmp_path / "w")
    (there / path).parent.mkdir(exist_ok=True)
    if path.endswith("/"):
        (there / path).mkdir()
    else:
        (there / path).write_text("mine")
    before = names(there)
    with pytest.raises(FileExistsError, match=f"also holds {path.rstrip('/')}, which would be"):
        simulate(there, **SMALL, seed=1)
    assert names(there) == before
    assert simulate(there, **SMALL) == there and names(there) == before
    assert names(tmp_path) == {"w"}


@pytest.mark.parametrize(
    "mark",
    [
        "{}",
        "[]",
        "null",
        "not JSON",
        "[" * 100_000,
        json.dumps({"made_by": "another program", "seed": 0}),
        json.dumps({"made_by": "timl.data.simulate_scene"}),
    ],
)
def test_a_world_json_of_something_else_marks_no_world(tmp_path: Path, mark: str) -> None:
    there = tmp_path / "w"
    there.mkdir()
    (there / "world.json").write_text(mark)
    with pytest.raises(FileExistsError, match=r"which is no simulated world"):
        simulate(there, **SMALL)
    assert (there / "world.json").read_text() == mark


def test_what_was_packed_of_a_world_goes_with_it(world: Path, tmp_path: Path) -> None:
    there = copy_of(world, tmp_path / "w")
    (there / ".timl").mkdir()
    (there / ".timl" / "store").write_text("packed")
    simulate(there, **SMALL, seed=1)
    assert names(there) == names(world)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("mine")
    with pytest.raises(FileExistsError, match=r"f, which is a file: give a folder"):
        simulate(tmp_path / "f", **SMALL)
    for out in (tmp_path / "f", tmp_path / "f" / "g"):
        with pytest.raises(NotADirectoryError, match="give a folder"), output_folder(out):
            pass
    assert (tmp_path / "f").read_text() == "mine"


# --- kills ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [1, 2])
def test_killed_while_replacing_the_next_run_finds_the_old_world_or_the_new(
    tmp_path: Path, call: int, world: Path
) -> None:
    there = copy_of(world, tmp_path / "w")
    old = (there / "labels.geojson").read_bytes()

    def replace() -> None:
        # renames: the new one in vain, the old one aside, the new one again
        timl.files.os.rename = kill_at(call + 1, os.rename)  # type: ignore[attr-defined]
        with atomic_folder(there, lambda: True) as folder:
            (folder / "labels.geojson").write_text("new")

    assert run_apart(replace)
    assert len(names(tmp_path)) > 1  # something was left
    recover_folder(there)
    assert (there / "labels.geojson").read_bytes() == old
    assert names(tmp_path) == {"w"}
    simulate(there, **SMALL)
    assert names(tmp_path) == {"w"} and names(there) == names(world)


def test_a_file_of_a_killed_run_is_removed_by_the_next(tmp_path: Path) -> None:
    def write() -> None:
        timl.files.os.replace = kill_at(1, os.replace)  # type: ignore[attr-defined]
        with atomic_write(tmp_path / "a") as file:
            file.write(b"1")

    assert run_apart(write) and len(names(tmp_path)) == 1
    with output_folder(tmp_path):
        assert names(tmp_path) == {".lock"}
    assert names(tmp_path) == set()


def test_what_a_living_process_writes_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    mine = [".thesis.tmp", f"thesis.{uuid.uuid4().hex}.tmp", ".a.old"]
    for name in mine:
        (tmp_path / name).write_text("mine")
    with atomic_write(tmp_path / "a") as file, atomic_folder(tmp_path / "b") as folder:
        file.write(b"1")
        (folder / "c").write_text("2")
        remove_leftovers(tmp_path)
        recover_folder(tmp_path / "b")
    assert names(tmp_path) == {*mine, "a", "b"}


# --- one writer at a time ------------------------------------------------------------------------


def test_the_second_writer_is_refused_and_an_empty_folder_is_not_left(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    with output_folder(out):
        with (
            pytest.raises(BlockingIOError, match=r"b is being written by another process"),
            output_folder(out),
        ):
            pass
        assert out.is_dir()
    assert not out.exists()
    with output_folder(out):
        (out / "result").write_text("1")
    assert names(out) == {"result"}


def test_waiting_for_a_process_that_is_about_to_end(tmp_path: Path) -> None:
    wait_for_folder(tmp_path / "none", 5)
    with output_folder(tmp_path):
        wait_for_folder(tmp_path, 0.2)  # gives up
    wait_for_folder(tmp_path, 5)


def test_two_simulations_into_one_folder(tmp_path: Path) -> None:
    with (
        held_elsewhere(tmp_path / ".w.lock"),
        pytest.raises(BlockingIOError, match="w is being written by another process"),
    ):
        simulate(tmp_path / "w", **SMALL)
    assert names(tmp_path) == {".w.lock"}
    simulate(tmp_path / "w", **SMALL)
    assert names(tmp_path) == {"w"}


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    options: dict[str, Any] = SMALL
    assert simulate(tmp_path / "link", **options) == tmp_path / "link"
    simulate(tmp_path / "link", **options, seed=1)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "there" / "world.json").is_file()
    assert names(tmp_path) == {"there", "link"}


def test_killed_after_its_last_epoch_a_training_is_completed_and_tidied(
    data: timl.CropHarvest, trained: Path, tmp_path: Path
) -> None:
    there = shutil.copytree(trained, tmp_path / "model")
    expected = names(there)
    history, kernel = there / "history.json", there / "deep-kernel"
    whole = history.read_bytes()
    assert kernel.is_dir()
    for path in (there, kernel):  # as a kill leaves them
        (path / ".lock").touch()
        (path / f".a.json.{uuid.uuid4().hex}.tmp").touch()
    history.unlink()
    timl.meta_train(
        timl.TIML(), timl.meta_tasks(data), epochs=1, kernel_steps=1, out=there, progress=False
    )
    assert names(there) == expected and names(kernel) == names(trained / kernel.name)
    assert history.read_bytes() == whole
