"""Sections of the report on scores: table, statistics, ranks, sizes, decisions, calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from timl.evaluation.paper.cells import Cell
from timl.evaluation.paper.result import MEAN, METRICS, Table1Result
from timl.evaluation.report import drawings
from timl.evaluation.report.document import Picture, Section, Table, Text
from timl.evaluation.report.inputs import ReportInputs
from timl.evaluation.report.numbers import count_text, estimate_text, number_text, p_text
from timl.evaluation.statistics import Estimate, smallest_p

_LESS_IS_BETTER = ("brier",)
_TIE = 1e-12


def table(inputs: ReportInputs) -> Section:
    """Show AUC ROC and F1 of every row on every benchmark, and the other scores' means."""
    result = inputs.result
    columns = (*result.benchmarks, MEAN)
    section = Section("table", "Scores")
    for metric in ("auc_roc", "f1"):
        found = [[result.estimate(row, c, metric) for c in columns] for row in result.titles]
        section.blocks.append(
            _estimates(result, f"{METRICS[metric]}, mean ± standard error", columns, found, [])
        )
    found = [[result.estimate(row, MEAN, metric) for metric in METRICS] for row in result.titles]
    reverse = [i for i, metric in enumerate(METRICS) if metric in _LESS_IS_BETTER]
    caption = "All scores, means over the evaluation tasks (of the Brier score less is better)"
    section.blocks.append(_estimates(result, caption, list(METRICS.values()), found, reverse))
    section.blocks.append(
        Text(
            f"Means over {result.provenance['settings']['runs']} runs; a row without ± has no "
            f"randomness. F1, IoU and accuracy are at probability 0.5. * best and ° second best of "
            f"the column; whether a difference is more than chance is in the next section."
        )
    )
    return section


def statistics(inputs: ReportInputs) -> Section:
    """Show the paired tests against one row, and the two sources of variance."""
    result = inputs.result
    tests = result.tests(MEAN, "auc_roc")
    section = Section("statistics", "Differences between methods")
    pairs = max((test.pairs for test in tests), default=0)
    title = result.titles[result.compared_with]
    section.blocks.append(
        Text(
            f"Wilcoxon's signed-rank test of the mean AUC ROC over {pairs} paired runs, of every "
            f"other method against {title}, two-sided, with p corrected for these {len(tests)} "
            f"comparisons by Holm's method. The smallest corrected p that so many runs can give "
            f"is {p_text(smallest_p(pairs, len(tests)))}. Runs share one meta-training and one "
            f"test set: the test says nothing about other meta-trainings or places."
        )
    )
    if tests:
        section.blocks.append(
            Table(
                f"Mean AUC ROC minus that of {title}",
                ["method", "difference", "p", "corrected p"],
                [
                    [
                        result.titles[test.row],
                        number_text(test.difference, signed=True),
                        p_text(test.p),
                        p_text(test.p_corrected),
                    ]
                    for test in tests
                ],
            )
        )
    found = {row: result.estimate(row, MEAN, "auc_roc") for row in result.titles}
    repeated = {row: one for row, one in found.items() if one.meta_seeds > 1}
    if repeated:
        section.blocks.append(
            Table(
                "Standard deviations of the mean AUC ROC by source",
                ["method", "meta-trainings", "between runs", "between meta-trainings"],
                [
                    [
                        result.titles[row],
                        str(one.meta_seeds),
                        number_text(one.run_deviation),
                        number_text(one.meta_deviation),
                    ]
                    for row, one in repeated.items()
                ],
            )
        )
    return section


def ranking(inputs: ReportInputs) -> Section:
    """Show each row's rank on every benchmark."""
    result = inputs.result
    order, ranks = _ranks(result)
    titles = list(result.titles.values())
    rows = [
        [titles[i], *(f"{rank:g}" for rank in ranks[i]), number_text(ranks[i].mean(), 2)]
        for i in order
    ]
    caption = "Rank by mean AUC ROC, 1 is best"
    table = Table(caption, ["method", *result.benchmarks, "mean rank"], rows)
    return Section("ranking", "Ranking over the evaluation tasks", [table])


