"""Files and folders that are written whole or not at all, and locks."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any


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
    """
    if mode not in ("wb", "w"):
        raise ValueError(f"mode is {mode!r}: give 'wb' for bytes or 'w' for text")
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open(f"x{mode[1:]}", encoding=None if mode == "wb" else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path, replace: Callable[[], bool] = lambda: False) -> Iterator[Path]:
    """Make a folder that appears at `path` only when the block ends without an error.

    The block fills a temporary folder beside `path`; then its files are flushed to the disk and it
    is renamed.

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
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        for entry in [*temporary.rglob("*"), temporary]:
            if entry.is_dir():
                sync_folder(entry)
            else:
                with entry.open("rb+") as handle:
                    os.fsync(handle.fileno())
        _put_in_place(temporary, path, replace)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
            old = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
            with suppress(FileNotFoundError):
                os.rename(path, old)
                aside.append(old)
    finally:
        if aside and not path.exists():
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
            if _is_locked_elsewhere(file.fileno()):
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


def _is_locked_elsewhere(descriptor: int) -> bool:
    """Take the lock of an open file; return whether another process holds it."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):  # no locks here: nothing to respect
        return False
    return False


def _lock(descriptor: int) -> bool:
    """Wait for the lock of an open file; return whether there are locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except (ImportError, OSError):
        return False
    return True
