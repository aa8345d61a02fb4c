"""Planning of a reference sample: how many units, and how many of them in each stratum.

Sources: W. G. Cochran, Sampling Techniques, 3rd edition, 1977, equations 5.24 to 5.26; P. Olofsson
et al., Good practices for estimating area and assessing accuracy of land change, Remote Sensing of
Environment 148, 2014, section 5.1 and equation 13.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Literal, TypeVar

Allocation = Literal["proportional", "equal", "optimal"]
"""Division of a sample among strata: see `allocate`."""

Stratum = TypeVar("Stratum", bound=Hashable)


def sample_size(
    sizes: Mapping[Stratum, float],
    proportions: Mapping[Stratum, float],
    standard_error: float,
    *,
    allocation: Allocation = "optimal",
    units: int | None = None,
) -> int:
    """Return the smallest sample that promises a standard error of an accuracy or a share of area.

    With weights W_h = N_h / N, standard deviations S_h = sqrt(p_h (1 - p_h)) and the fractions w_h
    of the allocation, n = sum(W_h**2 S_h**2 / w_h) / (V + sum(W_h S_h**2) / N), V the square of the
    standard error (Cochran 1977, equation 5.24). For the optimal allocation that is (sum(W_h
    S_h))**2 over the same (5.25), and without the second term of the denominator Olofsson et al.'s
    equation 13. It is as good as the proportions are: take careful ones from similar maps.

    Parameters
    ----------
    sizes
        Size of each stratum, in any unit.
    proportions
        Share of each stratum that is expected to have the property. For overall accuracy: expected
        user's accuracy of each class of the map. For the area of a class: share of each stratum
        that is expected to be of it.
    standard_error
        Wanted standard error of the overall accuracy, or of the class's share of the whole.
    allocation
        How the sample is going to be divided: see `allocate`. A floor there is not counted.
    units
        Number N of all units, for maps of few pixels; by default it counts as infinite.

    Raises
    ------
    ValueError
        If a number is out of range, strata differ, or all proportions are 0 or 1.
    """
    weights, deviations = _weights(sizes), _deviations(sizes, proportions)
    if not 0 < standard_error < 0.5:
        raise ValueError(f"standard_error is {standard_error}: give a number in (0, 0.5)")
    if not any(deviations.values()):
        raise ValueError(
            f"proportions is {dict(proportions)}, all certain: give some between 0 and 1"
        )
    fractions = _fractions(weights, allocation, deviations)
    above = sum(
        (weights[h] * deviations[h]) ** 2 / fractions[h] for h in weights if deviations[h] > 0
    )
    below = standard_error**2
    if units is not None:
        below += sum(weights[h] * deviations[h] ** 2 for h in weights) / units
    return max(math.ceil(above / below - 1e-9), 2 * len(weights))


def allocate(
    size: int,
    sizes: Mapping[Stratum, float],
    *,
    allocation: Allocation = "proportional",
    proportions: Mapping[Stratum, float] | None = None,
    least: int = 2,
) -> dict[Stratum, int]:
    """Divide a sample among strata.

    Parameters
    ----------
    size
        Number of units in all.
    sizes
        Size of each stratum, in any unit.
    allocation
        Rule. "proportional": by the sizes W_h; good for overall accuracy and for areas. "equal":
        the same number in each; good for user's accuracies, bad for areas. "optimal": by W_h S_h
        (Neyman; Cochran 1977, equation 5.26), the smallest standard error of the one quantity that
        the proportions are of.
    proportions
        Those of `sample_size`, for the optimal allocation.
    least
        Units that each stratum gets at least, before the rule divides the others; Olofsson et al.
        (2014, section 5.1) give 50 to 100 to rare classes. At least 2, which a variance needs.

    Returns
    -------
    dict
        Number of units of each stratum; their sum is ``size``.

    Raises
    ------
    ValueError
        If a number is out of range or the size is below ``least`` for each stratum.
    """
    weights = _weights(sizes)
    if least < 2:
        raise ValueError(f"least is {least}: give at least 2, which a variance needs")
    if size < least * len(weights):
        raise ValueError(
            f"size is {size}: give at least {least * len(weights)}, {least} for each of "
            f"{len(weights)} strata, or a smaller least"
        )
    deviations = None if proportions is None else _deviations(sizes, proportions)
    fractions = _fractions(weights, allocation, deviations)
    floored: set[Stratum] = set()
    while True:
        rest = size - least * len(floored)
        free = sum(fractions[h] for h in weights if h not in floored)
        wanted = {
            h: float(least) if h in floored else rest * fractions[h] / free if free > 0 else 0.0
            for h in weights
        }
        below = {h for h in weights if h not in floored and wanted[h] < least}
        if not below:
            break
        floored |= below
        if len(floored) == len(weights):  # the rule gives nothing: divide evenly what is left
            wanted = {h: size / len(weights) for h in weights}
            break
    counts = {h: int(wanted[h] + 1e-9) for h in weights}
    by_remainder = sorted(weights, key=lambda h: wanted[h] - counts[h], reverse=True)
    for h in by_remainder[: size - sum(counts.values())]:
        counts[h] += 1
    return counts


def _weights(sizes: Mapping[Stratum, float]) -> dict[Stratum, float]:
    total = sum(sizes.values())
    if not sizes or not all(0 < size < math.inf for size in sizes.values()):
        raise ValueError(f"sizes is {dict(sizes)}: give a finite size above 0 of each stratum")
    return {h: size / total for h, size in sizes.items()}


def _deviations(
    sizes: Mapping[Stratum, float], proportions: Mapping[Stratum, float]
) -> dict[Stratum, float]:
    """Return each stratum's standard deviation of a property that so large a share has."""
    if set(proportions) != set(sizes) or not all(0 <= p <= 1 for p in proportions.values()):
        raise ValueError(
            f"proportions is {dict(proportions)}: give a share in [0, 1] for each stratum of sizes,"
            f" {', '.join(map(str, sizes))}"
        )
    return {h: math.sqrt(p * (1 - p)) for h, p in proportions.items()}


def _fractions(
    weights: Mapping[Stratum, float],
    allocation: Allocation,
    deviations: Mapping[Stratum, float] | None,
) -> dict[Stratum, float]:
    """Return the fraction of the sample that a rule gives to each stratum."""
    if allocation == "proportional":
        return dict(weights)
    if allocation == "equal":
        return dict.fromkeys(weights, 1 / len(weights))
    if allocation != "optimal":
        raise ValueError(f"allocation is {allocation!r}: give 'proportional', 'equal' or 'optimal'")
    if deviations is None:
        raise ValueError("proportions is None: the optimal allocation needs them")
    products = {h: weights[h] * deviations[h] for h in weights}
    total = sum(products.values())
    return {h: product / total if total else 0.0 for h, product in products.items()}
