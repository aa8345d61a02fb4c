"""Downloading: what is there is kept, what is missing fetched, all or nothing put in place."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zenodo_server
from timl.data import CropHarvest
from timl.data.download.record import PAPER_RECORD, RECORD_FILES, download
from timl.data.download.zenodo import parse_record
from worlds import label, write_labels
from zenodo_server import RECORD, Server


def fetch(server: Server, root: Path, **options: Any) -> list[Path]:
    return download(
        root,
        **{"record": RECORD, "base_url": server.url, "backoff": 0, "progress": False} | options,
    )


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()}


def test_a_record_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    root = tmp_path / "new" / "data"
    assert fetch(server, root) == [root / name for name in RECORD_FILES]
    assert contents(root) == server.files
    assert [name for name, _ in server.requests] == ["record", *RECORD_FILES]
    fetch(server, root)
    assert len(server.requests) == 4  # nothing was asked of the network
    assert sorted(path.name for path in (root / ".timl").iterdir()) == [
        "download.json",
        "download.lock",
    ]


def test_only_what_is_missing_or_was_changed_is_fetched(server: Server, tmp_path: Path) -> None:
    for name in RECORD_FILES[:2]:
        (tmp_path / name).write_bytes(server.files[name])
    fetch(server, tmp_path)
    assert [name for name, _ in server.requests] == ["record", RECORD_FILES[2]]
    (tmp_path / RECORD_FILES[0]).unlink()
    fetch(server, tmp_path)
    assert [name for name, _ in server.requests[2:]] == ["record", RECORD_FILES[0]]
    assert contents(tmp_path) == server.files


def test_files_of_ones_own_are_not_replaced_unasked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "labels.geojson").write_text("my own")
    with pytest.raises(FileExistsError, match=r"labels\.geojson is not the record's.*overwrite"):
        fetch(server, tmp_path)
    assert contents(tmp_path) == {"labels.geojson": b"my own"}
    fetch(server, tmp_path, overwrite=True)
    assert contents(tmp_path) == server.files


def test_another_record_replaces_the_files_of_the_last(server: Server, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    note = tmp_path / ".timl" / "download.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"record": PAPER_RECORD}))
    server.files["labels.geojson"] = b"corrected"
    fetch(server, tmp_path)
    assert contents(tmp_path) == server.files
    assert [name for name, _ in server.requests[4:]] == ["record", "labels.geojson"]


def test_a_stopped_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.always["test_features.tar.gz"] = zenodo_server.drops
    with pytest.raises(ConnectionError, match="What has arrived is kept"):
        fetch(server, tmp_path, attempts=1)
    assert contents(tmp_path) == {}  # all together, or none
    del server.always["test_features.tar.gz"], server.requests[:]
    fetch(server, tmp_path)
    half = len(server.files["test_features.tar.gz"]) // 2
    assert server.requests == [
        ("record", None),
        ("test_features.tar.gz", f"bytes={half}-"),
        ("labels.geojson", None),
    ]
    assert contents(tmp_path) == server.files


def test_a_part_of_another_records_file_is_not_continued(server: Server, tmp_path: Path) -> None:
    server.always["features.tar.gz"] = zenodo_server.drops
    with pytest.raises(ConnectionError):
        fetch(server, tmp_path, attempts=1)
    server.always.clear()
    server.files["features.tar.gz"] = b"!" * 10**5
    server.requests.clear()
    fetch(server, tmp_path)
    assert server.requests[1] == ("features.tar.gz", None)
    assert contents(tmp_path) == server.files


def test_a_mirror_is_taken_from_the_environment(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def zenodo(answer: dict[str, Any]) -> dict[str, Any]:
        for file in answer["files"]:
            file["links"]["self"] = file["links"]["self"].replace(server.url, "https://zenodo.org")
        return answer

    server.edit = zenodo
    monkeypatch.setenv("TIML_ZENODO_URL", f"{server.url}/")
    fetch(server, tmp_path, base_url=None)
    assert contents(tmp_path) == server.files


def test_a_proxy_is_taken_from_the_environment(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(FileNotFoundError):
        fetch(server, tmp_path, base_url="http://records.invalid")
    # A proxy is asked with the whole address.
    assert len(server.requests) == 1


def test_cropharvest_downloads(
    server: Server, tmp_path: Path, world: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_labels(world(), [label(i) for i in range(5)])
    server.files = {name: (world() / name).read_bytes() for name in RECORD_FILES}
    monkeypatch.setenv("TIML_ZENODO_URL", server.url)
    for _ in range(2):
        data = CropHarvest(tmp_path / "data", download=True, record=RECORD)
        assert data.labels["position"].tolist() == [0, 1, 2, 3, 4]
    assert len(server.requests) == 4


def test_two_processes_download_once(server: Server, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=fetch, args=(server, tmp_path)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert [name for name, _ in server.requests] == ["record", *RECORD_FILES]
    assert contents(tmp_path) == server.files


MD5 = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    "answer",
    [
        {"files": [{"key": "a", "size": 3, "checksum": f"md5:{MD5}", "links": {"self": "/a"}}]},
        {"files": [{"key": "a", "size": 3, "checksum": f"md5:{MD5}", "links": {"content": "/a"}}]},
        {"files": [{"filename": "a", "filesize": 3, "checksum": MD5, "links": {"download": "/a"}}]},
        {"files": {"entries": {"a": {"size": 3, "checksum": MD5, "links": {"content": "/a"}}}}},
        {"entries": [{"key": "a", "size": 3, "checksum": MD5, "links": {"content": "/a"}}]},
    ],
    ids=["records", "content", "deposit", "by name", "files"],
)
def test_the_forms_of_zenodos_answers_are_read(answer: object) -> None:
    files = parse_record(json.dumps(answer).encode(), "http://z/api/records/1", "http://z", ("a",))
    assert files["a"].url == "http://z/a"
    assert (files["a"].size, files["a"].checksum) == (3, f"md5:{MD5}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"record": 0}, "record is 0: give a number such as 5828893"),
        ({"record": "7257688"}, "give a number such as"),
        ({"base_url": "zenodo.org"}, "give an http or https address"),
        ({"base_url": "file:///etc"}, "give an http or https address"),
        ({"attempts": 0}, "attempts, timeout and backoff are 0, "),
        ({"timeout": 0.0}, "give at least 1, a positive"),
    ],
)
def test_wrong_arguments_are_refused(
    server: Server, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fetch(server, tmp_path, **options)
    assert server.requests == []
    assert os.listdir(tmp_path) in ([], [".timl"])
