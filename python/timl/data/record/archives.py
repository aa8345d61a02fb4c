"""Reading the record's files as a stream, from a tar.gz archive or from the unpacked folder.

Nothing is ever extracted: members are read into memory, and only those whose names have exactly
the expected form. Everything else is reported.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import Progress

from timl.data.record.names import ARCHIVE_SUFFIX, ARRAYS, FEATURES, LABELS, TEST_FEATURES

_BLOCK = 2**14
"""Most bytes that tarfile takes from the decompressor at once."""

_LARGEST_HEADER = 2**20
"""Most bytes of a header: tarfile reads a member's into memory, whatever length it claims."""

_SAMPLED = 1000
"""Number of files of an unpacked source that are looked at when a store is opened."""


class Skipped(NamedTuple):
    """A file that was left out, and why."""

    file: str
    reason: str


class SourceFile(NamedTuple):
    """A file or folder of the source; equal values mean that it did not change."""

    name: str
    size: int
    modified_ns: int


@dataclass(frozen=True)
class Wanted:
    """Description of the files of a source that are read.

    Parameters
    ----------
    stem
        "features" or "test_features": names the archive ``{stem}.tar.gz`` or, where there is
        none, the folder ``stem``.
    pattern
        Pattern of a whole name, such as "features/arrays/7_togo.h5".
    largest
        Size in bytes above which a file is left out.
    """

    stem: str
    pattern: re.Pattern[str]
    largest: int


def source_state(root: Path) -> list[SourceFile]:
    """Describe a source by what is cheap to look at: its archives, its folders, its labels.

    A folder's time changes when files are added, removed or replaced, not when one is overwritten
    in place: see `sampled_files`.

    Listed are, for features and test features, the archive or, where there is none, the folders;
    then labels.geojson. What is absent is not listed. Folders count as size 0.
    """
    found = []
    for stem in (FEATURES, TEST_FEATURES):
        archive = root / f"{stem}{ARCHIVE_SUFFIX}"
        paths = [archive] if archive.is_file() else [p for p in _folders(root, stem) if p.is_dir()]
        found += [_describe(root, path) for path in paths]
    return found + [_describe(root, path) for path in [root / LABELS] if path.is_file()]


def folder_files(root: Path) -> list[SourceFile]:
    """List every file of an unpacked source; none for archives."""
    found = []
    for stem in (FEATURES, TEST_FEATURES):
        if not (root / f"{stem}{ARCHIVE_SUFFIX}").is_file():
            for folder in _folders(root, stem):
                name = folder.relative_to(root).as_posix()
                for entry in os.scandir(folder) if folder.is_dir() else ():
                    if entry.is_file():
                        status = entry.stat()
                        file = f"{name}/{entry.name}", status.st_size, status.st_mtime_ns
                        found.append(SourceFile(*file))
    return sorted(found)


