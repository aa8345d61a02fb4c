"""The packed store: the record's many small files as a few arrays that are mapped into memory.

A store is a folder named after the state of its source (names, sizes and times of archives,
folders and labels), so a changed source makes a new one. It is built under a temporary name and
renamed when complete; one process packs, others wait for it; one killed midway leaves no store.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import warnings
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from timl.bands import BANDS, SERIES_SHAPE
from timl.data.record.archives import Skipped, SourceFile, folder_files, source_state, unchanged
from timl.data.record.labels import load_labels, read_labels
from timl.data.record.names import ARCHIVE_SUFFIX, FEATURES, LABELS, STORES
from timl.data.record.packing import (
    LABELS_FILE,
    MANIFEST,
    TEST_FIELDS,
    VERSION,
    checksum,
    digest,
    pack,
    read_manifest,
)
from timl.files import atomic_folder, locked, user_cache

if TYPE_CHECKING:
    import pandas as pd

_GLANCES = 20
"""Number of times to look again for a store that another process is replacing."""


@dataclass(frozen=True, eq=False)
class Store:
    """An opened store.

    Parameters
    ----------
    folder
        Folder of its files.
    series : float32 array of shape [n, 12, 18]
        Training series as measured (not normalised), mapped; sorted by data set and index.
    dataset : str array of shape [n]
        Data set of each series.
    index : int64 array of shape [n]
        Index of each series in its data set.
    mean, std : float64 arrays of shape [18]
        Normalising statistics.
    ndvi
        NDVI that the series carry: see `NdviMeter`.
    tests
        First row in ``test`` and the one after the last, by the name of each test file without its
        extension.
    test
        Arrays of all test files one after another: "x" (float32 [m, 12, 18], mapped), "y" (int8),
        "lats" and "lons" (float64, degrees), [m].
    skipped
        Files and features that were left out when packing.
    """

    folder: Path
    series: NDArray[np.float32]
    dataset: NDArray[np.str_]
    index: NDArray[np.int64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    ndvi: str
    tests: dict[str, tuple[int, int]]
    test: dict[str, NDArray[Any]]
    skipped: tuple[Skipped, ...]

    def __reduce__(self) -> Any:
        # another process maps the same files; a store in memory goes there whole
        if isinstance(self.series, np.memmap):
            return _reopen, (self.folder.resolve(),)
        return Store, tuple(getattr(self, field.name) for field in fields(self))

    def labels(self) -> pd.DataFrame:
        """Read the table of labels: their properties, and ``position``, -1 without a series.

        Raises
        ------
        FileNotFoundError
            If there was no labels.geojson when the store was packed.
        """
        return load_labels(self.folder / LABELS_FILE)


def open_store(
    root: Path, cache: Path | None = None, *, salvage: bool = False, again: bool = False
) -> Store:
    """Open the store of a data set; pack the data set first where there is none yet.

    Parameters
    ----------
    root
        Folder in the record's layout, with features.tar.gz or a folder features (if both exist,
        the archive is read), and likewise for test_features, which may be absent, and
        labels.geojson, which may be absent too.
    cache
        Folder that holds stores. By default the store lies in ``root/.timl``, or, if ``root``
        is read-only, in the user's cache folder.
    salvage
        Pack what can be read of a damaged archive. The store then serves until the archive
        changes, with a warning each time it is opened.
    again
        Pack even if there is a store.

    Raises
    ------
    FileNotFoundError
        If there are no features in ``root``.
    ValueError
        If there is not one readable series, an archive is damaged and ``salvage`` is False, or the
        labels cannot be used.
    OSError
        If the store cannot be written, for want of space for example; nothing is left then.

    Warns
    -----
    UserWarning
        If files or labels had to be left out while packing, or an archive was damaged.
    """
    state = source_state(root)
    if not any(file.name.startswith(FEATURES) for file in state):
        raise FileNotFoundError(
            f"root is {root}, with neither {FEATURES}{ARCHIVE_SUFFIX} nor files in {FEATURES}: "
            "give the folder that holds CropHarvest's files"
        )
    name = f"store-{digest([SourceFile('version', VERSION, 0), *state])[:16]}"
    parents = _parents(root, cache)
    for parent in parents if not again else ():
        store = _load(parent / name, root)
        if store is not None:
            _warn(root, [file for file in store.skipped if file.file.endswith(ARCHIVE_SUFFIX)])
            return store
    parent = next((folder for folder in parents if _writable(folder)), parents[-1])
    labels = read_labels(root / LABELS) if (root / LABELS).is_file() else None
    parent.mkdir(parents=True, exist_ok=True)
    with locked(parent / "lock") as alone:
        # Whoever held the lock may have packed the same source meanwhile.
        store = None if again else _load(parent / name, root)
        if store is None:
            store = _replace(root, parent / name, labels, salvage=salvage, again=again, alone=alone)
    _warn(root, list(store.skipped))
    return store


def verify_store(store: Store, root: Path) -> None:
    """Read a store completely and compare it with the sums taken when it was packed.

    Parameters
    ----------
    store
        Opened store.
    root
        Folder of the data set. Every file of an unpacked source is compared by size and time.

    Raises
    ------
    ValueError
        If a file of the store or of the source differs.
    """
    manifest = read_manifest(store.folder / MANIFEST)
    for name, (_, expected) in manifest["files"].items():
        if checksum(store.folder / name) != expected:
            raise ValueError(
                f"{store.folder / name} does not hold what was packed: pack again with again=True "
                "(timl pack --again)"
            )
    if digest(folder_files(root)) != manifest["source"]:
        raise ValueError(
            f"files below {root} have changed since they were packed: pack again with again=True "
            "(timl pack --again)"
        )


def _replace(
    root: Path, path: Path, labels: Any, *, salvage: bool, again: bool, alone: bool
) -> Store:
    """Pack a data set into the folder ``path`` and remove the stores of earlier sources.

    Without a lock (``alone`` is False) other processes may do the same at the same time. Whole
    stores of one source hold the same, so the first one at its place stays; only a broken one, and
    with ``again`` any, is replaced.
    """
    for left in path.parent.glob(".store-*.tmp") if alone else ():
        shutil.rmtree(left, ignore_errors=True)  # of a process that was killed
    with atomic_folder(path, lambda: again or _load(path, root) is None) as folder:
        pack(root, folder, labels, salvage=salvage)
    store = _load(path, root)
    for _ in () if alone else range(_GLANCES):
        if store is not None:
            break
        time.sleep(0.05)  # another process replaces it: for two renames there is none
        store = _load(path, root)
    if store is None:
        raise OSError(f"{path} was packed but cannot be read back: was the source changed?")
    for old in path.parent.glob("store-*"):
        if old != path:
            shutil.rmtree(old, ignore_errors=True)
    return store


def _warn(root: Path, skipped: list[Skipped]) -> None:
    if skipped:
        first = skipped[0]
        warnings.warn(
            f"{root}: {len(skipped)} files or labels were left out, the first: {first.file} "
            f"({first.reason}); CropHarvest.report lists them",
            stacklevel=3,
        )


def _load(folder: Path, root: Path) -> Store | None:
    """Open a store's folder; None if there is none, it is not whole, or its source changed."""
    try:
        manifest = read_manifest(folder / MANIFEST)
        files = manifest["files"]
        if any((folder / name).stat().st_size != size for name, (size, _) in files.items()):
            return None
        if not unchanged(root, [SourceFile(*file) for file in manifest["sampled"]]):
            return None
        return _open(folder, manifest)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _open(folder: Path, manifest: dict[str, Any]) -> Store:
    """Open the files of a store's folder."""
    number, index = (np.load(folder / f"{name}.npy") for name in ("dataset", "index"))
    tests = {name: (start, stop) for name, (start, stop) in manifest["tests"].items()}
    count = max((stop for _, stop in tests.values()), default=0)
    mean, std = (np.array(manifest[name], np.float64) for name in ("mean", "std"))
    if not mean.shape == std.shape == (len(BANDS),):
        raise ValueError(f"{folder} has mean {mean.shape} and std {std.shape}")
    return Store(
        folder=folder,
        series=_map(folder / "series.npy", (len(index), *SERIES_SHAPE), np.float32),
        dataset=np.array(manifest["datasets"])[number],
        index=index,
        mean=mean,
        std=std,
        ndvi=manifest["ndvi"],
        tests=tests,
        test={
            field: _map(folder / f"test_{field}.npy", (count, *shape), dtype)
            for field, (shape, dtype) in TEST_FIELDS.items()
        },
        skipped=tuple(Skipped(*entry) for entry in manifest["skipped"]),
    )


def _reopen(folder: Path) -> Store:
    """Open a store that another process has open."""
    return _open(folder, read_manifest(folder / MANIFEST))


def _map(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """Map an array's file, after a look at its header."""
    # NumPy cannot map an empty array.
    values: NDArray[Any] = np.load(path, mmap_mode="r" if shape[0] else None)
    if values.shape != shape or values.dtype != dtype:
        raise ValueError(f"{path} has shape {values.shape} and dtype {values.dtype}")
    return values


def _parents(root: Path, cache: Path | None) -> list[Path]:
    """Folders that may hold this data set's store, the preferred one first."""
    resolved = root.resolve()
    name = f"{resolved.name}-{hashlib.sha256(str(resolved).encode()).hexdigest()[:12]}"
    if cache is not None:
        return [cache / name]
    return [root / STORES, user_cache() / name]


def _writable(folder: Path) -> bool:
    """Tell whether a folder, or the nearest one above it that exists, may be written to."""
    while not folder.exists():
        folder = folder.parent
    # An administrator may write anywhere; a folder that nobody was given is left alone even so.
    return bool(folder.stat().st_mode & 0o222) and os.access(folder, os.W_OK)
