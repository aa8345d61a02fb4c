"""Writing a store: every file of a data set, read once, as a few arrays.

Series go to the disk as they are read, in the order of the source, and are put into their final
order at the end: memory holds one file, one block of rows and the index, whatever the number of
series.
"""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from timl.bands import BANDS, SERIES_SHAPE
from timl.data.record.archives import (
    Skipped,
    SourceFile,
    Wanted,
    folder_files,
    read_members,
    sampled_files,
    unchanged,
)
from timl.data.record.decoding import SeriesDecoder, decode_statistics, decode_test
from timl.data.record.labels import pack_labels
from timl.data.record.names import ARRAYS, FEATURES, NORMALISING, TEST_FEATURES
from timl.data.record.ndvi import NdviMeter
from timl.files import decode_json, read_json

VERSION = 2
"""Version of the store's format; another version is packed again."""

MANIFEST = "store.json"
LABELS_FILE = "labels.npz"
TEST_FIELDS: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
    "x": (SERIES_SHAPE, np.float32),
    "y": ((), np.int8),
    "lats": ((), np.float64),
    "lons": ((), np.float64),
}
"""Shape and dtype of a row of each array of the test files."""

_ARRAY_FILE = re.compile(rf"{ARRAYS}/(\d{{1,18}})_([\w.-]{{1,100}})\.h5", re.ASCII)
_FEATURE_FILES = Wanted(
    FEATURES,
    re.compile(rf"{_ARRAY_FILE.pattern}|{re.escape(NORMALISING)}", re.ASCII),
    2**24,  # a training file has some 8,000 bytes
)
_TEST_FILES = Wanted(
    TEST_FEATURES,
    re.compile(rf"{TEST_FEATURES}/([\w. -]{{1,200}})\.h5", re.ASCII),
    2**31,  # a test file of 800,000 series is smaller
)
_BLOCK = 4096
"""Number of series that are held at once."""


def pack(
    root: Path,
    folder: Path,
    labels: tuple[dict[str, list[Any]], list[Skipped]] | None,
    *,
    salvage: bool,
) -> None:
    """Read every file of a data set once and write the store's files.

    Parameters
    ----------
    root
        Folder of the data set.
    folder
        Empty folder to write to.
    labels
        Columns and skipped features that `read_labels` returned.
    salvage
        Pack what can be read of a damaged archive.

    Raises
    ------
    ValueError
        If an archive is damaged and ``salvage`` is False, or not one series can be read.
    """
    columns, skipped = labels if labels is not None else (None, [])
    skipped = list(skipped)
    files = folder_files(root)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        manifest = _pack_series(root, folder, skipped, progress, salvage)
        manifest["tests"] = _pack_tests(root, folder, skipped, progress, salvage)
    if columns is not None:
        position = _positions(manifest["datasets"], folder, columns)
        (folder / LABELS_FILE).write_bytes(pack_labels({**columns, "position": position}))
    if files and not unchanged(root, files):
        raise ValueError(f"{root}: files changed while they were packed: pack again")
    manifest |= {
        "version": VERSION,
        "skipped": skipped,
        "sampled": sampled_files(files),
        "source": digest(files),
        "files": {
            file.name: (file.stat().st_size, checksum(file)) for file in sorted(folder.iterdir())
        },
    }
    write_manifest(folder / MANIFEST, manifest)


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write a store's manifest with a checksum of itself."""
    content = json.dumps(manifest, sort_keys=True)
    whole = {"checksum": hashlib.sha256(content.encode()).hexdigest(), "content": content}
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a store's manifest.

    Raises
    ------
    OSError, ValueError, KeyError, TypeError
        If it is missing, damaged, or of another version.
    """
    whole = read_json(path, "pack again")
    if hashlib.sha256(whole["content"].encode()).hexdigest() != whole["checksum"]:
        raise ValueError(f"{path} is damaged")
    manifest: dict[str, Any] = decode_json(whole["content"], path, "pack again")
    if manifest["version"] != VERSION:
        raise ValueError(f"{path} has version {manifest['version']}, not {VERSION}")
    return manifest


def checksum(path: Path) -> str:
    """Return the SHA-256 sum of a file."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            total.update(block)
    return total.hexdigest()


