"""Servers and networks that misbehave: the record arrives whole, or a clear error and no file."""

from __future__ import annotations

import multiprocessing
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zenodo_server as z
from test_download import contents, fetch
from zenodo_server import Fault, Server

NAME = "features.tar.gz"


@pytest.mark.parametrize(
    "faults",
    [
        [z.drops],
        [z.resets],
        [z.truncates],
        [z.promises_more],
        [z.promises_less],
        [z.promises_nothing],
        [z.breaks_a_chunk],
        [z.stalls],
        [z.speaks_no_http],
        [z.names_an_encoding],
        [z.gives_a_range_unasked],
        [z.status(500), z.status(503, Retry_After=0)],
        [z.status(429, Retry_After="soon")],
        [z.drops, z.ignores_ranges],
        [z.drops, z.status(416)],
        [z.drops, z.drops],
        [z.moved_to(f"/{NAME}/content?moved")],
    ],
    ids=lambda faults: ", then ".join(getattr(f, "__name__", "answers") for f in faults),
)
def test_a_server_that_fails_at_first_is_asked_again(
    server: Server, tmp_path: Path, faults: list[Fault]
) -> None:
    server.faults[NAME] = list(faults)
    server.faults["record"] = [z.status(502)]
    fetch(server, tmp_path, timeout=0.5)
    assert contents(tmp_path) == server.files
    assert server.faults[NAME] == []


def test_bytes_from_elsewhere_in_the_file_are_not_kept(server: Server, tmp_path: Path) -> None:
    server.faults[NAME] = [z.drops, z.gives_another_range]
    fetch(server, tmp_path)
    half = f"bytes={len(server.files[NAME]) // 2}-"
    assert [given for name, given in server.requests if name == NAME] == [None, half, None]
    assert contents(tmp_path) == server.files


def test_a_file_that_changes_between_two_attempts_is_fetched_anew(
    server: Server, tmp_path: Path
) -> None:
    old = server.files[NAME].upper()

    def drops_another_version(handler: z.Handler, content: bytes) -> None:
        z.drops(handler, old)

    def ignores_the_condition(handler: z.Handler, content: bytes) -> None:
        del handler.headers["If-Range"]
        z.serve(handler, content)

    server.faults[NAME] = [drops_another_version]
    fetch(server, tmp_path / "a")
    assert contents(tmp_path / "a") == server.files
    server.faults[NAME] = [drops_another_version, ignores_the_condition]
    fetch(server, tmp_path / "b")
    assert contents(tmp_path / "b") == server.files
    ranges = [given for name, given in server.requests if name == NAME]
    half = f"bytes={len(old) // 2}-"
    assert ranges == [None, half, None, half, None]


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (z.status(404), FileNotFoundError, r"404.*check the record's number"),
        (z.status(410), FileNotFoundError, "410"),
        (z.status(403), PermissionError, "403"),
        (z.status(407), PermissionError, "proxy"),
        (z.status(204), ConnectionError, "204"),
        (z.status(500), ConnectionError, "last of 3 attempts.*500.*base_url or TIML_ZENODO_URL"),
        (z.instead(b"?"), ConnectionError, "ended after 1 of"),
        (z.instead(b"x" * 3000 * len(NAME)), ValueError, "does not hold what the record says"),
        (z.sends_more, ValueError, "sends more than the"),
        (z.stalls, ConnectionError, "could not be fetched"),
        (z.moved_to(f"/{NAME}/content"), ConnectionError, "redirects"),
        (z.moved_to("file:///etc/passwd"), ConnectionError, "No connection adapters"),
        (z.moved_to("http://"), ConnectionError, "cannot be fetched"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_server_that_always_fails_is_an_error_and_leaves_no_file(
    server: Server, tmp_path: Path, fault: Fault, error: type[Exception], message: str
) -> None:
    server.always[NAME] = fault
    with pytest.raises(error, match=message):
        fetch(server, tmp_path, attempts=3, timeout=0.3)
    assert contents(tmp_path) == {}
    assert len(server.requests) < 50


def edited(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Change the entries of all files; None removes a key."""

    def edit(answer: dict[str, Any]) -> dict[str, Any]:
        for file in answer["files"]:
            file.update(changes)
            for name in [name for name, value in file.items() if value is None]:
                del file[name]
        return answer

    return edit


@pytest.mark.parametrize(
    ("edit", "error", "message"),
    [
        (lambda _: b"<html>log in</html>", ValueError, r"'<html>log in</html>': is there a proxy"),
        (lambda _: b"[" * 100_000, ValueError, "did not answer as Zenodo"),
        (lambda _: b"\xff\xfe\x00", ValueError, "did not answer as Zenodo"),
        (lambda _: b" " * (2**24 + 1), ValueError, "more than 16777216 bytes"),
        (lambda _: [], ValueError, "lists no files"),
        (lambda _: {"files": 3}, ValueError, "lists no files"),
        (lambda _: {"files": [None, 1]}, FileNotFoundError, "has no features.tar.gz"),
        (edited(key="../../etc/passwd"), FileNotFoundError, "has no features.tar.gz"),
        (edited(key=["a"]), FileNotFoundError, "has no features.tar.gz"),
        (edited(checksum=None), ValueError, "gives no checksum for"),
        (edited(checksum="md5:zz"), ValueError, "gives no checksum for"),
        (edited(checksum="crc32:01234567"), ValueError, "gives no checksum for"),
        (edited(checksum="md5:" + "0" * 32), ValueError, "does not hold what the record says"),
        (edited(size=None), ValueError, "as the size of"),
        (edited(size=-1), ValueError, "as the size of"),
        (edited(size="12"), ValueError, "as the size of"),
        (edited(size=10**30), OSError, "MB are free"),
        (edited(links={"self": "file:///etc/passwd"}), ValueError, "as the address of"),
        (edited(links={"self": "http://["}), ValueError, "Invalid IPv6"),
    ],
)
def test_a_strange_answer_about_the_record_is_an_error(
    server: Server,
    tmp_path: Path,
    edit: Callable[[dict[str, Any]], Any],
    error: type[Exception],
    message: str,
) -> None:
    server.edit = edit
    with pytest.raises(error, match=message):
        fetch(server, tmp_path)
    assert contents(tmp_path) == {}


def test_no_network_is_an_error_that_says_what_to_set(server: Server, tmp_path: Path) -> None:
    server.server_close()
    with pytest.raises(ConnectionError, match=r"Is there a network.*HTTPS_PROXY.*TIML_ZENODO_URL"):
        fetch(server, tmp_path, attempts=2)
    assert contents(tmp_path) == {}


def test_no_space_is_noticed_before_anything_is_fetched(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2, 1, 1))
    with pytest.raises(OSError, match="0 MB are to be downloaded and 0 MB are free"):
        fetch(server, tmp_path)
    assert [name for name, _ in server.requests] == ["record"]


def _fetch_limited(server: Server, root: Path) -> None:
    """Download where no file may be larger than 20,000 bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    with pytest.raises(OSError, match=r"20000 of 45000 bytes have arrived and are kept"):
        fetch(server, root)


def test_a_disk_that_fills_up_is_an_error_and_the_rest_is_fetched_later(
    server: Server, tmp_path: Path
) -> None:
    process = multiprocessing.get_context("fork").Process(
        target=_fetch_limited, args=(server, tmp_path)
    )
    process.start()
    process.join(30)
    assert process.exitcode == 0
    assert contents(tmp_path) == {}
    fetch(server, tmp_path)
    assert server.requests[-3] == (NAME, "bytes=20000-")
    assert contents(tmp_path) == server.files
