"""The packed store: the record's many small files as a few arrays that are mapped into memory.

A store is a folder named after a fingerprint of its source (names, sizes and times of the files),
so a changed source makes a new one. It is built under a temporary name and renamed when complete:
two processes may pack at once, and one killed midway leaves no store.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import time
import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timl.data.archives import Skipped, read_members, source_files
from timl.data.decode import decode_series, decode_statistics, decode_test
from timl.data.layout import ARRAYS, BANDS, FEATURES, NORMALISING, SERIES_SHAPE, TEST_FEATURES
from timl.files import atomic_folder

_VERSION = 1
_MANIFEST = "store.json"
_ARRAY_FILE = re.compile(rf"{ARRAYS}/(\d{{1,18}})_([\w.-]{{1,100}})\.h5", re.ASCII)
_FEATURE_FILE = re.compile(rf"{_ARRAY_FILE.pattern}|{re.escape(NORMALISING)}", re.ASCII)
_TEST_FILE = re.compile(rf"{TEST_FEATURES}/([\w. -]{{1,200}})\.h5", re.ASCII)
_STALE_SECONDS = 3600
_NO_TESTS: dict[str, NDArray[Any]] = {
    "x": np.empty((0, *SERIES_SHAPE), np.float32),
    "y": np.empty(0, np.int8),
    "lats": np.empty(0, np.float64),
    "lons": np.empty(0, np.float64),
}


@dataclass(frozen=True, eq=False)
class Store:
    """An opened store.

    Parameters
    ----------
    folder : Path
        Where it lies.
    series : ndarray of float32, shape [n, 12, 18]
        The training series as measured (not normalised), mapped; sorted by data set and index.
    dataset : ndarray of str, shape [n]
        Each series' data set.
    index : ndarray of int64, shape [n]
        Each series' index in its data set.
    mean, std : ndarray of float64, shape [18]
        The normalising statistics.
    ndvi : str
        Which NDVI the series carry: see `measure_ndvi`.
    tests : dict
        Name of each test file, without its extension: (start, stop) rows in ``test``.
    test : dict
        "x" (float32 [m, 12, 18], mapped), "y" (int8), "lats" and "lons" (float64, degrees), [m]:
        all test files one after another.
    skipped : tuple of Skipped
        The files that were left out when packing.
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


def open_store(root: Path, cache: Path | None = None) -> Store:
    """Open the store of a data set; pack the data set first where there is none yet.

    Parameters
    ----------
    root : Path
        A folder in the record's layout, with features.tar.gz or a folder features (if both exist,
        the archive is read), and likewise for test_features, which may be absent.
    cache : Path, optional
        The folder that holds stores. By default the store lies in ``root/.timl``, or, if ``root``
        is read-only, in the user's cache folder.

    Raises
    ------
    FileNotFoundError
        If there are no features in ``root``.
    ValueError
        If there is not one readable series.

    Warns
    -----
    UserWarning
        If files had to be left out while packing.
    """
    features, tests = source_files(root, FEATURES), source_files(root, TEST_FEATURES)
    if not features:
        raise FileNotFoundError(
            f"{root} has neither {FEATURES}.tar.gz nor a folder {FEATURES} with files; give the "
            "folder that holds CropHarvest's files"
        )
    source = json.dumps([_VERSION, features, tests]).encode()
    name = f"store-{hashlib.sha256(source).hexdigest()[:16]}"
    parents = _parents(root, cache)
    for parent in parents:
        store = _load(parent / name)
        if store is not None:
            return store
    parent = next((folder for folder in parents if _writable(folder)), parents[-1])
    parent.mkdir(parents=True, exist_ok=True)
    _tidy(parent)
    # A store appears whole: one that is there now and cannot be loaded is broken, not half made.
    if (parent / name).exists() and _load(parent / name) is None:
        shutil.rmtree(parent / name, ignore_errors=True)
    with atomic_folder(parent / name) as folder:
        _pack(root, folder)
    store = _load(parent / name)
    if store is None:
        raise OSError(f"{parent / name} was packed but cannot be read back; is the disk full?")
    for old in parent.glob("store-*"):
        if old.name != name:
            shutil.rmtree(old, ignore_errors=True)
    if store.skipped:
        first = store.skipped[0]
        warnings.warn(
            f"{root}: {len(store.skipped)} files were left out, the first: {first.file} "
            f"({first.reason}); CropHarvest.report lists them",
            stacklevel=3,
        )
    return store


def measure_ndvi(series: NDArray[np.float32]) -> str:
    """Measure which NDVI the last band holds.

    Parameters
    ----------
    series : ndarray of float32, shape [n, 12, 18]
        Series as measured, not normalised.

    Returns
    -------
    str
        "true" if at least 9 in 10 values equal (B8 - B4) / (B8 + B4), "record" if they equal
        (B7 - B3) / (B7 + B3), as in CropHarvest's record; "unknown" if neither or both.
    """
    fits = {}
    for name, upper, lower in (("record", "B7", "B3"), ("true", "B8", "B4")):
        high = series[..., BANDS.index(upper)].astype(np.float64)
        low = series[..., BANDS.index(lower)].astype(np.float64)
        total = high + low
        ratio = np.divide(high - low, total, out=np.zeros_like(total), where=total > 0)
        difference = np.abs(series[..., BANDS.index("NDVI")] - ratio)
        fits[name] = np.mean(difference < 1e-4) >= 0.9
    fitting = [name for name, fit in fits.items() if fit]
    return fitting[0] if len(fitting) == 1 else "unknown"


