"""The reports of a finished Table 1, HTML and Markdown, and of a few-shot benchmark, HTML."""

from __future__ import annotations

from pathlib import Path

from timl.data import LabelledData, TaskSet
from timl.evaluation.paper.result import MEAN, Table1Result
from timl.evaluation.plotting import require_matplotlib
from timl.evaluation.report.document import Document
from timl.evaluation.report.few_shot import write_few_shot_report
from timl.evaluation.report.inputs import ReportInputs
from timl.evaluation.report.numbers import estimate_text, number_text
from timl.evaluation.report.scored import (
    calibration,
    confusion,
    ranking,
    sample_sizes,
    scores_picture,
    statistics,
    table,
)
from timl.evaluation.report.settings import provenance, run_times
from timl.evaluation.report.training import embedding, forgetting, hardest_tasks, learning
from timl.files import atomic_write, output_folder

__all__ = ["write_few_shot_report", "write_report"]

_SECTIONS = (
    table,
    ranking,
    statistics,
    sample_sizes,
    confusion,
    calibration,
    learning,
    forgetting,
    embedding,
    hardest_tasks,
    run_times,
    provenance,
)


def write_report(
    result: Table1Result, data: LabelledData, tasks: TaskSet | None, folder: str | Path
) -> Path:
    """Write report.html, which needs no other file, and report.md with its figures beside it.

    Parameters
    ----------
    result
        The table, of `timl.table1` or of `Table1Result.load`.
    data
        The data set of the table.
    tasks
        The tasks that its rows were meta-trained on; None where there are none.
    folder
        The table's folder: models and histories are read from it, the report is written to it.

    Returns
    -------
    Path
        Path of report.html.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If data or tasks are not those of the table, or a history is damaged.
    """
    require_matplotlib("the report needs")
    _require_same(result, data, tasks)
    inputs = ReportInputs(result, data, tasks, Path(folder))
    headline, summary = _headline(result)
    document = Document(
        title="Table 1: few-shot crop mapping",
        headline=headline,
        summary=summary,
        opening=[scores_picture(inputs)],
        sections=[section(inputs) for section in _SECTIONS],
    )
    path = inputs.folder / "report.html"
    with output_folder(inputs.folder):
        for picture in document.pictures:
            with atomic_write(inputs.folder / f"{picture.name}{picture.suffix}") as file:
                file.write(picture.data)
        with atomic_write(path.with_suffix(".md"), "w") as file:
            file.write(document.to_markdown())
        with atomic_write(path, "w") as file:
            file.write(document.to_html())
    return path


def _require_same(result: Table1Result, data: LabelledData, tasks: TaskSet | None) -> None:
    described = result.provenance["data"]
    if described["checksum"] != data.checksum:
        raise ValueError(
            f"data has checksum {data.checksum}, but the table is of {described['checksum']}: give "
            f"the data set that it was computed on"
        )
    names = None if tasks is None else [task.id for task in tasks]
    if described["meta_training_tasks"] != names:
        wanted = described["meta_training_tasks"]
        raise ValueError(
            f"tasks are {0 if names is None else len(names)}, but not the "
            f"{0 if wanted is None else len(wanted)} that the table was trained on: give the same "
            f"regions as to table1"
        )


def _headline(result: Table1Result) -> tuple[str, str]:
    """Return the best mean AUC ROC, and the sentences on it."""
    best = {
        metric: max(result.titles, key=lambda row: result.estimate(row, MEAN, metric).mean)
        for metric in ("auc_roc", "f1")
    }
    auc = result.estimate(best["auc_roc"], MEAN, "auc_roc")
    runs, count = result.provenance["settings"]["runs"], len(result.benchmarks)
    return number_text(auc.mean), (
        f"Best mean AUC ROC: {result.titles[best['auc_roc']]} ({estimate_text(auc)}), among "
        f"{len(result.titles)} method{'s' if len(result.titles) > 1 else ''} on {count} evaluation "
        f"task{'s' if count > 1 else ''} with {runs} run{'s' if runs > 1 else ''} each. Best "
        f"mean F1: {result.titles[best['f1']]} "
        f"({estimate_text(result.estimate(best['f1'], MEAN, 'f1'))})."
    )
