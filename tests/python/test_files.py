"""Files and folders appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from timl.files import atomic_folder, atomic_write


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    with atomic_write(path, "w") as file:
        file.write("new é")
        assert path.read_text() == "old"
    assert path.read_text(encoding="utf-8") == "new é"
    with atomic_write(path) as file:
        file.write(b"\x00")
    assert path.read_bytes() == b"\x00"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path, "w") as file:
        file.write("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match="mode is 'a'"), atomic_write(path, "a"):
        pass


def test_a_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with atomic_folder(path) as folder:
        (folder / "a").write_text("1")
        assert not path.exists()
    assert (path / "a").read_text() == "1"
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "other") as folder:
        (folder / "a").write_text("2")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == [path]


def test_the_first_folder_at_a_place_stays(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with atomic_folder(path) as late:
        (late / "a").write_text("late")
        with atomic_folder(path) as early:
            (early / "a").write_text("early")
    assert (path / "a").read_text() == "early"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_if_it_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "store"
    for content in ("old", "new"):
        with atomic_folder(path, lambda: True) as folder:
            (folder / "a").write_text(content)
    assert (path / "a").read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