def _pack(root: Path, folder: Path) -> None:
    """Read every file of the source once and write the store's files into ``folder``."""
    skipped: list[Skipped] = []
    found, statistics = _read_features(root, skipped)
    keys = sorted(found)
    series = np.stack([found[key] for key in keys])
    mean, std = statistics or _compute_statistics(series)
    tests = _read_tests(root, skipped)
    stops = np.cumsum([len(tests[name]["y"]) for name in sorted(tests)]).tolist()
    datasets = sorted({dataset for dataset, _ in keys})
    numbers = {dataset: number for number, dataset in enumerate(datasets)}
    arrays: dict[str, NDArray[Any]] = {
        "series": series,
        "dataset": np.array([numbers[dataset] for dataset, _ in keys], np.int32),
        "index": np.array([index for _, index in keys], np.int64),
        **{
            f"test_{field}": np.concatenate(
                [nothing, *(tests[name][field] for name in sorted(tests))]
            )
            for field, nothing in _NO_TESTS.items()
        },
    }
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)
    manifest = {
        "version": _VERSION,
        "datasets": datasets,
        "mean": mean.tolist(),
        "std": std.tolist(),
        "ndvi": measure_ndvi(series),
        "tests": dict(zip(sorted(tests), pairwise([0, *stops]), strict=True)),
        "skipped": skipped,
        "sizes": {file.name: file.stat().st_size for file in sorted(folder.iterdir())},
    }
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def _read_features(
    root: Path, skipped: list[Skipped]
) -> tuple[
    dict[tuple[str, int], NDArray[np.float32]],
    tuple[NDArray[np.float64], NDArray[np.float64]] | None,
]:
    """Read the training series by data set and index, and the mean and std if they are given."""
    series: dict[tuple[str, int], NDArray[np.float32]] = {}
    statistics = None
    for name, contents in read_members(root, FEATURES, _FEATURE_FILE, skipped):
        try:
            match = _ARRAY_FILE.fullmatch(name)
            if match is None:
                statistics = decode_statistics(contents)
                continue
            key = match[2], int(match[1])
            if key in series:
                raise ValueError("a second file of this name")
            series[key] = decode_series(contents)
        except ValueError as error:
            skipped.append(Skipped(name, str(error)))
    if not series:
        reasons = "; ".join(f"{file}: {reason}" for file, reason in skipped[:3]) or "no files"
        raise ValueError(f"{root}: not one series could be read ({reasons})")
    return series, statistics


def _read_tests(root: Path, skipped: list[Skipped]) -> dict[str, dict[str, NDArray[Any]]]:
    """Read the test files by their names without extension."""
    tests: dict[str, dict[str, NDArray[Any]]] = {}
    for name, contents in read_members(root, TEST_FEATURES, _TEST_FILE, skipped):
        try:
            if Path(name).stem in tests:
                raise ValueError("a second file of this name")
            tests[Path(name).stem] = decode_test(contents)
        except ValueError as error:
            skipped.append(Skipped(name, str(error)))
    return tests


def _load(folder: Path) -> Store | None:
    """Open a store's folder; None if there is none or it is not whole."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        if any((folder / n).stat().st_size != size for n, size in manifest["sizes"].items()):
            return None
        arrays: dict[str, NDArray[Any]] = {}
        for file in manifest["sizes"]:
            # NumPy cannot map an empty array: without test files there is nothing to map.
            mapped = file == "series.npy" or (file == "test_x.npy" and manifest["tests"])
            arrays[Path(file).stem] = np.load(folder / file, mmap_mode="r" if mapped else None)
        return Store(
            folder=folder,
            series=arrays["series"],
            dataset=np.array(manifest["datasets"])[arrays["dataset"]],
            index=arrays["index"],
            mean=np.array(manifest["mean"], np.float64),
            std=np.array(manifest["std"], np.float64),
            ndvi=manifest["ndvi"],
            tests={name: (start, stop) for name, (start, stop) in manifest["tests"].items()},
            test={field: arrays[f"test_{field}"] for field in _NO_TESTS},
            skipped=tuple(Skipped(*entry) for entry in manifest["skipped"]),
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _compute_statistics(
    series: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each band over samples and steps; 1 for a constant band."""
    values = series.reshape(-1, len(BANDS)).astype(np.float64)
    std = values.std(axis=0)
    constant = values.min(axis=0) == values.max(axis=0)
    return values.mean(axis=0), np.where(constant, 1.0, std)


def _parents(root: Path, cache: Path | None) -> list[Path]:
    """Folders that may hold this data set's store, the preferred one first."""
    resolved = root.resolve()
    name = f"{resolved.name}-{hashlib.sha256(str(resolved).encode()).hexdigest()[:12]}"
    if cache is not None:
        return [cache / name]
    return [root / ".timl", _user_cache() / "timl" / name]


def _user_cache() -> Path:
    """Give the folder where this system's users keep what can be made again."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"])
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path.home() / ".cache"


def _writable(folder: Path) -> bool:
    """Tell whether a folder, or the nearest one above it that exists, may be written to."""
    while not folder.exists():
        folder = folder.parent
    # An administrator may write anywhere; a folder that nobody was given is left alone even so.
    return bool(folder.stat().st_mode & 0o222) and os.access(folder, os.W_OK)


def _tidy(parent: Path) -> None:
    """Remove temporary folders that a killed process left behind."""
    for folder in parent.glob(".store-*.tmp"):
        try:
            if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:
            pass  # another process was faster
