"""Record of what an experiment's folder is of, so that another does not replace its results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from timl.files import atomic_write, read_json

RECORD = "experiment.json"


def keep_same(folder: Path, wanted: dict[str, Any]) -> None:
    """Note in a folder what the experiment in it is of, or raise as `require_same` does.

    Parameters
    ----------
    folder
        Folder of the experiment, which no other process may write to.
    wanted
        What must agree for the experiment to go on, as JSON takes it; None: not known yet.
    """
    stored = require_same(folder, wanted)
    known = {name: value for name, value in wanted.items() if value is not None}
    if {**stored, **known} != stored:
        with atomic_write(folder / RECORD, "w") as file:
            file.write(json.dumps({**stored, **known}, indent=2) + "\n")


def require_same(folder: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return what a folder's experiment is of; empty where there is none.

    Raises
    ------
    ValueError
        If it is of something else, which the message names, or the record is damaged.
    """
    path = folder / RECORD
    if not path.exists():
        return {}
    stored = read_json(path, f"give another out, or remove {folder} to start anew")
    if not isinstance(stored, dict):
        raise ValueError(
            f"{path} is no record of an experiment: give another out, or remove {folder} to start "
            f"anew"
        )
    wanted = json.loads(json.dumps(wanted))
    differing = [
        name
        for name, value in wanted.items()
        if value is not None and stored.get(name, value) != value
    ]
    if differing:
        values = ", ".join(
            f"{name} = {stored[name]!r} (now {wanted[name]!r})" for name in differing
        )
        raise ValueError(
            f"{folder} is of an experiment with {values}: give the same to go on with it, another "
            f"out, or remove {folder} to start anew"
        )
    return stored