def scores_picture(inputs: ReportInputs) -> Picture:
    """Draw the AUC ROC of every row on every benchmark."""
    result = inputs.result
    order, _ = _ranks(result)
    titles, keys = list(result.titles.values()), list(result.titles)
    columns = {
        name: [
            (one.mean, one.standard_error or 0.0)
            for one in (result.estimate(keys[i], name, "auc_roc") for i in order)
        ]
        for name in result.benchmarks
    }
    best = ", ".join(
        f"{name}: {titles[order[int(np.argmax([mean for mean, _ in values]))]]}"
        for name, values in columns.items()
    )
    return Picture(
        "report-scores",
        drawings.scores([titles[i] for i in order], columns, "AUC ROC on the test set"),
        f"AUC ROC of every method on every evaluation task. Best by task: {best}.",
        "AUC ROC with standard errors over runs; methods in the order of their mean rank. "
        "The dotted line is chance.",
    )


def _ranks(result: Table1Result) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the rows' order by mean rank, int64 [rows], and ranks, float64 [rows, benchmarks]."""
    means = np.array(
        [
            [result.estimate(row, name, "auc_roc").mean for name in result.benchmarks]
            for row in result.titles
        ]
    )
    # the mean rank of those that tie
    greater = (means[None] > means[:, None] + _TIE).sum(axis=1)
    equal = (np.abs(means[None] - means[:, None]) <= _TIE).sum(axis=1)
    ranks = greater + (equal + 1) / 2
    return np.argsort(ranks.mean(axis=1), kind="stable"), ranks


def sample_sizes(inputs: ReportInputs) -> Section:
    """Draw AUC ROC by the number of labels, where it was asked for."""
    result = inputs.result
    section = Section("sample-sizes", "Scores by number of labels")
    if all(cell.size is None for cell in result.cells):
        section.absent = (
            "give timl table1 the option --sample-sizes 20,32,64, and --zero-shot for the scores "
            "before adaptation."
        )
        return section
    curves = result.curves()
    sizes = sorted(int(size) for size in curves["size"].dropna().unique())
    # places of equal distance: zero has no logarithm, and "all" is another number in each task
    places = {size: float(i) for i, size in enumerate(sizes)}
    ticks = {at: "zero-shot" if size == 0 else str(size) for size, at in places.items()}
    ticks[float(len(sizes))] = "all"
    tables = []
    for number, name in enumerate(result.benchmarks):
        series: dict[str, drawings.Line] = {}
        rows: list[list[str]] = []
        for row, title in result.titles.items():
            chosen = curves[(curves["row"] == row) & (curves["benchmark"] == name)]
            points = sorted(
                (
                    float(len(sizes)) if size is None else places[size],
                    float(mean),
                    0.0 if error is None or math.isnan(error) else float(error),
                )
                for size, mean, error in zip(
                    [None if size != size else int(size) for size in chosen["size"].astype(float)],
                    chosen["auc_roc"],
                    chosen["auc_roc_standard_error"],
                    strict=True,
                )
            )
            series[title] = drawings.Line(*([*part] for part in zip(*points, strict=True)))
            texts = {
                x: number_text(mean) + (f" ± {number_text(error)}" if error else "")
                for x, mean, error in points
            }
            rows.append([title, *(texts.get(x, "") for x in ticks)])
        tables.append(Table(f"{name}: AUC ROC", ["method", *ticks.values()], rows))
        best = max(series, key=lambda title: series[title].y[-1])
        section.blocks.append(
            Picture(
                f"report-sizes-{number}",
                drawings.lines(series, "labels", "AUC ROC", inputs.styles, ticks=ticks),
                f"AUC ROC on {name} by number of labels; the numbers are in the table of {name} "
                f"below. With all labels {best} is best.",
                f"{name}: AUC ROC by number of labels, half of them positive; standard errors "
                f"over runs.",
            )
        )
    section.blocks += tables
    return section


