"""What tasks of your own places have in common, of two classes or several."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def left_out_text(unmatched: pd.DataFrame) -> str:
    """Return what a task's repr says of the places that were left out; "" where there are none."""
    return f", {len(unmatched)} places left out" if len(unmatched) else ""


def no_test_places(points: object) -> FileNotFoundError:
    """Return the error of a task without places that are kept for the test."""
    return FileNotFoundError(
        f"points are {points!r}, without test places: score them by "
        f"timl.cross_validate(model, points), or give the table a column is_test, 1 for "
        f"the places that are kept for the test"
    )
