"""The finished few-shot benchmark: cells, means, ranks, tests, and files of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from timl.evaluation.clusters import clustered_difference
from timl.evaluation.few_shot.cells import Cell
from timl.evaluation.plotting import method_styles, require_matplotlib
from timl.evaluation.statistics import holm
from timl.files import atomic_write
from timl.text import csv_cell, drawn, markdown_cell

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SCORES = ("auc_roc", "average_precision", "f1", "brier")
COMPARED = (
    "labels", "other", "tasks", "difference", "low", "high", "regions", "p_regions", "p_corrected",
    "surveys", "p_surveys", "worst_task",
)  # fmt: skip
"""Columns of a comparison."""
ALL = "all"
"""Stands in tables for the budget None."""


@dataclass(frozen=True, repr=False)
class FewShotResult:
    """The finished benchmark."""

    titles: dict[str, str]
    """Titles of the rows by name."""
    cells: tuple[Cell, ...]
    provenance: dict[str, Any]
    """Settings, versions, folds, and the tasks that were left out."""
    scores: ClassVar[tuple[str, ...]] = SCORES
    """Names of the scores of a cell, the main one first."""
    stem: ClassVar[str] = "few-shot"
    """Name of its files without their endings."""

    def __repr__(self) -> str:
        tasks = len({cell.task for cell in self.cells})
        return f"{type(self).__name__}({len(self.titles)} rows on {tasks} tasks)"

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>" + str(self.table().to_html(float_format="{:.3f}".format))

    def frame(self) -> pd.DataFrame:
        """Return the cells as a table; ``labels`` is "all" for all of them."""
        import pandas as pd

        frame = pd.DataFrame([dataclasses.asdict(cell) for cell in self.cells])
        frame["labels"] = [ALL if cell.labels is None else str(cell.labels) for cell in self.cells]
        return frame

    @property
    def budgets(self) -> list[str]:
        """Numbers of labels per class, as `frame` has them, ascending, and "all" last."""
        found = {ALL if cell.labels is None else str(cell.labels) for cell in self.cells}
        return sorted(found, key=lambda b: (b == ALL, len(b), b))

    def compared(self, row: str | None = None) -> str:
        """Return the row that the others are compared with: the one given, or the default.

        Raises
        ------
        ValueError
            If there is no such row.
        """
        names = list(self.titles)
        if row is None:
            return next((name for name in ("strong", "timl") if name in names), names[-1])
        if row not in names:
            raise ValueError(f"row is {row!r}: choose of {', '.join(names)}")
        return row

    def per_task(self, spatial: bool = True) -> pd.DataFrame:
        """Return the scores by row, task and labels, the mean over draws."""
        frame = self.frame()
        return (
            frame[frame["spatial"] == spatial]
            .groupby(["row", "task", "region", "labels"], sort=False)[[*self.scores, "seconds"]]
            .mean()
            .reset_index()
        )

    def table(self, score: str = "auc_roc") -> pd.DataFrame:
        """Return means over tasks, by row and labels.

        Returns
        -------
        DataFrame
            Columns row, labels, tasks, mean, standard_error (of that mean, regions counting as
            independent; NaN for a single region), rank (mean over tasks, 1
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
                "standard_error": grouped[[score, "region"]].apply(_clustered_error, score),
                "rank": grouped["rank"].mean(),
                "seconds": grouped["seconds"].mean(),
            }
        )
        at_random = self.per_task(False).groupby(["row", "labels"])[score].mean()
        table["at_random"] = at_random.reindex(table.index)
        return table.reset_index()

    def compare(self, row: str | None = None, score: str = "auc_roc") -> pd.DataFrame:
        """Test one row against every other, by labels; regions and surveys count, not tasks.

        Tasks of one region share test samples, and regions of one survey the way they were
        labelled: see `timl.evaluation.clusters.clustered_difference`.

        Parameters
        ----------
        row
            Name of the row; by default "strong", else "timl", else the last.
        score
            "auc_roc", "average_precision", "f1" or "brier".

        Returns
        -------
        DataFrame
            Columns labels, other, tasks, difference (mean over tasks of row - other), low and high
            (95 % interval, drawing regions), regions, p_regions, p_corrected (Holm's correction of
            p_regions over the others), surveys, p_surveys, worst_task (where the row loses most).
            The p are two-sided and of the sign-flip test over clusters.

        Raises
        ------
        ValueError
            If row or score is unknown.
        """
        import pandas as pd

        self._require(score)
        names, row = list(self.titles), self.compared(row)
        clusters = self.frame().drop_duplicates("task").set_index("task")[["region", "survey"]]
        sign = -1 if score == "brier" else 1
        lines = []
        for labels, scored in self.per_task().groupby("labels", sort=False):
            wide = scored.pivot(index="task", columns="row", values=score)
            found = []
            for other in names:
                difference = (wide[row] - wide[other]).dropna()
                if other == row or difference.empty:
                    continue
                of = clusters.loc[difference.index]
                by_region, by_survey = (
                    clustered_difference(difference.tolist(), of[column].tolist())
                    for column in ("region", "survey")
                )
                found.append((other, by_region, by_survey, (sign * difference).idxmin()))
            corrected = holm([by_region.p for _, by_region, _, _ in found])
            lines += [
                {
                    "labels": labels,
                    "other": other,
                    "tasks": by_region.differences,
                    "difference": by_region.mean,
                    "low": by_region.low,
                    "high": by_region.high,
                    "regions": by_region.clusters,
                    "p_regions": by_region.p,
                    "p_corrected": p,
                    "surveys": by_survey.clusters,
                    "p_surveys": by_survey.p,
                    "worst_task": worst,
                }
                for (other, by_region, by_survey, worst), p in zip(found, corrected, strict=True)
            ]
        return pd.DataFrame(lines, columns=COMPARED)

    def to_markdown(self) -> str:
        """Return means, ranks, tests, optimism and cost as tables, with the number of tasks."""
        parts = []
        for score in self.scores:
            table = self.table(score)
            parts.append(self._by_labels(table, score, "mean"))
            parts.append(self._by_labels(table, f"{score}: mean rank", "rank", digits=1))
            parts.append(self._tests(score))
        table = self.table(self.scores[0])
        if table["at_random"].notna().any():
            parts.append(
                self._by_labels(table, f"{self.scores[0]} on random divisions", "at_random")
            )
        parts.append(self._by_labels(table, "seconds of a cell", "seconds"))
        return "\n\n".join(parts) + "\n"

    def _by_labels(self, table: pd.DataFrame, title: str, column: str, digits: int = 3) -> str:
        """Return one column of `table` in Markdown, a line for each row."""
        budgets = self.budgets
        tasks = table.groupby("labels")["tasks"].max()
        head = [f"{labels} ({tasks[labels]} tasks)" for labels in budgets]
        lines = [f"## {title}", "", f"| labels per class | {' | '.join(head)} |"]
        lines.append("|---" * (len(budgets) + 1) + "|")
        for name, of in self.titles.items():
            own = table[table["row"] == name].set_index("labels")[column].reindex(budgets)
            shown = ["" if value != value else f"{value:.{digits}f}" for value in own]
            lines.append(f"| {markdown_cell(of)} | {' | '.join(shown)} |")
        return "\n".join(lines)

    def _tests(self, score: str) -> str:
        """Return `compare` in Markdown."""
        tests = self.compare(score=score)
        row = next(name for name in self.titles if name not in set(tests["other"]))
        lines = [
            f"## {score}: {self.titles[row]} against the others",
            "",
            "Sign-flip tests over regions (corrected: Holm) and over surveys; 95 % intervals over "
            "regions.",
            "",
            "| labels per class | against | tasks | difference | interval | regions | p | "
            "corrected | surveys | p | loses most on |",
            "|---" * 11 + "|",
        ]
        for test in tests.itertuples():
            cells = [
                test.labels,
                self.titles[test.other],
                test.tasks,
                f"{test.difference:+.3f}",
                f"{test.low:+.3f} to {test.high:+.3f}",
                test.regions,
                f"{test.p_regions:.2g}",
                f"{test.p_corrected:.2g}",
                test.surveys,
                f"{test.p_surveys:.2g}",
                test.worst_task,
            ]
            lines.append(f"| {' | '.join(markdown_cell(str(cell)) for cell in cells)} |")
        return "\n".join(lines)

    def plot(self, score: str = "auc_roc", rows: Sequence[str] | None = None) -> Figure:
        """Draw a score against labels per class, with bands of one standard error over regions.

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
        budgets = self.budgets
        figure = Figure(figsize=(7, 5.5), layout="constrained", dpi=110)
        axes = figure.add_subplot()
        styles = method_styles(self.titles)
        for name in names:
            own = table[table["row"] == name].set_index("labels").reindex(budgets)
            mean, error = own["mean"].to_numpy(), own["standard_error"].fillna(0).to_numpy()
            colour, marker, dashes = styles[name]
            places = range(len(budgets))
            label = drawn(self.titles[name])
            axes.plot(places, mean, dashes, marker=marker, color=colour, label=label)
            axes.fill_between(places, mean - error, mean + error, color=colour, alpha=0.1)
        tasks = table.groupby("labels")["tasks"].max()
        axes.set_xticks(range(len(budgets)), [f"{b}\n{tasks[b]} tasks" for b in budgets])
        axes.set(xlabel="labels per class", ylabel=score)
        figure.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)
        return figure

    def save(self, folder: str | Path) -> None:
        """Write the cells (.csv), provenance (.json) and tables (.md) into a folder."""
        folder = Path(folder)
        with atomic_write(folder / f"{self.stem}.csv", "w") as file:
            frame = self.frame()
            for name in ("row", "task", "region", "survey"):
                frame[name] = frame[name].map(csv_cell)
            frame.to_csv(file, index=False)
        with atomic_write(folder / f"{self.stem}.json", "w") as file:
            file.write(json.dumps({"titles": self.titles, **self.provenance}, indent=2) + "\n")
        with atomic_write(folder / f"{self.stem}.md", "w") as file:
            file.write(self.to_markdown())

    def _require(self, score: str) -> None:
        if score not in self.scores:
            raise ValueError(f"score is {score!r}: choose of {', '.join(self.scores)}")


def _clustered_error(scored: pd.DataFrame, score: str) -> float:
    """Return the standard error of a mean over tasks whose regions are independent."""
    sums = (scored[score] - scored[score].mean()).groupby(scored["region"]).sum()
    count = len(sums)
    if count < 2:
        return float("nan")
    return float(np.sqrt((sums**2).sum() * count / (count - 1)) / len(scored))