def digest(files: list[SourceFile]) -> str:
    """Return one sum over names, sizes and times of a source's files."""
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def _pack_series(
    root: Path, folder: Path, skipped: list[Skipped], progress: Progress, salvage: bool
) -> dict[str, Any]:
    """Write the training series and their index; return data sets, statistics and NDVI."""
    numbers: dict[str, int] = {}
    dataset, index = array("i"), array("q")
    seen: set[tuple[int, int]] = set()
    given = None
    decoder = SeriesDecoder()
    unsorted = folder / "unsorted"
    with unsorted.open("wb") as file:
        for name, contents in read_members(root, _FEATURE_FILES, skipped, progress, salvage):
            try:
                match = _ARRAY_FILE.fullmatch(name)
                if match is None:
                    given = decode_statistics(contents)
                    continue
                key = numbers.setdefault(match[2], len(numbers)), int(match[1])
                if key in seen:
                    raise ValueError("a second file of this name")
                series = decoder.decode(contents)
            except ValueError as error:
                skipped.append(Skipped(name, str(error)))
                continue
            seen.add(key)
            dataset.append(key[0])
            index.append(key[1])
            file.write(series.data)
    if not index:
        reasons = "; ".join(f"{file}: {reason}" for file, reason in skipped[:3]) or "no files"
        raise ValueError(f"{root}: not one series could be read ({reasons})")
    with_series = set(dataset)
    used = sorted(name for name, number in numbers.items() if number in with_series)
    rank = np.zeros(len(numbers), np.int32)
    rank[[numbers[name] for name in used]] = np.arange(len(used))
    datasets, indices = rank[np.array(dataset)], np.array(index, np.int64)
    order = np.lexsort((indices, datasets))
    np.save(folder / "dataset.npy", datasets[order])
    np.save(folder / "index.npy", indices[order])
    rows = np.memmap(unsorted, np.float32, "r", shape=(len(order), *SERIES_SHAPE))
    meter = NdviMeter()
    with (folder / "series.npy").open("wb") as file:
        _write_header(file, rows.shape, rows.dtype)
        for block in _blocks(rows, order):
            meter.add(block)
            file.write(block.data)
    mean, std = given or _compute_statistics(rows, order)
    del rows
    unsorted.unlink()
    return {
        "datasets": used,
        "mean": mean.tolist(),
        "std": std.tolist(),
        "ndvi": meter.result(),
    }


def _pack_tests(
    root: Path, folder: Path, skipped: list[Skipped], progress: Progress, salvage: bool
) -> dict[str, tuple[int, int]]:
    """Write the test files one after another, sorted by name; return each one's rows."""
    found: dict[str, dict[str, NDArray[Any]]] = {}
    starts: dict[str, int] = {}
    unsorted = folder / "unsorted"
    count = 0
    with unsorted.open("wb") as file:
        for name, contents in read_members(root, _TEST_FILES, skipped, progress, salvage):
            stem = Path(name).stem
            try:
                if stem in found:
                    raise ValueError("a second file of this name")
                test = decode_test(contents)
            except ValueError as error:
                skipped.append(Skipped(name, str(error)))
                continue
            file.write(test.pop("x").data)
            found[stem], starts[stem] = test, count
            count += len(test["y"])
    names = sorted(found)
    order = np.concatenate(
        [np.empty(0, np.int64), *(starts[n] + np.arange(len(found[n]["y"])) for n in names)]
    )
    with (folder / "test_x.npy").open("wb") as file:
        _write_header(file, (count, *SERIES_SHAPE), np.dtype(np.float32))
        if count:  # NumPy cannot map an empty file
            rows = np.memmap(unsorted, np.float32, "r", shape=(count, *SERIES_SHAPE))
            for block in _blocks(rows, order):
                file.write(block.data)
            del rows
    unsorted.unlink()
    for field in ("y", "lats", "lons"):
        empty = np.empty(0, TEST_FIELDS[field][1])
        np.save(
            folder / f"test_{field}.npy", np.concatenate([empty, *(found[n][field] for n in names)])
        )
    stops = np.cumsum([len(found[name]["y"]) for name in names]).tolist()
    return dict(zip(names, pairwise([0, *stops]), strict=True))


def _write_header(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Begin a .npy file whose rows follow.

    Not `open_memmap`: on a full disk, writing to a mapped file kills the process.
    """
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(file, header)


def _blocks(rows: NDArray[np.float32], order: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(order), _BLOCK):
        yield np.ascontiguousarray(rows[order[start : start + _BLOCK]])


def _compute_statistics(
    rows: NDArray[np.float32], order: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and deviation of each band over samples and steps; 1 for a constant band."""
    count = rows.shape[0] * rows.shape[1]
    total, squares = np.zeros(len(BANDS)), np.zeros(len(BANDS))
    lowest, highest = np.full(len(BANDS), np.inf), np.full(len(BANDS), -np.inf)
    for block in _blocks(rows, order):
        total += block.sum((0, 1), np.float64)
        lowest = np.minimum(lowest, block.min((0, 1)))
        highest = np.maximum(highest, block.max((0, 1)))
    mean = total / count
    for block in _blocks(rows, order):
        squares += ((block - mean) ** 2).sum((0, 1))
    return mean, np.where(lowest == highest, 1.0, np.sqrt(squares / count))


def _positions(datasets: list[str], folder: Path, columns: dict[str, list[Any]]) -> list[int]:
    """Return the row of each label's series in the store, -1 if it has none."""
    numbers = np.load(folder / "dataset.npy").tolist()
    indices = np.load(folder / "index.npy").tolist()
    rows = {
        (datasets[number], index): row
        for row, (number, index) in enumerate(zip(numbers, indices, strict=True))
    }
    keys = zip(columns["dataset"], columns["index"], strict=True)
    return [rows.get(key, -1) for key in keys]
