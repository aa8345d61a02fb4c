"""Fetching one file over HTTP: resumed where it stopped, repeated after failures, bounded."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from timl.data.download.zenodo import URL_VARIABLE, RemoteFile
from timl.files import read_json

if TYPE_CHECKING:
    import requests

T = TypeVar("T")

_BLOCK = 2**18
_WORTH_AN_ATTEMPT = 2**20
"""Bytes; an attempt that came so much further than any before does not count."""

_CONNECT_TIMEOUT = 10.0
_LONGEST_PAUSE = 60.0
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class _Failure(Exception):  # noqa: N818
    """A failure that another attempt may not have; ``pause`` is what the server asks for."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


class Transfer:
    """A session that fetches files; a context manager.

    Proxies and certificates are taken from the environment, as everywhere with requests.

    Parameters
    ----------
    attempts
        Number of attempts, at least 1.
    timeout
        Seconds without a byte after which an attempt has failed.
    backoff
        Seconds to wait after the first failure; doubled after each, at most 60.
    """

    def __init__(self, attempts: int, timeout: float, backoff: float) -> None:
        import requests

        if attempts < 1 or not timeout > 0 or not backoff >= 0:
            raise ValueError(
                f"attempts, timeout and backoff are {attempts}, {timeout} and {backoff}: give at "
                "least 1, a positive and a non-negative number"
            )
        self._attempts, self._timeout, self._backoff = attempts, timeout, backoff
        self._session = requests.Session()
        self._session.headers["User-Agent"] = "timl"

    def __enter__(self) -> Transfer:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def read(self, url: str, reader: Callable[[requests.Response], T]) -> T:
        """Request an address and read the answer.

        Raises
        ------
        FileNotFoundError, PermissionError
            If the server has no such thing (any more) or does not give it.
        ConnectionError
            If no attempt succeeded.
        """

        def attempt() -> T:
            with self._request(url, {}) as response:
                return reader(response)

        return self._repeat(url, attempt, lambda: 0)

    def fetch(self, url: str, part: Part, moved: Callable[[int], object]) -> None:
        """Fetch what is still missing of a file.

        Parameters
        ----------
        url
            Address of its content.
        part
            Part that has arrived before; complete afterwards.
        moved
            Function that is told how many bytes have arrived, now and then.

        Raises
        ------
        FileNotFoundError, PermissionError, ConnectionError
            As `read`; what has arrived is kept for the next time.
        OSError
            If it cannot be written, for want of space for example; likewise.
        ValueError
            If the server sends more bytes than the record says.
        """
        self._repeat(url, lambda: self._continue(url, part, moved), part.size)

    def _continue(self, url: str, part: Part, moved: Callable[[int], object]) -> None:
        start, size = part.size(), str(part.file.size)
        if start == part.file.size:
            return
        headers = {"Range": f"bytes={start}-"} if start else {}
        if start and part.entity:
            headers["If-Range"] = part.entity  # another file by now: all of it, not its end
        with self._request(url, headers) as response:
            if response.status_code == 416:
                part.discard()  # it goes beyond the end of the file that the server has now
                raise _Failure(f"{url} has no bytes from {start} on")
            if response.status_code == 206:
                given = response.headers.get("Content-Range", "")
                match = _CONTENT_RANGE.fullmatch(given)
                if match is None or match[1] != str(start) or match[2] not in ("*", size):
                    part.discard()
                    raise _Failure(f"asked for bytes from {start} on, {url} gave {given!a}")
            else:
                start = 0  # the whole file: the server ignores ranges, or has another one by now
            part.begin(response.headers.get("ETag", ""), start)
            for block in response.raw.stream(_BLOCK, decode_content=False):
                if part.size() + len(block) > part.file.size:
                    part.discard()
                    raise ValueError(
                        f"{url} sends more than the {part.file.size} bytes that the record gives "
                        f"for {part.file.name}: is it another file?"
                    )
                part.append(block)
                moved(part.size())
        if part.size() < part.file.size:
            raise _Failure(f"it ended after {part.size()} of {part.file.size} bytes")

    def _request(self, url: str, headers: dict[str, str]) -> requests.Response:
        """Request an address; an answer other than success becomes an error."""
        response = self._session.get(
            url,
            headers={"Accept-Encoding": "identity", **headers},
            stream=True,
            timeout=(min(_CONNECT_TIMEOUT, self._timeout), self._timeout),
        )
        status = response.status_code
        if status == 200 or (status in (206, 416) and "Range" in headers):
            return response
        response.close()
        reason = f"{url} answers {status} {response.reason}"
        if status in (404, 410):
            raise FileNotFoundError(f"{reason}: it is not there; check the record's number")
        if status in (401, 403, 407, 451):
            raise PermissionError(f"{reason}: the server or a proxy does not give it")
        if status in (206, 408, 425, 429) or status >= 500:
            asked = response.headers.get("Retry-After", "")
            raise _Failure(reason, float(asked) if asked.isdecimal() else 0.0)
        raise ConnectionError(f"{reason}, which is no download")

    def _repeat(self, url: str, attempt: Callable[[], T], size: Callable[[], int]) -> T:
        """Call until it succeeds; failures that brought nothing further are counted."""
        import requests
        import urllib3

        failures, furthest = 0, size()
        while True:
            asked = 0.0
            try:
                return attempt()
            except (
                requests.TooManyRedirects,
                requests.exceptions.InvalidSchema,
                requests.exceptions.InvalidURL,
            ) as error:
                raise ConnectionError(f"{url} cannot be fetched: {error}") from error
            except _Failure as error:
                reason, asked = str(error), error.pause
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                reason = f"{type(error).__name__}: {error}"
            failures += 1
            if size() >= furthest + _WORTH_AN_ATTEMPT:
                failures = 1
            furthest = max(furthest, size())
            if failures >= self._attempts:
                raise ConnectionError(
                    f"{url} could not be fetched, the last of {failures} attempts failed with "
                    f"{reason}. What has arrived is kept. Is there a network? A proxy is set with "
                    f"HTTPS_PROXY, a mirror with base_url or {URL_VARIABLE}"
                )
            time.sleep(min(_LONGEST_PAUSE, max(asked, self._backoff * 2 ** (failures - 1))))