def sampled_files(files: list[SourceFile]) -> list[SourceFile]:
    """Choose at most 1000 files, evenly spaced, that stand for all when a store is opened.

    Looking at each of 65,000 files would take longer than everything else. Files rewritten in
    bulk are noticed; a single one overwritten in place in a larger folder only by `verify_store`.
    """
    return files[:: max(1, -(-len(files) // _SAMPLED))]


def unchanged(root: Path, files: list[SourceFile]) -> bool:
    """Tell whether files (no folders) have the size and time they had."""
    folder = f"{root}/"
    try:
        for name, size, modified_ns in files:
            status = os.stat(folder + name)
            if (status.st_size, status.st_mtime_ns) != (size, modified_ns):
                return False
    except OSError:
        return False
    return True


def read_members(
    root: Path, wanted: Wanted, skipped: list[Skipped], progress: Progress, salvage: bool
) -> Iterator[tuple[str, bytes]]:
    """Read the files of an archive or folder once, in the order they lie there: name and contents.

    Parameters
    ----------
    root
        Folder of the data set.
    wanted
        Files to read.
    skipped
        List to which files are added that could not or must not be read.
    progress
        Display of how far the archive has been read.
    salvage
        Report a damaged archive as skipped after its readable part instead of raising.

    Raises
    ------
    ValueError
        If the archive is damaged or cut short and ``salvage`` is False: half a record would
        train without a word on half the data.
    """
    archive = root / f"{wanted.stem}{ARCHIVE_SUFFIX}"
    if archive.is_file():
        yield from _archive_members(archive, wanted, skipped, progress, salvage)
    else:
        yield from _folder_members(root, wanted, skipped)


def _describe(root: Path, path: Path) -> SourceFile:
    status = path.stat()
    size = 0 if path.is_dir() else status.st_size
    return SourceFile(path.relative_to(root).as_posix(), size, status.st_mtime_ns)


def _folders(root: Path, stem: str) -> list[Path]:
    """Return the folders of an unpacked source, whether they exist or not."""
    return [root / FEATURES, root / ARRAYS] if stem == FEATURES else [root / stem]


def _refusal(name: str, size: int, wanted: Wanted) -> str | None:
    """Say why a file is not to be read, judged by name and size."""
    if not wanted.pattern.fullmatch(name):
        return "unexpected name"
    return f"larger than {wanted.largest} bytes" if size > wanted.largest else None


def _folder_members(
    root: Path, wanted: Wanted, skipped: list[Skipped]
) -> Iterator[tuple[str, bytes]]:
    folders = _folders(root, wanted.stem)
    for folder in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            name = path.relative_to(root).as_posix()
            if path in folders:
                continue
            try:
                reason = "not a regular file"
                if path.is_file():
                    reason = _refusal(name, path.stat().st_size, wanted) or ""
                contents = b"" if reason else path.read_bytes()
            except OSError as error:
                reason = f"cannot be read: {error.strerror}"
            if reason:
                skipped.append(Skipped(_printable(name), reason))
            else:
                yield name, contents


class _Tail:
    """A binary stream that remembers its last block, to look behind tarfile's back."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self.stream, self.block = stream, b""
        self.end, self.limit, self.idle = 0, _LARGEST_HEADER, 0

    def read(self, size: int) -> bytes:
        if self.end > self.limit:
            raise tarfile.ReadError(f"a header is larger than {_LARGEST_HEADER} bytes")
        # read1: what came out before the damage is not lost with it.
        self.block = self.stream.read1(size)
        self.end += len(self.block)
        self.idle = 0 if self.block else self.idle + 1
        if self.idle > 2:
            # tarfile would look for the end of a member of 2^62 bytes block by block.
            raise tarfile.ReadError("unexpected end of data")
        return self.block

    def has_data_after(self, offset: int) -> bool:
        """Read to the end (which also checks gzip's sum); tell of any byte but 0 past offset."""
        found = any(self.block[max(0, offset - self.end + len(self.block)) :])
        while block := self.stream.read(2**20):
            found = found or block.count(0) < len(block)
        return found


def _archive_members(
    archive: Path, wanted: Wanted, skipped: list[Skipped], progress: Progress, salvage: bool
) -> Iterator[tuple[str, bytes]]:
    count = 0
    with progress.open(archive, "rb", description=f"packing {archive.name}") as raw:
        try:
            # Each read of the file moves the bar: large ones keep that cheap.
            buffered: Any = io.BufferedReader(raw, 2**20)
            with gzip.open(buffered) as stream:
                tail: Any = _Tail(stream)
                tar: Any  # its stream and its list of members are not in the type stubs
                with tarfile.open(fileobj=tail, mode="r|", bufsize=_BLOCK) as tar:
                    while member := tar.next():
                        count += 1
                        if member.size < 0:
                            raise tarfile.ReadError("a member of negative size")
                        name = member.name.removeprefix("./")
                        # tarfile calls a sparse file regular, and would fill in all its holes.
                        regular = member.isreg() and not member.issparse()
                        reason = (
                            _refusal(name, member.size, wanted) if regular else "not a regular file"
                        )
                        tail.limit = tar.offset + _BLOCK + _LARGEST_HEADER
                        if reason is None:
                            # What extractfile does, without its three layers of file objects.
                            tar.fileobj.seek(member.offset_data)
                            contents = tar.fileobj.read(member.size)
                            if len(contents) < member.size:
                                raise tarfile.ReadError("unexpected end of data")
                            yield name, contents
                        elif not member.isdir():
                            skipped.append(Skipped(_printable(name), reason))
                        tar.members.clear()  # it would keep every header in memory
                    # tarfile takes a broken header for the end of the archive; this does not.
                    if tail.has_data_after(tar.offset):
                        raise tarfile.ReadError("a header is broken")
        except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError) as error:
            size = archive.stat().st_size
            reason = (
                f"archive is damaged or cut short after {count} members "
                f"({min(raw.tell(), size):,} of {size:,} bytes read): {error}"
            )
            if not salvage:
                raise ValueError(
                    f"{archive}: {reason}. Download it again, or pack what can be read with "
                    "salvage=True (timl pack --salvage)"
                ) from error
            skipped.append(Skipped(archive.name, reason))


def _printable(name: str) -> str:
    return ascii(name)[1:-1][:200]
