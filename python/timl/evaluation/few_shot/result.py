"""The finished few-shot benchmark: cells, means, ranks, tests, and files of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timl.evaluation.plotting import COLOURS, require_matplotlib
from timl.evaluation.runner import CellStore
from timl.evaluation.statistics import holm
from timl.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SCORES = ("auc_roc", "average_precision", "f1", "brier")
ALL = "all"
"""Stands in tables for the budget None."""

_MARKERS, _STYLES = "os^DvPX*<", ("-", "--", ":")


@dataclass(frozen=True)
class FewShotCell:
    """The scores of one row on one division of one task, with one number of labels."""

    row: str
    task: str
    fold: int
    draw: int
    spatial: bool
    labels: int | None
    """Labels per class; None: all."""
    auc_roc: float
    average_precision: float
    f1: float
    brier: float
    training_samples: int
    test_samples: int
    distance_km: float
    seconds: float
    """Time of adapting and scoring."""
    training_seconds: float
    """Time of the training that the row's cells of one fold share."""


@dataclass(frozen=True, repr=False)
class FewShotResult:
    """The finished benchmark."""

    titles: dict[str, str]
    """Titles of the rows by name."""
    cells: tuple[FewShotCell, ...]
    provenance: dict[str, Any]
    """Settings, versions, folds, and the tasks that were left out."""

    def __repr__(self) -> str:
        tasks = len({cell.task for cell in self.cells})
        return f"FewShotResult({len(self.titles)} rows on {tasks} tasks)"

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>" + str(self.table().to_html(float_format="{:.3f}".format))

    def frame(self) -> pd.DataFrame:
        """Return the cells as a table; ``labels`` is "all" for all of them."""
        import pandas as pd

        frame = pd.DataFrame([dataclasses.asdict(cell) for cell in self.cells])
        frame["labels"] = [ALL if cell.labels is None else str(cell.labels) for cell in self.cells]
        return frame

    def per_task(self, spatial: bool = True) -> pd.DataFrame:
        """Return the scores by row, task and labels, the mean over draws."""
        frame = self.frame()
        return (
            frame[frame["spatial"] == spatial]
            .groupby(["row", "task", "labels"], sort=False)[[*SCORES, "seconds"]]
            .mean()
            .reset_index()
        )

    def table(self, score: str = "auc_roc") -> pd.DataFrame:
        """Return means over tasks, by row and labels.

        Returns
        -------
        DataFrame
            Columns row, labels, tasks, mean, standard_error (over tasks), rank (mean over tasks, 1
            is best), at_random (the mean on random divisions; NaN without), seconds (of a cell).

        Raises
        ------
        ValueError
            If the score is unknown.
        """
        import pandas as pd

        self._require(score)
        scored = self.per_task()
        better_is_less = score == "brier"
        scored["rank"] = scored.groupby(["task", "labels"])[score].rank(ascending=better_is_less)
        grouped = scored.groupby(["row", "labels"], sort=False)
        table = pd.DataFrame(
            {
                "tasks": grouped.size(),
                "mean": grouped[score].mean(),
                "standard_error": grouped[score].sem(),
                "rank": grouped["rank"].mean(),
                "seconds": grouped["seconds"].mean(),
            }
        )
        at_random = self.per_task(False).groupby(["row", "labels"])[score].mean()
        table["at_random"] = at_random.reindex(table.index)
        return table.reset_index()

    def compare(self, row: str | None = None, score: str = "auc_roc") -> pd.DataFrame:
        """Test one row against every other over the tasks, by labels.

        Parameters
        ----------
        row
            Name of the row; by default "strong", else "timl", else the last.
        score
            "auc_roc", "average_precision", "f1" or "brier".

        Returns
        -------
        DataFrame
            Columns labels, other, tasks, difference (the mean of row - other), p (Wilcoxon's
            signed-rank test, two-sided), p_corrected (Holm's, over the others), worst_task (where
            the row loses most).

        Raises
        ------
        ValueError
            If row or score is unknown.
        """
        import pandas as pd
        from scipy.stats import wilcoxon

        self._require(score)
        names = list(self.titles)
        if row is None:
            row = next((name for name in ("strong", "timl") if name in names), names[-1])
        if row not in names:
            raise ValueError(f"row is {row!r}: choose of {', '.join(names)}")
        lines = []
        for labels, scored in self.per_task().groupby("labels", sort=False):
            wide = scored.pivot(index="task", columns="row", values=score)
            others = [name for name in names if name != row]
            differences = [(wide[row] - wide[other]).dropna() for other in others]
            p = [1.0 if not (d != 0).any() else float(wilcoxon(d).pvalue) for d in differences]
            sign = -1 if score == "brier" else 1
            for other, d, one, corrected in zip(others, differences, p, holm(p), strict=True):
                worst = (sign * d).idxmin()
                lines.append((labels, other, len(d), d.mean(), one, corrected, worst))
        columns = ["labels", "other", "tasks", "difference", "p", "p_corrected", "worst_task"]
        return pd.DataFrame(lines, columns=columns)

    def to_markdown(self) -> str:
        """Return means, ranks, tests, optimism and cost as tables, with the number of tasks."""
        parts = []
        for score in SCORES:
            table = self.table(score)
            parts.append(self._by_labels(table, score, "mean"))
            parts.append(self._by_labels(table, f"{score}: mean rank", "rank", digits=1))
            parts.append(self._tests(score))
        table = self.table()
        if table["at_random"].notna().any():
            parts.append(self._by_labels(table, "auc_roc on random divisions", "at_random"))
        parts.append(self._by_labels(table, "seconds of a cell", "seconds"))
        return "\n\n".join(parts) + "\n"

    def _by_labels(self, table: pd.DataFrame, title: str, column: str, digits: int = 3) -> str:
        """Return one column of `table` in Markdown, a line for each row."""
        budgets = sorted(set(table["labels"]), key=lambda b: (b == ALL, len(b), b))
        tasks = table.groupby("labels")["tasks"].max()
        head = [f"{labels} ({tasks[labels]} tasks)" for labels in budgets]
        lines = [f"## {title}", "", f"| labels per class | {' | '.join(head)} |"]
        lines.append("|---" * (len(budgets) + 1) + "|")
        for name, of in self.titles.items():
            own = table[table["row"] == name].set_index("labels")[column].reindex(budgets)
            shown = ["" if value != value else f"{value:.{digits}f}" for value in own]
            lines.append(f"| {of} | {' | '.join(shown)} |")
        return "\n".join(lines)

    def _tests(self, score: str) -> str:
        """Return `compare` in Markdown."""
        tests = self.compare(score=score)
        row = next(name for name in self.titles if name not in set(tests["other"]))
        lines = [
            f"## {score}: {self.titles[row]} against the others (Wilcoxon over tasks, Holm)",
            "",
            "| labels per class | against | tasks | difference | p | corrected | loses most on |",
            "|---" * 7 + "|",
        ]
        for test in tests.itertuples():
            shown = f"{test.difference:+.3f} | {test.p:.2g} | {test.p_corrected:.2g}"
            other = self.titles[test.other]
            lines.append(
                f"| {test.labels} | {other} | {test.tasks} | {shown} | {test.worst_task} |"
            )
        return "\n".join(lines)

    def plot(self, score: str = "auc_roc", rows: Sequence[str] | None = None) -> Figure:
        """Draw a score against labels per class, with bands of one standard error over tasks.

        Parameters
        ----------
        score
            "auc_roc", "average_precision", "f1" or "brier".
        rows
            Names of the rows to draw; by default all.

        Raises
        ------
        ImportError
            If matplotlib is not installed (the extra ``timl[plot]``).
        ValueError
            If score or a row is unknown.
        """
        require_matplotlib("the plot needs")
        from matplotlib.figure import Figure

        names = list(self.titles) if rows is None else list(rows)
        unknown = [name for name in names if name not in self.titles]
        if unknown:
            raise ValueError(f"rows holds {unknown}: choose of {', '.join(self.titles)}")
        table = self.table(score)
        budgets = sorted(set(table["labels"]), key=lambda b: (b == ALL, len(b), b))
        figure = Figure(figsize=(7, 5.5), layout="constrained", dpi=110)
        axes = figure.add_subplot()
        for number, name in enumerate(names):
            own = table[table["row"] == name].set_index("labels").reindex(budgets)
            mean, error = own["mean"].to_numpy(), own["standard_error"].fillna(0).to_numpy()
            colour = COLOURS[number % len(COLOURS)]
            style = _STYLES[number // len(COLOURS) % len(_STYLES)]
            marker = _MARKERS[number % len(_MARKERS)]
            places = range(len(budgets))
            axes.plot(places, mean, style, marker=marker, color=colour, label=self.titles[name])
            axes.fill_between(places, mean - error, mean + error, color=colour, alpha=0.1)
        tasks = table.groupby("labels")["tasks"].max()
        axes.set_xticks(range(len(budgets)), [f"{b}\n{tasks[b]} tasks" for b in budgets])
        axes.set(xlabel="labels per class", ylabel=score)
        figure.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)
        return figure

    def save(self, folder: str | Path) -> None:
        """Write few-shot.csv, few-shot.json and few-shot.md into a folder."""
        folder = Path(folder)
        with atomic_write(folder / "few-shot.csv", "w") as file:
            self.frame().to_csv(file, index=False)
        with atomic_write(folder / "few-shot.json", "w") as file:
            file.write(json.dumps({"titles": self.titles, **self.provenance}, indent=2) + "\n")
        with atomic_write(folder / "few-shot.md", "w") as file:
            file.write(self.to_markdown())

    def _require(self, score: str) -> None:
        if score not in SCORES:
            raise ValueError(f"score is {score!r}: choose of {', '.join(SCORES)}")


def open_store(folder: Path) -> CellStore[FewShotCell]:
    """Open the finished cells of a benchmark's folder.

    Raises
    ------
    ValueError
        If cells.jsonl holds something else.
    """
    return CellStore(folder / "cells.jsonl", lambda stored: FewShotCell(**stored))
