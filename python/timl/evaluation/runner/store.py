"""The finished cells of an experiment, kept in one file as they are finished."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

from timl.files import naming_full_disk

Cell = TypeVar("Cell")

_BEGINNING = b'{"key": '


class CellStore(Generic[Cell]):
    """A file of JSON lines that finished jobs are appended to, each flushed to the disk.

    A line holds a job's key and its cells. The key is a digest of all that the cells depend on,
    so lines of other settings may stay. The last line may be torn, as after a power failure: it
    is ignored, and cut off before the next one is added.

    Parameters
    ----------
    path
        The file; its folder must exist.
    read
        Makes a cell, a dataclass, of what `dataclasses.asdict` gave, as JSON holds it.

    Raises
    ------
    ValueError
        If the file holds something else.
    """

    def __init__(self, path: Path, read: Callable[[dict[str, Any]], Cell]) -> None:
        self.path = path
        self._cells: dict[str, list[Cell]] = {}
        content = path.read_bytes() if path.exists() else b""
        self._whole = content.rfind(b"\n") + 1
        """Bytes of the file up to the end of the last whole line."""
        lines = content[: self._whole].splitlines()
        torn = content[self._whole :]
        if not torn.startswith(_BEGINNING[: len(torn)]):
            lines.append(torn)
        for number, line in enumerate(lines, start=1):
            try:
                stored = json.loads(line.decode("utf-8"))
                self._cells[str(stored["key"])] = [read(cell) for cell in stored["cells"]]
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise ValueError(
                    f"{path}, line {number} is not a finished job ({error}): remove the line or "
                    f"the file"
                ) from error

    def __contains__(self, key: str) -> bool:
        return key in self._cells

    def __getitem__(self, key: str) -> list[Cell]:
        return self._cells[key]

    def __iter__(self) -> Iterator[Cell]:
        """Iterate over the cells of all jobs, in the order in which they were finished."""
        for cells in self._cells.values():
            yield from cells

    def add(self, key: str, cells: list[Cell]) -> None:
        """Keep the cells of a finished job, on the disk too."""
        described = [dataclasses.asdict(cell) for cell in cells]  # type: ignore[call-overload]
        line = json.dumps({"key": key, "cells": described}) + "\n"
        kept = "all jobs that were finished before are kept"
        with naming_full_disk(self.path, kept), self.path.open("ab") as file:
            if file.tell() > self._whole:
                file.truncate(self._whole)
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
            self._whole = file.tell()
        self._cells[key] = cells
