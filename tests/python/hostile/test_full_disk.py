"""A full disk: the message names the file and its folder, and what was there stays whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import timl
from commands import refusal, run
from full_disk import files_of_at_most
from timl.files import atomic_folder, atomic_write


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("command", "written"),
    [
        ("simulate --out {out} --countries 4 --samples 800 --quiet", "{out}"),
        ("pack --data {out}", "{out}/.timl"),
        ("train --data {world} --out {out} --epochs 1 --kernel-steps 0 --quiet", "{out}"),
        ("finetune --data {world} --benchmark world_0 --model {model} --out {out}", "{out}"),
        (
            "in-season --data {world} --benchmark world_0 --model {model} --months 12 --draws 1 "
            "--out {out}",
            "{out}",
        ),
        ("table1 --data {world} --rows logistic-regression --runs 1 --out {out} --quiet", "{out}"),
        ("tasks --data {world} --out {out}/tasks.csv", "{out}/tasks.csv"),
    ],
)
@pytest.mark.parametrize("size", [0, 100])
def test_a_full_disk_is_said_in_one_line(
    benchmarked_world: Path, trained: Path, tmp_path: Path, command: str, written: str, size: int
) -> None:
    out = tmp_path / "out"
    if "pack" in command:
        shutil.copytree(benchmarked_world, out, ignore=shutil.ignore_patterns(".timl"))
    elif "simulate" not in command:
        out.mkdir()
    timl.CropHarvest(benchmarked_world)  # packed before
    before = bytes_of(tmp_path)
    words = command.format(world=benchmarked_world, model=trained, out=out).split()
    with files_of_at_most(size):
        told = refusal(*words)
    assert told.startswith(written.format(out=out)), told
    assert "cannot be written (File too large): make room on the disk of " in told
    left = bytes_of(tmp_path)
    assert all(left[name] == content for name, content in before.items())
    assert not [name for name in left if name.endswith((".tmp", ".lock")) or ".tmp/" in name], left


def test_finished_jobs_are_kept_and_the_same_call_goes_on(
    benchmarked_world: Path, tmp_path: Path
) -> None:
    table = ["table1", "--data", benchmarked_world, "--runs", 1, "--quiet"]
    table += ["--workers", 1, "--out", tmp_path, "--rows"]
    assert run(*table, "logistic-regression").exit_code == 0
    cells = (tmp_path / "cells.jsonl").read_bytes()
    with files_of_at_most(len(cells) + 10):
        told = refusal(*table, "logistic-regression,random-forest")
    assert "all jobs that were finished before are kept" in told
    assert run(*table, "logistic-regression,random-forest").exit_code == 0
    assert (tmp_path / "cells.jsonl").read_bytes().startswith(cells)


@pytest.mark.parametrize("mode", ["w", "wb"])
def test_a_file_stays_as_it_was(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "file"
    path.write_text("whole")
    with (
        files_of_at_most(10),
        pytest.raises(OSError, match=r"file cannot be written \(File too large\)"),
        atomic_write(path, mode) as file,
    ):
        file.write("long" * 10_000 if mode == "w" else b"long" * 10_000)
    assert path.read_text() == "whole" and list(tmp_path.iterdir()) == [path]


def test_a_folder_is_named_as_it_would_be_called(tmp_path: Path) -> None:
    with (
        files_of_at_most(10),
        pytest.raises(OSError, match=r"world cannot be written \(File too large\)"),
        atomic_folder(tmp_path / "world") as folder,
        atomic_write(folder / "inner", "w") as file,
    ):
        file.write("long" * 10_000)
    assert not list(tmp_path.iterdir())


def test_other_errors_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none"), atomic_write(tmp_path / "file") as file:
        file.write((tmp_path / "none").read_bytes())
