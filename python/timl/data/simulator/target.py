"""Folder that a simulation is written to: whether it may be replaced, and the mark in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from timl.data.record.names import STORES
from timl.files import atomic_folder, held_alone, read_json, recover_folder


@dataclass(frozen=True)
class Target:
    """Folder for one kind of simulation, which replaces nothing but a simulation of its kind.

    Parameters
    ----------
    out
        The folder as the user gave it.
    kind
        What is simulated, "world" or "scene".
    made_by
        Function that makes it, named in the mark.
    own
        Patterns of the paths of all files that it writes into the folder, without the mark.
    """

    out: Path
    kind: str
    made_by: str
    own: frozenset[str]

    @property
    def mark(self) -> str:
        """Name of the file that marks the simulation and holds the arguments that made it."""
        return f"{self.kind}.json"

    def check(self) -> None:
        """Raise FileExistsError if there is anything that the simulator did not write."""
        out = self.out
        if not out.exists():
            return
        if not out.is_dir():
            raise FileExistsError(f"out is {out}, which is a file: give a folder")
        if any(out.iterdir()) and not self.is_made(out):
            raise FileExistsError(
                f"out is {out}, which is no simulated {self.kind} (no {self.mark} in it is of "
                f"{self.made_by}): give a new folder, or empty this one"
            )
        foreign = sorted(self._foreign(out))
        if foreign:
            shown = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
            raise FileExistsError(
                f"out is {out}, a simulated {self.kind} that also holds {shown}, which would be "
                f"lost: give a new folder, or move that elsewhere"
            )

    def _foreign(self, out: Path) -> Iterator[str]:
        """Yield the paths of files and empty folders that neither this nor packing wrote."""
        for entry in out.rglob("*"):
            path = entry.relative_to(out)
            own = path.parts[0] == STORES or (entry.is_dir() and any(entry.iterdir()))
            if not own and not any(
                fnmatchcase(path.as_posix(), pattern) for pattern in (*self.own, self.mark)
            ):
                yield path.as_posix()

    def is_made(self, folder: Path, mark: dict[str, Any] | None = None) -> bool:
        """Return whether a folder holds a simulation of this kind; with a mark, that very one."""
        path = folder / self.mark
        if not path.is_file():
            return False
        try:
            found = read_json(path, "")
        except ValueError:
            return False
        if mark is not None:
            return bool(found == mark)
        return isinstance(found, dict) and found.get("made_by") == self.made_by

    @contextmanager
    def writing(self, mark: dict[str, Any]) -> Iterator[Path | None]:
        """Yield a folder to fill, or None where the simulation is there already.

        It replaces the folder in the end. Other processes that want to write it are refused.

        Raises
        ------
        FileExistsError
            If there is something that the simulator did not write.
        BlockingIOError
            If another process is simulating there.
        """
        place = self.out.resolve()  # a link to a folder stays a link
        place.parent.mkdir(parents=True, exist_ok=True)
        with held_alone(place.with_name(f".{place.name}.lock"), self.out):
            recover_folder(place)
            if self.is_made(place, mark):
                yield None
                return
            self.check()

            def replace() -> bool:
                self.check()  # in the meantime something else may have come there
                return True

            with atomic_folder(place, replace) as folder:
                yield folder
