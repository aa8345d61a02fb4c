"""Table 1, finished: its numbers, how it is shown, and its files."""

from __future__ import annotations

import csv
import html
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from timl.evaluation.cells import Cell
from timl.evaluation.scores import Scores
from timl.evaluation.statistics import Estimate, estimate
from timl.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console, ConsoleOptions, RenderResult

METRICS = {"auc_roc": "AUC ROC", "f1": "F1", "iou": "IoU"}
"""The scores that are averaged, and their titles."""

MEAN = "mean"
"""The column of the mean over the benchmarks."""

_SHOWN = ("auc_roc", "f1")

_CELL_WIDTH = len(".812 ± .034*")


@dataclass(frozen=True, eq=False)
class Table1Result:
    """Scores of every row on every benchmark, over the runs.

    Parameters
    ----------
    titles : dict
        Title of each row by its name, in the table's order.
    benchmarks : tuple of str
        The columns.
    cells : tuple of Cell
        In the order of rows, benchmarks and runs.
    provenance : dict
        What the numbers come from: settings, seeds, versions, data, time.
    """

    titles: dict[str, str]
    benchmarks: tuple[str, ...]
    cells: tuple[Cell, ...]
    provenance: dict[str, Any]

    def estimate(self, row: str, benchmark: str, metric: str) -> Estimate:
        """Average one score over the runs of a row.

        Parameters
        ----------
        row, benchmark : str
            Their names; the benchmark "mean" stands for each run's mean over all benchmarks.
        metric : str
            "auc_roc", "f1" or "iou".
        """
        runs: dict[int, list[float]] = {}
        for cell in self.cells:
            if cell.row == row and benchmark in (cell.benchmark, MEAN):
                runs.setdefault(cell.run, []).append(getattr(cell.scores, metric))
        return estimate([float(np.mean(values)) for values in runs.values()])

    def seconds(self, row: str) -> float:
        """Return what a row took, meta-training included, whenever it was computed."""
        cells = [cell for cell in self.cells if cell.row == row]
        return sum(cell.seconds for cell in cells) + max(cell.training_seconds for cell in cells)

    def table(self) -> pd.DataFrame:
        """Show every estimate.

        Returns
        -------
        DataFrame
            Columns row, benchmark, metric, mean, standard_error, runs.
        """
        import pandas as pd

        return pd.DataFrame(
            [
                {"row": row, "benchmark": column, "metric": metric}
                | asdict(self.estimate(row, column, metric))
                for row in self.titles
                for column in (*self.benchmarks, MEAN)
                for metric in METRICS
            ]
        )

    def _grid(self, metric: str) -> tuple[list[str], list[list[tuple[str, bool]]]]:
        """Return the header, and of each row the texts with whether they are a column's best."""
        columns = (*self.benchmarks, MEAN)
        estimates = [[self.estimate(row, c, metric) for c in columns] for row in self.titles]
        best = [max(row[i].mean for row in estimates) for i in range(len(columns))]
        body = [
            [(title, False), *((str(e), e.mean == top) for e, top in zip(row, best, strict=True))]
            for title, row in zip(self.titles.values(), estimates, strict=True)
        ]
        return [METRICS[metric], *columns], body

    def _caption(self) -> str:
        settings = self.provenance["settings"]
        times = ", ".join(
            f"{title} {duration(self.seconds(row))}" for row, title in self.titles.items()
        )
        return (
            f"Mean ± standard error of {settings['runs']} runs (a row without ± has no "
            f"randomness); F1 at probability 0.5; * best of the column. Meta-training "
            f"{settings['epochs']} epochs, fine-tuning {settings['steps']} steps, seed "
            f"{settings['seed']}. Time: {times}."
        )

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        lines = []
        for metric in _SHOWN:
            header, body = self._grid(metric)
            lines += [f"| {' | '.join(header)} |", f"|---|{'---:|' * (len(header) - 1)}"]
            for row in body:
                texts = [f"**{text}**\\*" if best else text for text, best in row]
                lines.append(f"| {' | '.join(texts)} |")
            lines.append("")
        return "\n".join([*lines, self._caption().replace("*", "\\*"), ""])

    def __str__(self) -> str:
        return self.to_markdown()

    def __repr__(self) -> str:
        return (
            f"Table1Result({len(self.titles)} rows, {len(self.benchmarks)} benchmarks, "
            f"{len(self.cells)} cells)"
        )

    def _repr_html_(self) -> str:
        parts = []
        for metric in _SHOWN:
            header, body = self._grid(metric)
            head = "".join(f"<th>{html.escape(text)}</th>" for text in header)
            rows = "".join(
                "<tr>"
                + "".join(
                    f"<td><b>{html.escape(text)}*</b></td>"
                    if best
                    else f"<td>{html.escape(text)}</td>"
                    for text, best in row
                )
                + "</tr>"
                for row in body
            )
            parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
        return "".join(parts) + f"<p>{html.escape(self._caption())}</p>"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        for metric in _SHOWN:
            header, body = self._grid(metric)
            table = Table(box=SIMPLE_HEAD, pad_edge=False)
            table.add_column(header[0], no_wrap=True)
            for text in header[1:]:
                # names of benchmarks are long: place above crop
                heading = text.replace("_", "\n")
                table.add_column(heading, justify="right", min_width=_CELL_WIDTH)
            for row in body:
                table.add_row(
                    *(
                        Text(f"{text}*" if best else text, style="bold" if best else "")
                        for text, best in row
                    )
                )
            yield table
        yield Text(self._caption())

    def save(self, folder: str | Path) -> None:
        """Write table1.csv (one line per cell), table1.json (summary, provenance), table1.md."""
        folder = Path(folder)
        scores = [field.name for field in fields(Scores)]
        with atomic_write(folder / "table1.csv", "w") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["row", "benchmark", "run", "seed", *scores])
            for cell in self.cells:
                values = [getattr(cell.scores, name) for name in scores]
                writer.writerow([cell.row, cell.benchmark, cell.run, cell.seed, *values])
        summary = {
            row: {
                "title": title,
                "seconds": round(self.seconds(row), 3),
                "scores": {
                    column: {
                        metric: asdict(self.estimate(row, column, metric)) for metric in METRICS
                    }
                    for column in (*self.benchmarks, MEAN)
                },
            }
            for row, title in self.titles.items()
        }
        with atomic_write(folder / "table1.json", "w") as file:
            json.dump({"rows": summary, "provenance": self.provenance}, file, indent=2)
            file.write("\n")
        with atomic_write(folder / "table1.md", "w") as file:
            file.write(self.to_markdown())


def duration(seconds: float) -> str:
    """Return a time for people: "4.2 s", "3 min 12 s", "2 h 5 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
