"""Fixtures of the meta room's tests."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from made import MadeData, made_task, made_tasks
from timl.data import BenchmarkTask, TaskSet


@pytest.fixture
def tasks() -> TaskSet:
    """Seven tasks of noise."""
    return made_tasks()


@pytest.fixture
def benchmark_task() -> BenchmarkTask:
    """A task of 24 positives and 24 negatives that are easy to tell."""
    return BenchmarkTask(MadeData(1, easy=1), "made", made_task(0))


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Any:
    """The number of threads the test runs with."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)
