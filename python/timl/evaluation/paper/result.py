"""Table 1, finished: its numbers, how it is shown, and its files."""

from __future__ import annotations

import csv
import html
import importlib
import importlib.util
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from timl.evaluation.paper.cells import Cell, open_store
from timl.evaluation.paper.extrapolation import BENCHMARKS, EPOCHS, RUNS, TASKS, extrapolate
from timl.evaluation.scores import Scores
from timl.evaluation.statistics import (
    Estimate,
    PairedTest,
    estimate_groups,
    paired_tests,
    smallest_p,
)
from timl.files import atomic_write, read_json
from timl.text import csv_cell, markdown_cell, printable

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console, ConsoleOptions, RenderResult

METRICS = {
    "auc_roc": "AUC ROC",
    "f1": "F1",
    "iou": "IoU",
    "average_precision": "average precision",
    "accuracy": "accuracy",
    "brier": "Brier score",
}
"""The scores that are averaged, and their titles."""

MEAN = "mean"
"""The column of the mean over the benchmarks."""

_SHOWN = ("auc_roc", "f1")

_MARKS = ("", "*", "°")
"""Marks of a column's cells by rank: 1 the best, 2 the second best, 0 any other."""

_CELL_WIDTH = len(".812 ± .034*")


@dataclass(frozen=True, eq=False)
class Table1Result:
    """Scores of every row on every benchmark, over the runs.

    Parameters
    ----------
    titles
        Title of each row by its name, in the table's order.
    benchmarks
        The columns.
    cells
        In the order of rows, repetitions of the meta-training, benchmarks, sample sizes and runs.
    provenance
        What the numbers come from: settings, seeds, versions, data, time.
    """

    titles: dict[str, str]
    benchmarks: tuple[str, ...]
    cells: tuple[Cell, ...]
    provenance: dict[str, Any]

    def estimate(self, row: str, benchmark: str, metric: str) -> Estimate:
        """Average one score over the runs of a row that is adapted to all labels.

        Parameters
        ----------
        row, benchmark
            Their names; the benchmark "mean" stands for each run's mean over all benchmarks.
        metric
            One of `METRICS`.
        """
        return _estimate(self._runs(row, benchmark, metric))

    def _runs(
        self, row: str, benchmark: str, metric: str, size: int | None = None
    ) -> dict[tuple[int, int], float]:
        """Return a row's score in each run, by (repetition of the meta-training, run)."""
        runs: dict[tuple[int, int], list[float]] = {}
        for cell in self.cells:
            if cell.row == row and cell.size == size and benchmark in (cell.benchmark, MEAN):
                score = getattr(cell.scores, metric)
                runs.setdefault((cell.meta_seed, cell.run), []).append(score)
        return {run: float(np.mean(values)) for run, values in runs.items()}

    @property
    def compared_with(self) -> str:
        """Name of the row that every other is tested against."""
        return default_comparison(self.titles, self.provenance["settings"].get("compare_with"))

    def tests(self, benchmark: str, metric: str) -> list[PairedTest]:
        """Test every other row against `compared_with`, by Wilcoxon's signed ranks over the runs.

        Corrected for the number of these comparisons by Holm's method.

        Parameters
        ----------
        benchmark, metric
            As of `estimate`.
        """
        runs = {row: self._runs(row, benchmark, metric) for row in self.titles}
        return paired_tests(runs, self.compared_with)

    def curves(self) -> pd.DataFrame:
        """Return the scores by the number of labels.

        Returns
        -------
        DataFrame
            Columns row, benchmark, size (0: zero-shot, <NA>: all labels), and for each metric its
            mean and, under the metric's name with "_standard_error", the error of it.
        """
        import pandas as pd

        sizes = list(dict.fromkeys(cell.size for cell in self.cells))
        lines = []
        for row in self.titles:
            for benchmark in self.benchmarks:
                for size in sizes:
                    line: dict[str, Any] = {"row": row, "benchmark": benchmark, "size": size}
                    for metric in METRICS:
                        runs = self._runs(row, benchmark, metric, size)
                        if not runs:
                            break
                        found = _estimate(runs)
                        line[metric] = found.mean
                        line[f"{metric}_standard_error"] = found.standard_error
                    else:
                        lines.append(line)
        return pd.DataFrame(lines).astype({"size": "Int64"})

    def seconds(self, row: str) -> float:
        """Return what a row took, meta-training included, whenever it was computed."""
        cells = [cell for cell in self.cells if cell.row == row]
        trained = {cell.meta_seed: cell.training_seconds for cell in cells}
        return sum(cell.seconds for cell in cells) + sum(trained.values())

    def table(self) -> pd.DataFrame:
        """Return every estimate.

        Returns
        -------
        DataFrame
            Columns row, benchmark, metric, and the fields of `Estimate`.
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

    def _grid(self, metric: str) -> tuple[list[str], list[list[tuple[str, int]]]]:
        """Return the header, and of each row the texts with their rank in `_MARKS`."""
        columns = (*self.benchmarks, MEAN)
        estimates = [[self.estimate(row, c, metric) for c in columns] for row in self.titles]
        # ranks of the different means of a column, the greatest first
        tops = [sorted({row[i].mean for row in estimates})[:-3:-1] for i in range(len(columns))]
        body = [
            [
                (title, 0),
                *(
                    (str(e), top.index(e.mean) + 1 if e.mean in top else 0)
                    for e, top in zip(row, tops, strict=True)
                ),
            ]
            for title, row in zip(self.titles.values(), estimates, strict=True)
        ]
        return [METRICS[metric], *columns], body

    def _comparisons(self) -> str:
        """Return a sentence on each row's mean AUC ROC beside that compared with, given runs."""
        metric = _SHOWN[0]
        tests = self.tests(MEAN, metric)
        pairs = max((test.pairs for test in tests), default=0)
        if pairs < 2:
            return ""
        values = ", ".join(
            f"{self.titles[test.row]} {test.difference:+.3f} (p {test.p_corrected:.2g})"
            for test in tests
        )
        return (
            f"Mean {METRICS[metric]} against that of {self.titles[self.compared_with]} over "
            f"{pairs} runs (two-sided p of Wilcoxon's signed ranks, corrected by Holm's method for "
            f"{len(tests)} comparisons; the smallest that so many runs can give is "
            f"{smallest_p(pairs, len(tests)):.2g}): {values}. "
        )

    def full_experiment(self) -> dict[str, float]:
        """Extrapolate each row's seconds to the record's experiment.

        See `timl.evaluation.paper.extrapolation.extrapolate` for what is assumed.
        """
        return extrapolate(self.cells, self.provenance.get("trainings", {}))

    def describe_full_experiment(self) -> str:
        """Return a sentence on how long the record's experiment with these rows would take."""
        rows = self.full_experiment().values()
        seconds, workers = sum(rows), self.provenance.get("workers", 1)
        how = ""
        if workers > 1:  # a training is not divided
            least = max(seconds / workers, *rows)
            how = f", {duration(least)} at least over {workers} processes"
        return (
            f"Extrapolated to the record ({TASKS} tasks, {EPOCHS} epochs, {RUNS} runs of "
            f"{BENCHMARKS} evaluation tasks), these rows would take {duration(seconds)} one after "
            f"another{how}: if no task is forgotten, all of crop pre-training's epochs are needed "
            f"and a cell takes as long as here."
        )

    def _caption(self) -> str:
        settings = self.provenance["settings"]
        times = ", ".join(
            f"{title} {duration(self.seconds(row))}" for row, title in self.titles.items()
        )
        return (
            f"Mean ± standard error of {settings['runs']} runs (a row without ± has no "
            f"randomness); F1 at probability 0.5; * best and ° second best of the column. "
            f"Meta-training "
            f"{settings['epochs']} epochs, fine-tuning {settings['steps']} steps, seed "
            f"{settings['seed']}. {self._comparisons()}Time: {times}. "
            f"{self.describe_full_experiment()}"
        )

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        lines = []
        for metric in _SHOWN:
            header, body = self._grid(metric)
            lines += [
                f"| {' | '.join(map(markdown_cell, header))} |",
                f"|---|{'---:|' * (len(header) - 1)}",
            ]
            for row in body:
                texts = [
                    ("{}", "**{}**\\*", "{}°")[rank].format(markdown_cell(text))
                    for text, rank in row
                ]
                lines.append(f"| {' | '.join(texts)} |")
            lines.append("")
        return "\n".join([*lines, markdown_cell(self._caption()).replace("*", "\\*"), ""])

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
                    if rank == 1
                    else f"<td>{html.escape(text)}{_MARKS[rank]}</td>"
                    for text, rank in row
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
                heading = Text(printable(text).replace("_", "\n"))
                table.add_column(heading, justify="right", min_width=_CELL_WIDTH)
            for row in body:
                table.add_row(
                    *(
                        Text(f"{printable(text)}{_MARKS[rank]}", style="bold" if rank == 1 else "")
                        for text, rank in row
                    )
                )
            yield table
        yield Text(printable(self._caption()))

    @classmethod
    def load(cls, folder: str | Path) -> Table1Result:
        """Read a finished table from its folder: table1.json, table1.csv and cells.jsonl.

        Raises
        ------
        FileNotFoundError
            If a file is missing: the table is not finished.
        ValueError
            If the files do not belong together.
        """
        folder = Path(folder)
        for name in ("table1.json", "table1.csv", "cells.jsonl"):
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"{folder} holds no finished table, {name} is missing: run timl table1"
                )
        titles, provenance = _read_summary(folder / "table1.json")
        # the store also holds cells of other settings, and numbers runs as they were computed
        kept = {
            tuple(map(str, (*_line(cell), *vars(cell.scores).values()))): cell
            for cell in open_store(folder)
        }
        scores = [field.name for field in fields(Scores)]
        cells = []
        with (folder / "table1.csv").open(newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file):
                names = ("row", "benchmark", "seed", "size", *scores)
                cell = kept.get(tuple(line.get(name, "") for name in names))
                numbers = [str(line.get(name)) for name in ("run", "meta_seed")]
                if cell is None or not all(number.isdecimal() for number in numbers):
                    raise ValueError(
                        f"{folder}: a line of table1.csv ({line.get('row')}, "
                        f"{line.get('benchmark')}, seed {line.get('seed')}) is not in cells.jsonl: "
                        f"run timl table1 again"
                    )
                run, meta_seed = map(int, numbers)
                cells.append(replace(cell, run=run, meta_seed=meta_seed))
        if {cell.row for cell in cells} != set(titles):
            raise ValueError(
                f"{folder}: table1.csv and table1.json are of other rows: run timl table1 again"
            )
        return cls(
            titles=titles,
            benchmarks=tuple(provenance["data"]["benchmarks"]),
            cells=tuple(cells),
            provenance=provenance,
        )

    def save(self, folder: str | Path) -> None:
        """Write table1.csv (one line per cell), table1.json (summary, provenance), table1.md.

        Where pyarrow is installed (the extra ``timl[parquet]``), also table1.parquet: the lines of
        table1.csv with their types, the times of the cells, and the provenance as metadata.
        """
        folder = Path(folder)
        if importlib.util.find_spec("pyarrow") is not None:
            self._save_parquet(folder / "table1.parquet")
        scores = [field.name for field in fields(Scores)]
        with atomic_write(folder / "table1.csv", "w") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["row", "benchmark", "run", "seed", *scores, "meta_seed", "size"])
            for cell in self.cells:
                values = [getattr(cell.scores, name) for name in scores]
                row, benchmark, seed, size = _line(cell)
                writer.writerow([row, benchmark, cell.run, seed, *values, cell.meta_seed, size])
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
        tests = {
            column: {
                metric: [asdict(test) for test in self.tests(column, metric)] for metric in METRICS
            }
            for column in (*self.benchmarks, MEAN)
        }
        document = {
            "rows": summary,
            "compared_with": self.compared_with,
            "tests": tests,
            "provenance": self.provenance,
        }
        if any(cell.size is not None for cell in self.cells):
            document["sample_sizes"] = json.loads(self.curves().to_json(orient="records"))
        with atomic_write(folder / "table1.json", "w") as file:
            json.dump(document, file, indent=2)
            file.write("\n")
        with atomic_write(folder / "table1.md", "w") as file:
            file.write(self.to_markdown())

    def _save_parquet(self, path: Path) -> None:
        # by name: whether its types are known depends on whether it is installed
        pyarrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
        lines = [
            {
                "row": cell.row,
                "benchmark": cell.benchmark,
                "run": cell.run,
                "seed": cell.seed,
                **asdict(cell.scores),
                "meta_seed": cell.meta_seed,
                "size": cell.size,
                "seconds": cell.seconds,
                "training_seconds": cell.training_seconds,
            }
            for cell in self.cells
        ]
        size = pyarrow.array([cell.size for cell in self.cells], pyarrow.int64())
        table = pyarrow.Table.from_pylist(lines)
        # a column of nulls alone would have no type
        table = table.set_column(table.column_names.index("size"), "size", size)
        table = table.replace_schema_metadata({"provenance": json.dumps(self.provenance)})
        with atomic_write(path) as file:
            parquet.write_table(table, file)