class Part:
    """A file that has arrived in part, and a note of which file of a record it is.

    Parameters
    ----------
    path
        Place of the part. What lies there already is kept if its note says that it is this file.
    file
        File of the record.
    """

    def __init__(self, path: Path, file: RemoteFile) -> None:
        self.path, self.file = path, file
        self._note = path.with_name(f"{path.name}.json")
        try:
            name, size, checksum, entity = read_json(self._note, "")
            fits = (name, size, checksum) == (file.name, file.size, file.checksum)
            self.entity = str(entity)
        except (OSError, ValueError, TypeError):
            fits = False
        if not fits or self.size() > file.size:
            self.discard()
        self.resumed = self.size() > 0

    def size(self) -> int:
        """Return the number of bytes that have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    def discard(self) -> None:
        """Forget what has arrived."""
        self.entity = ""
        self._note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def begin(self, entity: str, start: int) -> None:
        """Note which version of the file follows, from which byte on."""
        # A weak tag does not promise the same bytes.
        self.entity = "" if entity.startswith("W/") else entity
        self.resumed = start > 0
        if not start:
            self.path.unlink(missing_ok=True)
        note = [self.file.name, self.file.size, self.file.checksum, self.entity]
        self._note.write_text(json.dumps(note), encoding="utf-8")

    def append(self, block: bytes) -> None:
        """Add bytes that have arrived."""
        try:
            with self.path.open("ab") as file:
                file.write(block)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{self.file.name} cannot be written ({os.strerror(error.errno or errno.EIO)}): "
                f"{self.size()} of {self.file.size} bytes have arrived and are kept; make room "
                "and repeat",
                str(self.path),
            ) from error

    def finish(self, path: str | Path) -> None:
        """Move the complete file."""
        self.path.touch()  # a file of no bytes was never begun
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(self.path, path)
        self._note.unlink(missing_ok=True)
