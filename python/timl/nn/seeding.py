"""Context in which the draws from PyTorch's generator are fixed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed PyTorch's CPU generator within the block, for instance to draw a new model's weights.

    After the block the generator has the state that it had before.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