def confusion(inputs: ReportInputs) -> Section:
    """Show the four counts of decisions, as means over the runs."""
    result = inputs.result
    section = Section("confusion", "Confusion matrices")
    section.blocks.append(
        Text("Samples of the test set by label and decision at probability 0.5, means over runs.")
    )
    names = ("true_positives", "false_negatives", "false_positives", "true_negatives")
    for benchmark in result.benchmarks:
        rows = []
        for row, title in result.titles.items():
            cells = _cells(result, row, benchmark)
            counts = [float(np.mean([getattr(c.scores, name) for c in cells])) for name in names]
            hit, missed, false, rejected = counts
            rows.append(
                [
                    title,
                    *(count_text(count) for count in counts),
                    _share(hit, hit + missed),
                    _share(hit, hit + false),
                    _share(rejected, rejected + false),
                ]
            )
        header = [
            "method", *(name.replace("_", " ") for name in names), "recall", "precision",
            "specificity",
        ]  # fmt: skip
        section.blocks.append(Table(benchmark, header, rows))
    return section


def calibration(inputs: ReportInputs) -> Section:
    """Draw how often samples are positive by the probability that they were given."""
    result = inputs.result
    section = Section("calibration", "Calibration")
    errors: dict[str, dict[str, float]] = {}
    for number, benchmark in enumerate(result.benchmarks):
        series, own = {}, errors.setdefault(benchmark, {})
        for row, title in result.titles.items():
            bins = _bins(_cells(result, row, benchmark))
            samples, positives, sums = bins[bins[:, 0] > 0].T
            series[title] = drawings.Line(list(sums / samples), list(positives / samples))
            own[title] = float(np.abs(positives - sums).sum() / samples.sum())
        best = min(own, key=lambda title: own[title])
        section.blocks.append(
            Picture(
                f"report-calibration-{number}",
                drawings.lines(
                    series,
                    "mean predicted probability",
                    "share of positives",
                    inputs.styles,
                    diagonal=True,
                    limits=(-0.03, 1.03),
                ),
                f"Calibration curves on {benchmark}. Closest to the diagonal is {best}, with an "
                f"expected calibration error of {own[best]:.3f}.",
                f"{benchmark}: share of positives by predicted probability, ten bins, all runs "
                f"together.",
            )
        )
    texts = [
        [title, *(number_text(own[title]) for own in errors.values())]
        for title in result.titles.values()
    ]
    caption = "Expected calibration error over the ten bins, less is better"
    section.blocks.append(Table(caption, ["method", *errors], texts))
    found = [
        [result.estimate(row, name, "brier") for name in result.benchmarks] for row in result.titles
    ]
    every = range(len(result.benchmarks))
    caption = "Brier score, mean ± standard error, less is better"
    section.blocks.append(_estimates(result, caption, result.benchmarks, found, every))
    return section


def _estimates(
    result: Table1Result,
    caption: str,
    columns: Sequence[str],
    found: Sequence[Sequence[Estimate]],
    reverse: Sequence[int],
) -> Table:
    """Mark best and second best; of the columns in `reverse` the least are best."""
    tops = [
        sorted({line[i].mean for line in found}, reverse=i not in reverse)[:2]
        for i in range(len(columns))
    ]
    ranks = [
        [0, *(tops[i].index(one.mean) + 1 if one.mean in tops[i] else 0 for i, one in enumerate(r))]
        for r in found
    ]
    rows = [
        [title, *map(estimate_text, line)]
        for title, line in zip(result.titles.values(), found, strict=True)
    ]
    return Table(caption, ["method", *columns], rows, ranks)


def _cells(result: Table1Result, row: str, benchmark: str) -> list[Cell]:
    """Return a row's cells with all labels."""
    return [
        cell
        for cell in result.cells
        if (cell.row, cell.benchmark, cell.size) == (row, benchmark, None)
    ]


def _bins(cells: Sequence[Cell]) -> NDArray[np.float64]:
    """Return samples, positives and sums of probabilities of all cells, float64 [10, 3]."""
    total: NDArray[np.float64] = np.sum([cell.reliability for cell in cells], axis=0, dtype=float)
    return total


def _share(part: float, whole: float) -> str:
    return number_text(part / whole if whole else None)
