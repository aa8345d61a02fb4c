"""Mean and standard error of a cell's runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A mean over runs, and its standard error: None for a single run."""

    mean: float
    standard_error: float | None
    runs: int

    def __str__(self) -> str:
        mean = _short(self.mean)
        return mean if self.standard_error is None else f"{mean} ± {_short(self.standard_error)}"


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean and its standard error, s / sqrt(n) with s**2 the unbiased variance."""
    n = len(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else None
    return Estimate(float(np.mean(values)), error, n)


def _short(value: float) -> str:
    """Three digits, without the zero before the point."""
    return f"{value:.3f}".removeprefix("0")
