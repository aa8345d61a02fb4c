"""Downloading CropHarvest's record from Zenodo: verified, resumed, and put in place as a whole."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from timl.data.download.transfer import Part, Transfer
from timl.data.download.zenodo import (
    RemoteFile,
    base_address,
    parse_record,
    read_answer,
    record_address,
)
from timl.data.record.names import ARCHIVE_SUFFIX, FEATURES, LABELS, STORES, TEST_FEATURES
from timl.files import atomic_write, locked, read_json, sync_folder

PAPER_RECORD = 5828893
"""Zenodo's number of the version of CropHarvest that TIML's experiments used: the default, since
the paper's tables can only be compared on it. 7257688 and 10251170 (which adds labels from China)
are later versions."""

RECORD_FILES = (
    f"{FEATURES}{ARCHIVE_SUFFIX}",
    f"{TEST_FEATURES}{ARCHIVE_SUFFIX}",
    LABELS,
)
"""Names of the files to download, in the order in which they are put in place."""

_MANIFEST = "download.json"
_SPARE_SPACE = 2**26
"""Bytes that stay free."""


def download(
    root: str | Path,
    record: int = PAPER_RECORD,
    *,
    base_url: str | None = None,
    attempts: int = 5,
    timeout: float = 60.0,
    backoff: float = 1.0,
    overwrite: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Download labels.geojson, features.tar.gz and test_features.tar.gz of a record.

    The files' paths are returned, labels.geojson last. Sizes and checksums come from the record's
    own metadata. Files that are there and right are not fetched again; when a folder was complete
    before, nothing is asked of the network. Parts of files are kept in ``root/.timl/download`` and
    resumed. All files take their places together, when the last one is verified. Of two processes
    that download into one folder the second waits.

    Parameters
    ----------
    root
        Folder to download into; made if absent.
    record
        Number of the Zenodo record: 5828893 (the paper's), 7257688 or 10251170.
    base_url
        Address of a mirror that answers as Zenodo does. By default the environment variable
        TIML_ZENODO_URL, else Zenodo. A proxy is set with HTTPS_PROXY.
    attempts
        Number of attempts for each file; one that came at least 1 MiB further
        does not count.
    timeout
        Seconds without a byte after which an attempt has failed.
    backoff
        Seconds to wait after the first failure; doubled after each, at most 60.
    overwrite
        Replace files that are neither the record's nor those of an earlier download.
    progress
        Show progress on a terminal.

    Raises
    ------
    FileExistsError
        If there is another file in the place of one of the record's, unless ``overwrite``.
    FileNotFoundError
        If there is no such record, or it lacks a file.
    ConnectionError, PermissionError
        If the network or the server does not give a file.
    OSError
        If there is not enough space.
    ValueError
        If a file's content differs from the record's checksum, the answer of the records API
        makes no sense, or an argument does not.
    """
    if isinstance(record, bool) or not isinstance(record, int) or record < 1:
        raise ValueError(f"record is {record!r}: give a number such as {PAPER_RECORD}")
    root = Path(root)
    base = base_address(base_url)
    if _is_complete(root, record):
        return [root / name for name in RECORD_FILES]
    stage = root / STORES / "download"
    stage.mkdir(parents=True, exist_ok=True)
    with (
        locked(root / STORES / "download.lock"),
        Transfer(attempts, timeout, backoff) as transfer,
    ):
        if _is_complete(root, record):  # the process that this one waited for did it
            return [root / name for name in RECORD_FILES]
        stage.mkdir(exist_ok=True)
        url = record_address(base, record)
        content = transfer.read(url, read_answer)
        files = parse_record(content, url, base, RECORD_FILES)
        missing = [file for file in files.values() if not _is_there(root, file, overwrite)]
        parts = [Part(stage / f"{file.name}.part", file) for file in missing]
        _tidy(stage, parts)
        _check_space(root, parts)
        with _bars(progress) as bars:
            for part in parts:
                _fetch(transfer, part, stage, bars)
        for part in parts:
            os.replace(stage / part.file.name, root / part.file.name)
        sync_folder(root)
        _note(root, record, files)
        shutil.rmtree(stage, ignore_errors=True)
    return [root / name for name in RECORD_FILES]


