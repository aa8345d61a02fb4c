"""Reading the record's files as a stream, from a tar.gz archive or from the unpacked folder.

Nothing is ever extracted: members are read into memory, and only those whose names have exactly
the expected form. Everything else is reported.
"""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from timl.data.layout import ARCHIVE_SUFFIX

_LARGEST_FILE = 2**31
"""Bytes; a test file of 800,000 series is smaller, a training file has some 8,000."""


class Skipped(NamedTuple):
    """A file that was left out, and why."""

    file: str
    reason: str


class SourceFile(NamedTuple):
    """A file of the source, as it enters the fingerprint that tells whether the source changed."""

    name: str
    size: int
    modified_ns: int


def source_files(root: Path, stem: str) -> list[SourceFile]:
    """List the archive ``{stem}.tar.gz`` or, where there is none, the files of folder ``stem``.

    Returns
    -------
    list of SourceFile
        Sorted by name; empty if neither exists.
    """
    archive = root / f"{stem}{ARCHIVE_SUFFIX}"
    paths = [archive] if archive.is_file() else sorted((root / stem).rglob("*"))
    found = []
    for path in paths:
        if path.is_file():
            status = path.stat()
            name = path.relative_to(root).as_posix()
            found.append(SourceFile(name, status.st_size, status.st_mtime_ns))
    return found


def read_members(
    root: Path, stem: str, pattern: re.Pattern[str], skipped: list[Skipped]
) -> Iterator[tuple[str, bytes]]:
    """Read the files of ``{stem}.tar.gz`` or, where there is none, of folder ``stem``, once.

    Parameters
    ----------
    root : Path
        The data set's folder.
    stem : str
        "features" or "test_features".
    pattern : re.Pattern
        What a whole name, such as "features/arrays/7_togo.h5", must match to be read.
    skipped : list of Skipped
        What could not or must not be read is added here.

    Yields
    ------
    tuple of str and bytes
        Name and contents.
    """
    archive = root / f"{stem}{ARCHIVE_SUFFIX}"
    if archive.is_file():
        yield from _archive_members(archive, pattern, skipped)
    else:
        yield from _folder_members(root, stem, pattern, skipped)


def _folder_members(
    root: Path, stem: str, pattern: re.Pattern[str], skipped: list[Skipped]
) -> Iterator[tuple[str, bytes]]:
    for path in sorted((root / stem).rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_dir():
            continue
        if not path.is_file():
            skipped.append(Skipped(_printable(name), "not a regular file"))
        elif not pattern.fullmatch(name):
            skipped.append(Skipped(_printable(name), "unexpected name"))
        elif path.stat().st_size > _LARGEST_FILE:
            skipped.append(Skipped(name, f"larger than {_LARGEST_FILE} bytes"))
        else:
            try:
                contents = path.read_bytes()
            except OSError as error:
                skipped.append(Skipped(name, f"cannot be read: {error.strerror}"))
                continue
            yield name, contents


class _Tail:
    """A binary stream that remembers its last block, to look behind tarfile's back."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self.stream, self.end, self.block = stream, 0, b""

    def read(self, size: int) -> bytes:
        self.block = self.stream.read(size)
        self.end += len(self.block)
        return self.block

    def has_data_after(self, offset: int) -> bool:
        """Read to the end (which also checks gzip's sum); tell of any byte but 0 past offset."""
        found = any(self.block[max(0, offset - self.end + len(self.block)) :])
        while self.read(2**20):
            found = found or any(self.block)
        return found


def _archive_members(
    archive: Path, pattern: re.Pattern[str], skipped: list[Skipped]
) -> Iterator[tuple[str, bytes]]:
    count = 0
    try:
        with gzip.open(archive) as stream:
            tail: Any = _Tail(stream)
            tar: Any  # its list of members is not in the type stubs
            with tarfile.open(fileobj=tail, mode="r|") as tar:
                while member := tar.next():
                    count += 1
                    name = member.name.removeprefix("./")
                    if member.isdir():
                        continue
                    file = tar.extractfile(member) if member.isreg() else None
                    if file is None:
                        skipped.append(Skipped(_printable(name), "not a regular file"))
                    elif not pattern.fullmatch(name):
                        skipped.append(Skipped(_printable(name), "unexpected name"))
                    elif member.size > _LARGEST_FILE:
                        skipped.append(Skipped(name, f"larger than {_LARGEST_FILE} bytes"))
                    else:
                        yield name, file.read()
                    tar.members.clear()  # it would keep every header in memory
                # tarfile takes a broken header for the end of the archive; this does not.
                if tail.has_data_after(tar.offset):
                    raise tarfile.ReadError("a header is broken")
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        reason = f"archive is damaged or cut short after {count} members: {error}"
        skipped.append(Skipped(archive.name, reason))


def _printable(name: str) -> str:
    return ascii(name)[1:-1][:200]