def default_comparison(rows: Collection[str], wanted: str | None = None) -> str:
    """Return the row that the others are tested against: as wanted, else "timl", else the first.

    Raises
    ------
    ValueError
        If the wanted one is not among the rows.
    """
    if wanted is not None and wanted not in rows:
        raise ValueError(f"compare_with is {wanted!r}: choose of the rows {', '.join(rows)}")
    return wanted or ("timl" if "timl" in rows else next(iter(rows)))


def _line(cell: Cell) -> tuple[str, str, int, int | str]:
    """Return row, benchmark, seed and sample size of a cell, as table1.csv has them."""
    size = "all" if cell.size is None else cell.size
    return csv_cell(cell.row), csv_cell(cell.benchmark), cell.seed, size


def _read_summary(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the titles of the rows and the provenance in table1.json.

    Raises
    ------
    ValueError
        If the file is damaged or of something else.
    """
    document = read_json(path, "run timl table1 again")
    try:
        titles = {str(row): str(entry["title"]) for row, entry in document["rows"].items()}
        provenance: dict[str, Any] = document["provenance"]
        settings, data = provenance["settings"], provenance["data"]
        found = [settings[name] for name in ("epochs", "steps", "runs", "seed")]
        right = (
            all(type(number) is int for number in found)
            and isinstance(settings["as_published_code"], bool)
            and isinstance(data["checksum"], str)
            and isinstance(data["meta_training_tasks"], list | type(None))
            and all(isinstance(name, str) for name in data["benchmarks"])
        )
    except (AttributeError, KeyError, TypeError):
        right = False
    if not right or not titles or not data["benchmarks"]:
        raise ValueError(f"{path} is not of a finished table: run timl table1 again")
    return titles, provenance


def _estimate(runs: dict[tuple[int, int], float]) -> Estimate:
    """Estimate from the scores of `Table1Result._runs`."""
    groups: dict[int, list[float]] = {}
    for (meta_seed, _), value in runs.items():
        groups.setdefault(meta_seed, []).append(value)
    return estimate_groups(list(groups.values()))


def duration(seconds: float) -> str:
    """Return a time for people: "4.2 s", "3 min 12 s", "2 h 5 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
