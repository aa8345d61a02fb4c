"""timl download, timl pack and timl tasks."""

from __future__ import annotations

from pathlib import Path

import timl
from test_cli import run
from timl.data.download.record import RECORD_FILES
from zenodo_server import RECORD, Server, status


def test_a_record_is_downloaded_packed_and_verified(
    benchmarked_world: Path, server: Server, tmp_path: Path
) -> None:
    server.files = {name: (benchmarked_world / name).read_bytes() for name in RECORD_FILES}
    root = tmp_path / "data"
    arguments = ["download", "--data", root, "--record", RECORD, "--base-url", server.url]
    for _ in range(2):
        result = run(*arguments, "--quiet")
        assert result.exit_code == 0, result.output
        assert f"record {RECORD}: 3 files" in result.stdout
        assert "160 series, 2 test files, NDVI true, 0 left out; the store is" in result.stdout
    assert len(server.requests) == 4
    result = run("pack", "--data", root, "--verify")
    assert result.exit_code == 0, result.output
    assert "0 left out, verified" in result.stdout
    (store,) = (root / ".timl").glob("store-*")
    content = bytearray((store / "series.npy").read_bytes())
    content[-1] ^= 1
    (store / "series.npy").write_bytes(content)
    result = run("pack", "--data", root, "--verify")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "pack again" in result.stderr
    assert run("pack", "--data", root, "--verify", "--again").exit_code == 0


def test_errors_and_what_was_left_out_are_lines(
    benchmarked_world: Path, server: Server, tmp_path: Path
) -> None:
    server.always["record"] = status(404)
    arguments = ["--data", tmp_path, "--record", 1, "--base-url", server.url]
    result = run("download", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("timl: ") and result.stderr.count("\n") == 1
    for name in RECORD_FILES:
        (tmp_path / name).write_bytes((benchmarked_world / name).read_bytes())
    (tmp_path / "features.tar.gz").write_bytes((tmp_path / "features.tar.gz").read_bytes()[:-9])
    result = run("pack", "--data", tmp_path)
    assert result.exit_code == 2
    assert "timl pack --salvage" in result.stderr
    result = run("pack", "--data", tmp_path, "--salvage")
    assert result.exit_code == 0
    assert "left out: features.tar.gz: archive is damaged or cut short" in result.stderr
    assert "1 left out" in result.stdout


def test_the_tasks_are_listed_and_written(benchmarked_world: Path, tmp_path: Path) -> None:
    expected = timl.meta_tasks(timl.CropHarvest(benchmarked_world))
    result = run("tasks", "--data", benchmarked_world, "--out", tmp_path / "tasks.csv")
    assert result.exit_code == 0, result.output
    assert repr(expected) in result.stdout
    assert all(str(task.bounding_box.name) in result.stdout for task in expected)
    lines = (tmp_path / "tasks.csv").read_text().splitlines()
    assert lines[0].startswith("region,label,") and len(lines) == 1 + len(expected)
