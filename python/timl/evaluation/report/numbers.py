"""The one format of numbers in reports: three decimals, and a minus sign that is no hyphen."""

from __future__ import annotations

import math

from timl.evaluation.statistics import Estimate

_MINUS = "\N{MINUS SIGN}"
_NO_BREAK = "\N{NO-BREAK SPACE}"


def number_text(value: float | None, decimals: int = 3, *, signed: bool = False) -> str:
    """Return a score or a difference for people, such as "0.812"; "none" where there is none.

    Parameters
    ----------
    value
        The number; None or NaN where there is none.
    decimals
        Digits after the point.
    signed
        Whether a positive number has its sign, too.
    """
    if value is None or math.isnan(value):
        return "none"
    text = f"{value:.{decimals}f}"
    if not float(text):  # a rounded number has no sign
        return text.removeprefix("-")
    return f"{value:{'+' if signed else ''}.{decimals}f}".replace("-", _MINUS)


def estimate_text(estimate: Estimate) -> str:
    """Return a mean with its standard error, where it has one: "0.812 ± 0.004"."""
    mean, error = number_text(estimate.mean), estimate.standard_error
    return mean if error is None else f"{mean} ± {number_text(error)}"


def count_text(value: float) -> str:
    """Return a mean count: "12", "12.5"."""
    return number_text(value, 1).removesuffix(".0")


def p_text(value: float) -> str:
    """Return a p-value: "0.031", "< 0.001"."""
    return f"<{_NO_BREAK}0.001" if value < 0.001 else number_text(value)


def exact_text(value: float) -> str:
    """Return a setting or a measurement with the six digits that matter: "120.8", "0.00001"."""
    if not math.isfinite(value):
        return str(value)
    rounded = float(f"{value:.6g}")
    decimals = 0
    while decimals < 20 and round(rounded, decimals) != rounded:
        decimals += 1
    return number_text(rounded, decimals)
