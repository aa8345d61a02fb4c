"""Fixtures of the hostile tests: a model that was trained in little time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import timl
from damage import Reader


@pytest.fixture(scope="session")
def data(benchmarked_world: Path) -> timl.CropHarvest:
    """A made data set with two benchmarks."""
    return timl.CropHarvest(benchmarked_world)


@pytest.fixture(scope="session")
def trained(data: timl.CropHarvest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a meta-trained model, which no test may change."""
    out = tmp_path_factory.mktemp("hostile") / "model"
    tasks = timl.meta_tasks(data)
    timl.meta_train(timl.TIML(), tasks, epochs=1, kernel_steps=1, out=out, progress=False)
    return out


@pytest.fixture(scope="session")
def reader() -> Iterator[Reader]:
    """A process that reads damaged files."""
    made = Reader()
    yield made
    made.close()
