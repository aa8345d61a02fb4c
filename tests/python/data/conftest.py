"""Fixtures: a small world in the record's layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from worlds import Files, hdf5, measured, write_world


@pytest.fixture
def features() -> Files:
    """Five series, 0 to 4, of data set "made"."""
    return {f"features/arrays/{i}_made.h5": hdf5(array=measured(i)) for i in range(5)}


@pytest.fixture
def tests() -> Files:
    """One test file of three series."""
    x = np.stack([measured(100 + i) for i in range(3)])
    contents = hdf5(x=x, y=np.array([1, 0, -1]), lats=np.zeros(3), lons=np.ones(3))
    return {"test_features/made_crop.h5": contents}


@pytest.fixture
def world(tmp_path: Path, features: Files, tests: Files) -> Callable[..., Path]:
    """Write the small world, with some files added or replaced, and give its folder."""

    def write(extra: Files | None = None, archived: bool = True, name: str = "world") -> Path:
        return write_world(tmp_path / name, features | (extra or {}), tests, archived)

    return write
