"""Checks of arguments that are plain numbers."""

from __future__ import annotations

from collections.abc import Sequence

_LARGEST = 3.4e38
"""About the largest number that float32 holds."""


def require_count(name: str, value: int, least: int = 1) -> None:
    """Raise TypeError or ValueError unless the value is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {value!r}: give an integer")
    if value < least:
        raise ValueError(f"{name} is {value}: give at least {least}")


def require_positive(name: str, value: float) -> None:
    """Raise ValueError unless the value is a number above 0 that float32 holds."""
    if not 0 < value <= _LARGEST:
        raise ValueError(f"{name} is {value}: give a finite number above 0, at most {_LARGEST}")


def require_rates(name: str, value: float | Sequence[float], count: int | None = None) -> None:
    """Raise ValueError unless the value is a positive number, or a list of numbers of at least 0.

    Parameters
    ----------
    name, value
        Name and value of the argument.
    count
        Length that a list must have; None: any.
    """
    if not isinstance(value, Sequence):
        require_positive(name, value)
        return
    if count not in (None, len(value)) or not all(0 <= rate <= _LARGEST for rate in value):
        wanted = "" if count is None else f"{count} "
        raise ValueError(
            f"{name} is {list(value)}: give one positive number, or {wanted}finite numbers of at "
            f"least 0, one for each parameter tensor"
        )
