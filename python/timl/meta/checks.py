"""Checks of arguments that are plain numbers."""

from __future__ import annotations

import math


def require_count(name: str, value: int, least: int = 1) -> None:
    """Raise unless the value is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, but is {value!r}")
    if value < least:
        raise ValueError(f"{name} is {value}: give at least {least}")


def require_positive(name: str, value: float) -> None:
    """Raise ValueError unless the value is a finite number above 0."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value}: give a finite number above 0")
