"""Contents of a record of Zenodo: names, sizes, checksums and addresses of its files."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from timl.files import decode_json

if TYPE_CHECKING:
    import requests

ZENODO = "https://zenodo.org"
URL_VARIABLE = "TIML_ZENODO_URL"
"""Environment variable with the address of a mirror."""

_LARGEST_ANSWER = 2**24
_CHECKSUM = re.compile(
    r"md5:[0-9a-f]{32}|sha1:[0-9a-f]{40}|sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}"
)


@dataclass(frozen=True)
class RemoteFile:
    """A file of a record.

    Parameters
    ----------
    name
        Name, such as "features.tar.gz".
    size
        Size in bytes.
    checksum
        Algorithm and sum, such as "md5:9e107d9d372bb6826bd81d3542a419d6".
    url
        Address of its content.
    """

    name: str
    size: int
    checksum: str
    url: str


def base_address(base_url: str | None) -> str:
    """Return the address to download from: the argument, TIML_ZENODO_URL, or Zenodo's own.

    Raises
    ------
    ValueError
        If it is no http or https address.
    """
    url = (base_url or os.environ.get(URL_VARIABLE) or ZENODO).rstrip("/")
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
        raise ValueError(f"base_url (or {URL_VARIABLE}) is {url!r}: give an http or https address")
    return url


def record_address(base: str, record: int) -> str:
    """Return the address of a record's metadata."""
    return f"{base}/api/records/{record}"


def read_answer(response: requests.Response) -> bytes:
    """Read an answer of the records API, which is small."""
    content = b""
    for block in response.iter_content(2**16):
        content += block
        if len(content) > _LARGEST_ANSWER:
            raise ValueError(f"{response.url} answered with more than {_LARGEST_ANSWER} bytes")
    return content


def parse_record(
    content: bytes, url: str, base: str, names: tuple[str, ...]
) -> dict[str, RemoteFile]:
    """Find files in an answer of Zenodo's records API.

    Read are the list of files of the record itself, with ``key``, ``size``, ``checksum`` and
    ``links``, and the forms of its older and its neighbouring calls: ``entries`` around the list,
    or as an object by name, ``filename`` and ``filesize``, a checksum that does not name md5.

    Parameters
    ----------
    content
        Answer of the server.
    url
        Address that it came from.
    base
        Address of Zenodo or its mirror; links to Zenodo itself are turned to it.
    names
        Names of the files to find.

    Raises
    ------
    FileNotFoundError
        If the record does not have one of the files.
    ValueError
        If this is not such an answer, or a file has no size or checksum.
    """
    try:
        answer = decode_json(content, url, "")
    except ValueError as error:
        raise ValueError(
            f"{url} did not answer as Zenodo's records API does, but with "
            f"{content[:80]!a}: is there a proxy or a log-in page in between?"
        ) from error
    entries = answer.get("files") if isinstance(answer, dict) else None
    if isinstance(entries, dict):
        entries = entries.get("entries")
    if entries is None and isinstance(answer, dict):
        entries = answer.get("entries")
    if isinstance(entries, dict):
        entries = [
            {"key": key, **entry} for key, entry in entries.items() if isinstance(entry, dict)
        ]
    if not isinstance(entries, list):
        raise ValueError(f"{url} lists no files: {content[:80]!a}")
    found = {
        str(_first(entry, "key", "filename")): entry for entry in entries if isinstance(entry, dict)
    }
    missing = [name for name in names if name not in found]
    if missing:
        raise FileNotFoundError(
            f"{url} has no {', '.join(missing)}; it has: "
            f"{', '.join(sorted(ascii(name) for name in found)) or 'nothing'}"
        )
    return {name: _remote_file(name, found[name], url, base) for name in names}


def _remote_file(name: str, entry: dict[str, Any], url: str, base: str) -> RemoteFile:
    size = _first(entry, "size", "filesize")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"{url} gives {size!a} as the size of {name}")
    checksum = str(entry.get("checksum")).lower()
    if re.fullmatch("[0-9a-f]{32}", checksum):
        checksum = f"md5:{checksum}"
    if not _CHECKSUM.fullmatch(checksum):
        raise ValueError(
            f"{url} gives no checksum for {name} that could be verified, but "
            f"{entry.get('checksum')!a}"
        )
    links = entry.get("links")
    link = _first(links, "content", "download", "self") if isinstance(links, dict) else None
    if link is None:
        link = f"{url}/files/{name}/content"
    link = urljoin(f"{url}/", str(link))
    if link.startswith(f"{ZENODO}/"):
        link = base + link.removeprefix(ZENODO)
    if urlsplit(link).scheme not in ("http", "https"):
        raise ValueError(f"{url} gives {link!a} as the address of {name}")
    return RemoteFile(name, size, checksum, link)


def _first(entry: dict[str, Any], *keys: str) -> Any:
    return next((entry[key] for key in keys if entry.get(key) is not None), None)
