"""A block of code whose draws from PyTorch's generator are fixed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed PyTorch's CPU generator for the block, as for drawing a new model's weights.

    Afterwards the generator goes on as if the block had not been.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
