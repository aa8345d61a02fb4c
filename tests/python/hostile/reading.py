"""Program that reads the files whose doors and paths it is told, and says what became of each."""

from __future__ import annotations

import faulthandler
import json
import resource
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

MEMORY = 4 << 30
"""Bytes of address space: more than any file of a test needs, less than a machine has."""


def read_export(path: Path) -> object:
    import timl.data

    return timl.data.read_export(path, "true")


def read_map(path: Path) -> object:
    from timl.area.class_map import open_map

    with open_map(path) as opened:
        return opened.class_sizes()


def decode_series(path: Path) -> object:
    from timl.data.record.decoding import SeriesDecoder

    return SeriesDecoder().decode(path.read_bytes())


def decode_test(path: Path) -> object:
    from timl.data.record.decoding import decode_test

    return decode_test(path.read_bytes())


def load_model(path: Path) -> object:
    import timl.nn

    return timl.nn.load_pretrained(path)


def crash(path: Path) -> object:
    import os

    os.abort()


def divide(path: Path) -> object:
    return 1 / len(path.name[:0])


DOORS: dict[str, Callable[[Path], object]] = {
    "export": read_export,
    "map": read_map,
    "series": decode_series,
    "test": decode_test,
    "model": load_model,
    # what a test of the tests needs
    "crash": crash,
    "error": divide,
}


def main() -> None:
    """Answer each line of a door and a path by one of what came of it and why."""
    faulthandler.enable()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    answers = sys.stdout
    for line in sys.stdin:
        door, path = json.loads(line)
        try:
            DOORS[door](Path(path))
            told = ["read", ""]
        except ValueError as error:
            told = ["refused", str(error)]
        except BaseException as error:
            told = [type(error).__name__, str(error)]
        answers.write(json.dumps(told) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
