"""Context in which PyTorch computes on one thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch's CPU operations within the block use one thread, so that all bits are fixed.

    The task encoder's matrix products are small; the BLAS behind PyTorch splits some of them by the
    number of threads and then rounds differently. Switching costs under a microsecond. The number
    of threads belongs to the whole process: other Python threads see it too.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
