"""Stratified estimates of area and accuracy from a reference sample.

One implementation serves all: every quantity is a ratio of two stratified means of indicators
(Stehman 2014, equations 2, 25, 27 and 28). Where the strata are the classes of the map its results
are those of Olofsson et al. (2014, equations 1 to 11).

Sources: S. V. Stehman, Estimating area and map accuracy for stratified random sampling when the
strata are different from the map classes, International Journal of Remote Sensing 35, 2014;
P. Olofsson et al., Good practices for estimating area and assessing accuracy of land change, Remote
Sensing of Environment 148, 2014.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from timl.area.result import AreaEstimate, Quantity

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("map_class", "reference")
"""Columns that a table of sample units needs."""


def estimate_area(
    sample: pd.DataFrame,
    sizes: Mapping[Any, float],
    *,
    mapped: Mapping[Any, float] | None = None,
    units: Mapping[Any, int] | None = None,
    level: float = 0.95,
    unit: str = "ha",
) -> AreaEstimate:
    """Estimate each class's area, and the map's accuracy, from a stratified random sample.

    With strata h of size N_h and n_h sampled units, the estimate of a ratio of two totals is
    R = sum(N_h mean_h(y)) / sum(N_h mean_h(x)), with the variance sum(N_h**2 s_h**2 / n_h) /
    sum(N_h mean_h(x))**2, s_h**2 the sample variance of y - R x in the stratum. For the share of a
    class y tells its reference class and x is 1; for overall accuracy y tells agreement; for user's
    and producer's accuracy x tells the map's or the reference's class (Stehman 2014, table 1).
    Intervals are normal, estimate -+ z standard errors, cut at 0 and at the whole.

    Parameters
    ----------
    sample
        One row per sampled unit, with columns map_class and reference, and stratum where the strata
        are not the map's classes.
    sizes
        Size of each stratum, in any unit.
    mapped
        Size of each class on the map, which is shown beside the estimate; by default ``sizes``
        where the strata are the map's classes.
    units
        Number of units (pixels) of each stratum; then variances are multiplied by 1 - n_h / N_h,
        the finite population correction. By default they are not, as in Olofsson et al.
    level
        Probability that an interval is to hold the true value.
    unit
        Name of the unit of ``sizes``.

    Raises
    ------
    ValueError
        If a column is missing, a value is empty, a size is not positive or missing, or a stratum
        has fewer than two sampled units.

    Warns
    -----
    UserWarning
        If all units of a stratum agree in both classes: it adds nothing to the standard errors,
        which are too small.
    """
    missing = [column for column in COLUMNS if column not in sample]
    if missing:
        raise ValueError(
            f"sample has the columns {', '.join(map(str, sample.columns)) or 'none'}: give "
            f"{' and '.join(missing)} too"
        )
    by = "stratum" if "stratum" in sample else "map_class"
    columns = [sample[column] for column in (by, *COLUMNS)]
    empty = np.logical_or.reduce([column.isna().to_numpy() for column in columns])
    if empty.any():
        raise ValueError(
            f"sample has {int(empty.sum())} of {len(empty)} rows with an empty class or stratum, "
            f"the first is row {int(empty.argmax())}: fill them or leave them out"
        )
    of_strata, of_map, of_reference = (column.tolist() for column in columns)
    strata = _strata(sizes, Counter(of_strata))
    same = of_strata == of_map
    classes = _ordered([*(strata if same else ()), *(mapped or ()), *of_map, *of_reference])
    counts = np.zeros((len(strata), len(classes), len(classes)))
    number, place = ({value: i for i, value in enumerate(names)} for names in (strata, classes))
    for stratum, found, true in zip(of_strata, of_map, of_reference, strict=True):
        counts[number[stratum], place[found], place[true]] += 1
    if mapped is None and same:
        mapped = {name: sizes.get(name, 0.0) for name in classes}
    return _estimate(counts, strata, classes, sizes, mapped, units, level, unit)


def estimate_area_from_matrix(
    counts: pd.DataFrame,
    sizes: Mapping[Any, float],
    *,
    units: Mapping[Any, int] | None = None,
    level: float = 0.95,
    unit: str = "ha",
) -> AreaEstimate:
    """Estimate area and accuracy from an error matrix of counts whose strata are the map's classes.

    Parameters
    ----------
    counts
        Numbers of sampled units; a row per class of the map, a column per class of the reference.
    sizes
        Size of each class on the map.
    units, level, unit
        Those of `estimate_area`, which also has the formulas, errors and warnings.
    """
    import pandas as pd

    values = counts.to_numpy(np.float64)
    if not np.isfinite(values).all() or (values < 0).any() or (values % 1 != 0).any():
        raise ValueError(
            f"counts of shape {list(values.shape)} has entries that are no counts: give integers "
            f"of at least 0"
        )
    rows, columns = np.nonzero(values)
    repeats = values[rows, columns].astype(np.int64)
    sample = pd.DataFrame(
        {
            "map_class": counts.index.to_numpy()[np.repeat(rows, repeats)],
            "reference": counts.columns.to_numpy()[np.repeat(columns, repeats)],
        }
    )
    mapped = {name: sizes.get(name, 0.0) for name in (*counts.index, *counts.columns)}
    return estimate_area(sample, sizes, mapped=mapped, units=units, level=level, unit=unit)


def _strata(sizes: Mapping[Any, float], numbers: Counter[Any]) -> list[Hashable]:
    """Return the strata after checking sizes and numbers of sampled units."""
    wrong = {name: size for name, size in sizes.items() if not 0 <= size < math.inf}
    if wrong or not sum(sizes.values()) > 0:
        raise ValueError(f"sizes is {dict(sizes)}: give finite sizes of at least 0, not all 0")
    strata = [name for name, size in sizes.items() if size > 0]
    without = [name for name in numbers if name not in strata]
    if without:
        raise ValueError(
            f"sizes is {dict(sizes)}, without a size above 0 of the sampled stratum "
            f"{without[0]!r}: give one for each"
        )
    for name in strata:
        if numbers[name] < 2:
            raise ValueError(
                f"sample has {numbers[name]} units in stratum {name!r}: give at least "
                f"2 in each, or merge strata, for the variance is not known"
            )
    return strata


def _ordered(classes: Sequence[Any]) -> list[Any]:
    """Return each class once, sorted where classes can be compared, else as they come."""
    unique = list(dict.fromkeys(classes))
    try:
        return sorted(unique)
    except TypeError:
        return unique


def _estimate(
    counts: NDArray[np.float64],
    strata: list[Hashable],
    classes: list[Any],
    sizes: Mapping[Any, float],
    mapped: Mapping[Any, float] | None,
    units: Mapping[Any, int] | None,
    level: float,
    unit: str,
) -> AreaEstimate:
    """Estimate all quantities from counts [strata, map classes, reference classes]."""
    import pandas as pd
    from scipy.special import ndtri

    if not 0 < level < 1:
        raise ValueError(f"level is {level}: give a probability between 0 and 1, such as 0.95")
    size = np.array([sizes[name] for name in strata], np.float64)
    number = counts.sum(axis=(1, 2))
    _warn_of_certain_strata(counts, strata)
    weight = size**2 / number  # of a stratum's variance
    if units is not None:
        known = np.array([units.get(name, 0) for name in strata], np.float64)
        if (known < number).any():
            first = int((known < number).argmax())
            raise ValueError(
                f"units has {int(known[first])} units of stratum {strata[first]!r}, of which "
                f"{int(number[first])} are sampled: give the number of all units of each stratum"
            )
        weight *= 1 - number / known
    z, total, k = float(ndtri((1 + level) / 2)), float(size.sum()), len(classes)
    share = counts / number[:, None, None]  # [H, K, K]

    def ratio(y: NDArray[np.float64], x: NDArray[np.float64]) -> Quantity:
        """Estimate the ratio of two indicators of cells, [K, K] each."""
        below = float(size @ (share * x).sum(axis=(1, 2)))
        if below == 0:
            return Quantity(math.nan, math.nan, math.nan, math.nan)
        value = float(size @ (share * y).sum(axis=(1, 2))) / below
        rest = y - value * x
        first, second = ((share * rest**power).sum(axis=(1, 2)) for power in (1, 2))
        variance = (second - first**2) * number / (number - 1)
        error = math.sqrt(max(float(weight @ variance), 0.0)) / below
        return Quantity(value, error, max(value - z * error, 0.0), min(value + z * error, 1.0))

    one = np.ones((k, k))
    in_row, in_column = (np.eye(k)[:, :, None] * one, np.eye(k)[:, None, :] * one)  # [K, K, K]
    matrix = pd.DataFrame(np.tensordot(size, share, 1) / total, index=classes, columns=classes)
    return AreaEstimate(
        classes=tuple(classes),
        shares=tuple(ratio(column, one) for column in in_column),
        users=tuple(ratio(r * c, r) for r, c in zip(in_row, in_column, strict=True)),
        producers=tuple(ratio(r * c, c) for r, c in zip(in_row, in_column, strict=True)),
        overall=ratio(np.eye(k), one),
        matrix=matrix.rename_axis(index="map", columns="reference"),
        mapped=None if mapped is None else tuple(float(mapped.get(c, 0.0)) for c in classes),
        total=total,
        sampled=int(number.sum()),
        level=level,
        unit=unit,
    )


def _warn_of_certain_strata(counts: NDArray[np.float64], strata: list[Hashable]) -> None:
    for name, cells in zip(strata, counts, strict=True):
        number = int(cells.sum())
        if cells.max() == number:
            bound = 1 - 0.05 ** (1 / number)
            warnings.warn(
                f"all {number} sampled units of stratum {name!r} agree in map and reference class: "
                f"it adds nothing to the standard errors, which are too small, although up to "
                f"{100 * bound:.1f} % of the stratum may be of another class (at 95 %); sample "
                f"more units there",
                stacklevel=4,
            )