def _fetch(transfer: Transfer, part: Part, stage: Path, bars: Progress) -> None:
    """Fetch one file into the folder ``stage`` through pooch, which verifies its checksum."""
    import pooch

    file = part.file
    task = bars.add_task(file.name, total=file.size)

    def downloader(url: str, output: str, _: object) -> None:
        transfer.fetch(url, part, lambda size: bars.update(task, completed=size))
        part.finish(output)

    fetcher = pooch.create(
        stage, base_url="", registry={file.name: file.checksum}, urls={file.name: file.url}
    )
    for last in (False, True):
        try:
            with _quiet_pooch():
                fetcher.fetch(file.name, downloader=downloader)
            return
        except ValueError as error:
            # A resumed file may be put together of two versions: once more from the start.
            if last or not part.resumed:
                raise ValueError(
                    f"{file.url} does not hold what the record says, and nothing was changed: "
                    f"{error}"
                ) from error
            part.discard()


@contextmanager
def _quiet_pooch() -> Iterator[None]:
    """Keep pooch from writing between the progress bars."""
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")
    try:
        yield
    finally:
        logger.setLevel(level)


def _bars(shown: bool) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not (shown and console.is_terminal),
    )


def _read_note(root: Path) -> tuple[int, dict[str, list[object]]]:
    """Read what the last download left in a folder: the record, and each file's state."""
    try:
        note = read_json(root / STORES / _MANIFEST, "")
        return int(note["record"]), dict(note["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, {}


def _note(root: Path, record: int, files: dict[str, RemoteFile]) -> None:
    """Remember size and time of the files, so that they need not be read to be recognised."""
    states = {name: _state(root / name, file.checksum) for name, file in files.items()}
    with atomic_write(root / STORES / _MANIFEST, "w") as note:
        json.dump({"record": record, "files": states}, note, indent=1)


def _state(path: Path, checksum: str) -> list[object]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, checksum]


def _is_complete(root: Path, record: int) -> bool:
    noted, states = _read_note(root)
    return noted == record and all(_is_noted(root, name, states) for name in RECORD_FILES)


def _is_noted(root: Path, name: str, states: dict[str, list[object]]) -> bool:
    """Tell whether a file is as the last download left it."""
    try:
        return _state(root / name, str(states[name][2])) == states[name]
    except (OSError, KeyError, IndexError, TypeError):
        return False


def _is_there(root: Path, file: RemoteFile, overwrite: bool) -> bool:
    """Tell whether a file of the record is in place; refuse to replace one that is not ours."""
    import pooch

    path = root / file.name
    if not path.exists():
        return False
    _, states = _read_note(root)
    ours = _is_noted(root, file.name, states)
    algorithm, expected = file.checksum.split(":")
    if ours and states[file.name][2] == file.checksum:
        return True
    same_size = path.is_file() and path.stat().st_size == file.size
    if same_size and pooch.file_hash(str(path), alg=algorithm) == expected:
        return True
    if ours or overwrite:
        return False
    raise FileExistsError(
        f"{path} is not the record's file ({path.stat().st_size} bytes; the record's has "
        f"{file.size} and {file.checksum}). Move it away, download into another folder, or give "
        "overwrite=True (--overwrite)"
    )


def _tidy(stage: Path, parts: list[Part]) -> None:
    """Remove what a killed process left: all but parts and files that are still wanted."""
    wanted = {part.file.name for part in parts} | {part.path.name for part in parts}
    for path in stage.iterdir():
        if path.name.removesuffix(".json") not in wanted:
            path.unlink()


def _check_space(root: Path, parts: list[Part]) -> None:
    staged = [part.path.with_name(part.file.name) for part in parts]
    there = sum(part.size() for part in parts) + sum(p.stat().st_size for p in staged if p.exists())
    needed = sum(part.file.size for part in parts) - there
    free = shutil.disk_usage(root).free
    if needed > 0 and needed + _SPARE_SPACE > free:
        raise OSError(
            errno.ENOSPC,
            f"{needed / 1e6:,.0f} MB are to be downloaded and {free / 1e6:,.0f} MB are free; make "
            "room, or give a folder on another disk",
            str(root),
        )
