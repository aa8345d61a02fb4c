"""Fixtures: one simulated world of the demonstration's size for all tests here."""

from __future__ import annotations

from pathlib import Path

import pytest
from timl.data import CropHarvest, simulate


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> CropHarvest:
    root: Path = tmp_path_factory.mktemp("simulated") / "world"
    return CropHarvest(simulate(root, countries=20, samples=8000, seed=0))
