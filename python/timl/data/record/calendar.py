"""Months in which series start: from the dates of labels and from the names of exports."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import TYPE_CHECKING

from timl.bands import STEPS

if TYPE_CHECKING:
    import pandas as pd

DAYS_OF_STEP = 30
"""Days of a time step in CropHarvest's exports."""

_LEAST_SHARE = 0.01
"""Share of the samples that must start in a month for it to count: dates have mistakes too."""

_DATES = re.compile(r"(\d{4}-\d{2}-\d{2})_(\d{4}-\d{2}-\d{2})")


def start_months(labels: pd.DataFrame) -> list[int] | None:
    """Return the calendar months (1 to 12) in which a table's series start, in order.

    A series ends at the label's `export_end_date` and has 12 steps of 30 days.

    Parameters
    ----------
    labels
        Labels of a data set.

    Returns
    -------
    list of int, or None
        Those in which at least 1% of the dated series start; None where no label has a date.
    """
    import pandas as pd

    if "export_end_date" not in labels:
        return None
    ends = pd.to_datetime(labels["export_end_date"], errors="coerce").dropna()
    if len(ends) == 0:
        return None
    starts = ends - pd.Timedelta(days=STEPS * DAYS_OF_STEP)
    shares = starts.dt.month.value_counts(normalize=True)
    return sorted(int(month) for month, share in shares.items() if share >= _LEAST_SHARE)


def dates_of_name(name: str) -> tuple[date, date] | None:
    """Return the first and last day in an export's file name, None where it has no such dates.

    CropHarvest's exporter writes both days with an underscore between them, as in
    ``98-togo_2019-02-06_2020-02-01.tif``.
    """
    found = _DATES.search(name)
    if found is None:
        return None
    try:
        first, last = (date.fromisoformat(text) for text in found.groups())
    except ValueError:
        return None
    return (first, last) if first < last else None


def end_of_series(first: date) -> date:
    """Return the `export_end_date` of the 12 steps that begin on a day."""
    return first + timedelta(days=STEPS * DAYS_OF_STEP)
