"""Result of an estimation of area and accuracy: numbers, tables, words."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from timl.text import markdown_cell, printable

if TYPE_CHECKING:
    import pandas as pd

PIXEL_COUNTING = (
    "Counting pixels is biased: it counts what the map wrongly calls a class and leaves out what "
    "it wrongly calls another, and the two cancel by chance only. No number of pixels makes that "
    "error smaller, and counting does not tell how large it is. The estimate corrects for it with "
    "the reference sample."
)
"""Why the mapped area is not the area."""


class Quantity(NamedTuple):
    """An estimate with its uncertainty; all NaN where the sample cannot tell."""

    value: float
    standard_error: float
    low: float
    high: float
    """Edges of the interval."""

    def times(self, factor: float) -> Quantity:
        """Return the quantity in another unit."""
        return Quantity(*(factor * number for number in self))


@dataclass(frozen=True, eq=False, repr=False)
class AreaEstimate:
    """Estimates of `estimate_area`; its repr is a table.

    Parameters
    ----------
    classes
        Names of the K classes, of the map and of the reference together.
    shares
        Each class's share of the whole area.
    users, producers
        Each class's user's accuracy (of what is mapped as it, the share that is it) and producer's
        accuracy (of what is it, the share that is mapped as it); NaN where the sample has none.
    overall
        Overall accuracy: the share of the area with the right class.
    matrix : table of shape [K, K]
        Estimated shares of the whole area; a row per class of the map, a column per class of the
        reference.
    mapped
        Size of each class by counting pixels, in ``unit``; None where it is not known.
    total
        Size of the whole, in ``unit``.
    sampled
        Number of sampled units.
    level
        Probability that an interval is to hold the true value.
    unit
        Unit of areas.
    """

    classes: tuple[Hashable, ...]
    shares: tuple[Quantity, ...]
    users: tuple[Quantity, ...]
    producers: tuple[Quantity, ...]
    overall: Quantity
    matrix: pd.DataFrame
    mapped: tuple[float, ...] | None
    total: float
    sampled: int
    level: float
    unit: str

    @property
    def areas(self) -> tuple[Quantity, ...]:
        """Each class's area, in ``unit``."""
        return tuple(share.times(self.total) for share in self.shares)

    def to_frame(self) -> pd.DataFrame:
        """Return a table with a row per class.

        Columns are mapped (NaN where not known), and for each of area, share, users_accuracy and
        producers_accuracy the estimate and its _standard_error, _low and _high.
        """
        import pandas as pd

        columns: dict[str, Any] = {"mapped": self.mapped or [math.nan] * len(self.classes)}
        for name, quantities in (
            ("area", self.areas),
            ("share", self.shares),
            ("users_accuracy", self.users),
            ("producers_accuracy", self.producers),
        ):
            columns[name] = [quantity.value for quantity in quantities]
            for field in ("standard_error", "low", "high"):
                columns[f"{name}_{field}"] = [getattr(q, field) for q in quantities]
        return pd.DataFrame(columns, index=pd.Index(self.classes, name="class"))

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers in a form that JSON takes; None where the sample cannot tell."""

        def plain(quantity: Quantity) -> dict[str, float | None]:
            return {k: None if math.isnan(v) else v for k, v in quantity._asdict().items()}

        return {
            "unit": self.unit,
            "level": self.level,
            "sampled": self.sampled,
            "total": self.total,
            "overall_accuracy": plain(self.overall),
            "classes": [
                {
                    "class": str(name),
                    "mapped": None if self.mapped is None else self.mapped[i],
                    "area": plain(self.areas[i]),
                    "share": plain(self.shares[i]),
                    "users_accuracy": plain(self.users[i]),
                    "producers_accuracy": plain(self.producers[i]),
                }
                for i, name in enumerate(self.classes)
            ],
            "matrix": self.matrix.to_numpy().tolist(),
        }

    def to_markdown(self) -> str:
        """Return a table with a row per class and the words that it needs, in Markdown."""
        header, rows = self._cells()
        lines = [
            f"| {' | '.join(header)} |",
            f"|---|{'---:|' * (len(header) - 1)}",
            *(f"| {' | '.join([markdown_cell(row[0]), *row[1:]])} |" for row in rows),
            "",
            f"{self._overall()}. After ± stands half of the {100 * self.level:g} % interval.",
        ]
        if self.mapped is not None:
            lines += ["", PIXEL_COUNTING]
        return "\n".join(lines) + "\n"

    def __repr__(self) -> str:
        header, rows = self._cells()
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in (header, *rows)
        ]
        return "\n".join([*lines, self._overall()])

    def _overall(self) -> str:
        return f"Overall accuracy {self._text(self.overall, 3)}, {self.sampled} sampled units"

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        """Return the texts of the table: its header, and its rows."""
        header = ["class", f"area ({self.unit})", "share", "user's accuracy", "producer's accuracy"]
        places = 0 if self.total >= 1000 else 2
        rows = [
            [
                printable(str(self.classes[i])).replace("\n", " "),
                self._text(self.areas[i], places),
                *(self._text(of[i], 3) for of in (self.shares, self.users, self.producers)),
            ]
            for i in range(len(self.classes))
        ]
        if self.mapped is not None:
            header.insert(1, f"counted pixels ({self.unit})")
            for row, size in zip(rows, self.mapped, strict=True):
                row.insert(1, f"{size:,.{places}f}")
        return header, rows

    def _text(self, quantity: Quantity, places: int) -> str:
        """Return an estimate and half of its interval."""
        from scipy.special import ndtri

        if math.isnan(quantity.value):
            return "not in the sample"
        half = float(ndtri((1 + self.level) / 2)) * quantity.standard_error
        return f"{quantity.value:,.{places}f} ± {half:,.{places}f}"
