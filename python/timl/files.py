"""Files and folders that are written whole or not at all, and locks."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

_LOCK = ".lock"
"""Lock file of a folder of results, in it while a process writes there."""

_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
"""Errors of a disk without room, of files beyond the system's limit, of a used up quota."""

_BESIDE = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{32}\.(?P<kind>tmp|old)")
"""Names of what stands beside a file or folder while it is written (tmp) or replaced (old)."""


@contextmanager
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a file for writing that replaces `path` only when the block ends without an error.

    The data go to a temporary name in the same folder, are flushed to the disk, and replace `path`
    in one rename. After an error neither a new nor a changed file is left.

    Parameters
    ----------
    path
        File to write; its folder must exist.
    mode
        "wb" for bytes, or "w" for text in UTF-8.

    Yields
    ------
    file
        File object open for writing, which is closed after the block.

    Raises
    ------
    ValueError
        If `mode` is neither "wb" nor "w".
    OSError
        If the disk is full: the message names the file, which is as it was before.
    """
    if mode not in ("wb", "w"):
        raise ValueError(f"mode is {mode!r}: give 'wb' for bytes or 'w' for text")
    path = Path(path)
    file = _open_temporary(path, mode)
    temporary = Path(file.name)
    try:
        with naming_full_disk(path, "what was there before is as it was"):
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def naming_full_disk(path: Path, kept: str) -> Iterator[None]:
    """Let an error of a full disk in the block say which file was being written, and what is kept.

    Parameters
    ----------
    path
        File or folder that the block writes.
    kept
        What is kept, as a clause.
    """
    try:
        yield
    except OSError as error:
        # NumPy gives no number where it could write but a part
        if error.errno not in _FULL and not (error.errno is None and type(error) is OSError):
            raise
        first = error.__cause__ if isinstance(error, _FullDiskError) else error
        reason = " ".join(str(getattr(first, "strerror", None) or first).split())
        raise _FullDiskError(
            error.errno or errno.ENOSPC,
            f"{path} cannot be written ({reason}): make room on the disk of {path.parent}, and "
            f"give the same call again; {kept}",
        ) from first


class _FullDiskError(OSError):
    """The disk is full, as the message says with the name of what was being written."""


def _open_temporary(path: Path, mode: str) -> IO[Any]:
    """Open a new file beside ``path``, locked: `remove_leftovers` takes only those of the dead."""
    while True:
        temporary = _beside(path, "tmp")
        file = temporary.open(f"x{mode[1:]}", encoding=None if mode == "wb" else "utf-8")
        # another process may have taken it for a leftover before it was locked
        if _take_lock(file.fileno()) is not False and temporary.exists():
            return file
        file.close()


@contextmanager
def atomic_folder(path: str | Path, replace: Callable[[], bool] = lambda: False) -> Iterator[Path]:
    """Make a folder that appears at `path` only when the block ends without an error.

    The block fills a temporary folder beside `path`; then its files are flushed to the disk and it
    is renamed. What killed processes left beside `path` is removed first, see `recover_folder`.

    Parameters
    ----------
    path
        Folder to make; its parent must exist.
    replace
        Called when there is a folder with files at `path` by then, perhaps of another process:
        True replaces it, False leaves it as it is.

    Yields
    ------
    Path
        Empty temporary folder to put files into.
    """
    path = Path(path)
    recover_folder(path)
    kept = "what was there before is as it was"
    with _temporary_folder(path) as temporary, naming_full_disk(path, kept):
        yield temporary
        for entry in [*temporary.rglob("*"), temporary]:
            if entry.is_dir():
                sync_folder(entry)
            else:
                with entry.open("rb+") as handle:
                    os.fsync(handle.fileno())
        _put_in_place(temporary, path, replace)
        sync_folder(path.parent)


@contextmanager
def _temporary_folder(path: Path) -> Iterator[Path]:
    """Make a new folder beside ``path``, locked as long as it is being filled, and remove it."""
    while True:
        temporary = _beside(path, "tmp")
        temporary.mkdir()
        with _opened(temporary) as descriptor:
            if descriptor is not None and _take_lock(descriptor) is False:
                continue  # another process has taken it for a leftover
            if not temporary.exists():
                continue
            try:
                yield temporary
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            return


def recover_folder(path: str | Path) -> None:
    """Undo what processes that were killed in `atomic_folder` left beside a folder.

    A folder that was being replaced is put back where none has taken its place; temporary folders
    are removed. Those of processes that are at work stay.
    """
    path = Path(path)
    if not path.parent.is_dir():
        return
    for left in list(path.parent.iterdir()):
        found = _BESIDE.fullmatch(left.name)
        if found is None or found["name"] != path.name or not left.is_dir():
            continue
        if found["kind"] == "old" and not path.exists():
            with suppress(OSError):  # another process was faster
                os.rename(left, path)
        elif found["kind"] == "old":
            shutil.rmtree(left, ignore_errors=True)
        else:
            _remove_if_dead(left)


def remove_leftovers(folder: str | Path) -> None:
    """Remove the temporary files that killed processes left in a folder by `atomic_write`."""
    for left in list(Path(folder).iterdir()):
        found = _BESIDE.fullmatch(left.name)
        if found is not None and found["kind"] == "tmp" and left.is_file():
            _remove_if_dead(left)


def _remove_if_dead(left: Path) -> None:
    """Remove a temporary file or folder unless the process that made it holds its lock."""
    with _opened(left) as descriptor:
        if descriptor is None or _take_lock(descriptor) is not True:
            return
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """Open a file or folder for its lock; None where it is gone or the system opens no folders."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _beside(path: Path, kind: str) -> Path:
    """Return a new name that `_BESIDE` fits."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.{kind}")


def _put_in_place(new: Path, path: Path, replace: Callable[[], bool]) -> None:
    """Rename a folder to ``path``; what it replaces is moved aside and removed.

    Another process may come between any two steps: then it is tried again.
    """
    aside: list[Path] = []
    try:
        while True:
            try:
                os.rename(new, path)
                return
            except OSError as error:
                if not (path.is_dir() or error.errno in (errno.EEXIST, errno.ENOTEMPTY)):
                    raise
            if not replace():
                return
            old = _beside(path, "old")
            with suppress(FileNotFoundError):
                os.rename(path, old)
                aside.append(old)
    finally:
        if aside and not path.exists():
            with suppress(FileNotFoundError):  # `recover_folder` of another process was faster
                os.rename(aside[-1], path)
        for old in aside:
            shutil.rmtree(old, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk, where the system can (POSIX)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: str | Path) -> Iterator[bool]:
    """Hold a lock file while the block runs; other processes that want it wait.

    The lock belongs to the process and ends with it, however it ends; the file stays.

    Parameters
    ----------
    path
        Lock file; its folder must exist.

    Yields
    ------
    bool
        Whether the lock is held. It is not where the system or the file system has no locks
        (Windows, some network drives): then no process waits, and the block must be safe without.
    """
    with Path(path).open("ab") as file:
        yield _lock(file.fileno())


@contextmanager
def held_alone(path: str | Path, what: object) -> Iterator[None]:
    """Hold a lock file while the block runs, or raise at once if another process holds it.

    Parameters
    ----------
    path
        Lock file; its folder must exist. It is removed in the end.
    what
        File or folder that it protects, for the message.

    Raises
    ------
    BlockingIOError
        If another process holds it.
    """
    path = Path(path)
    while True:
        with path.open("ab") as file:
            if _take_lock(file.fileno()) is False:
                raise BlockingIOError(
                    errno.EAGAIN, f"{what} is being written by another process: wait for it"
                )
            try:
                same = os.path.samestat(os.fstat(file.fileno()), path.stat())
            except FileNotFoundError:
                same = False
            if not same:  # its last holder removed it between our opening and locking it
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


@contextmanager
def output_folder(path: str | Path) -> Iterator[Path]:
    """Make a folder for results, and keep other processes from writing there in the meantime.

    Temporary files of killed processes are removed from it. A folder that was made here is removed
    where the block leaves it empty.

    Parameters
    ----------
    path
        Folder, which may exist.

    Yields
    ------
    Path
        The folder.

    Raises
    ------
    NotADirectoryError
        If there is a file of this name, or on the way to it.
    BlockingIOError
        If another process is writing there.
    """
    path = Path(path)
    new = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(
            f"out is {path}, which is a file or lies in one: give a folder"
        ) from None
    try:
        with held_alone(path / _LOCK, path):
            remove_leftovers(path)
            yield path
    finally:
        if new:
            with suppress(OSError):  # it holds something
                path.rmdir()


def wait_for_folder(path: str | Path, seconds: float) -> None:
    """Wait until no process writes into a folder of `output_folder`, so many seconds at most."""
    lock, end = Path(path) / _LOCK, time.monotonic() + seconds
    while time.monotonic() < end:
        with _opened(lock) as descriptor:
            if descriptor is None or _take_lock(descriptor) is not False:
                return
        time.sleep(0.1)


def user_cache() -> Path:
    """Return timl's folder among those where this system's users keep what can be made again.

    It is $XDG_CACHE_HOME/timl where that is set, else ~/.cache/timl on Linux, ~/Library/Caches/timl
    on macOS and %LOCALAPPDATA%/timl on Windows. It may not exist yet.
    """
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "timl"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "timl"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "timl"
    return Path.home() / ".cache" / "timl"


def read_json(path: str | Path, advice: str) -> Any:
    """Return the content of a JSON file.

    Parameters
    ----------
    path
        File to read.
    advice
        What to do where it is not JSON, for the message.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not JSON in UTF-8, or nested too deeply.
    """
    return decode_json(Path(path).read_bytes(), path, advice)


def decode_json(text: str | bytes, source: object, advice: str) -> Any:
    """Return what a text says in JSON.

    Parameters
    ----------
    text
        Text, or its bytes in UTF-8.
    source
        Where it comes from, for the message.
    advice
        What to do where it is not JSON, for the message.

    Raises
    ------
    ValueError
        If it is not JSON in UTF-8, or nested too deeply.
    """
    try:
        return json.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} is not JSON ({error}): {advice}") from error


def _take_lock(descriptor: int) -> bool | None:
    """Take the lock of an open file or folder if it is free.

    Returns
    -------
    bool or None
        True where it is held now, False where another process holds it, None where there are no
        locks (Windows, some network drives).
    """
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


def _lock(descriptor: int) -> bool:
    """Wait for the lock of an open file; return whether there are locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except (ImportError, OSError):
        return False
    return True
