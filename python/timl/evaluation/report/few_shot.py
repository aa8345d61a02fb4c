"""The report of a finished few-shot or N-way benchmark, one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from timl.evaluation.few_shot.result import ALL, FewShotResult
from timl.evaluation.plotting import method_styles, require_matplotlib
from timl.evaluation.report.document import Document, Picture, Section, Table, Text
from timl.evaluation.report.drawings import Line, lines
from timl.evaluation.report.numbers import count_text, number_text, p_text
from timl.evaluation.report.settings import flat_rows
from timl.files import atomic_write, output_folder

_NAMES = {
    "auc_roc": "AUC ROC",
    "average_precision": "Average precision",
    "f1": "F1 at 0.5",
    "brier": "Brier score",
    "macro_f1": "Macro F1",
    "accuracy": "Overall accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "mean_iou": "Mean IoU",
}
_HELD_OUT = {
    "country": (
        "The regions of one survey are held out together, and no training sample is of a survey, "
        "or lies in a country, of a sample that is scored. The scores are for a new country."
    ),
    "district": (
        "Only what lies in the held-out boxes is left out of training: other regions of the same "
        "survey are trained on. The scores are for a new district of a known country."
    ),
}


def write_few_shot_report(
    result: FewShotResult, folder: str | Path, compare_with: str | None = None
) -> Path:
    """Write few-shot.html, of the N-way benchmark n-way.html, which needs no other file.

    Parameters
    ----------
    result
        The benchmark, of `timl.few_shot_benchmark` or `timl.nway_benchmark`.
    folder
        The benchmark's folder.
    compare_with
        Row that the others are tested against, as of `FewShotResult.compare`.

    Returns
    -------
    Path
        Path of the file.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If there is no such row.
    """
    require_matplotlib("the report needs")
    row = result.compared(compare_with)
    headline, summary = _headline(result, row)
    document = Document(
        title="Methods on few labels",
        headline=headline,
        summary=summary,
        opening=[_scores_picture(result, row), Text(_held_out(result))],
        sections=[
            _scores(result),
            _comparison(result, row),
            _held_out_section(result),
            *([_at_random(result)] if "random_splits" in result.provenance["settings"] else []),
            _cost(result),
            _provenance(result),
        ],
    )
    path = Path(folder) / f"{result.stem}.html"
    with output_folder(path.parent), atomic_write(path, "w") as file:
        file.write(document.to_html())
    return path


def _main(result: FewShotResult) -> str:
    """Return the name of the main score."""
    return _NAMES[result.scores[0]]


def _labels_text(labels: str) -> str:
    """Return a number of labels in words."""
    return "all labels" if labels == ALL else f"{labels} labels per class"


def _headline(result: FewShotResult, row: str) -> tuple[str, str]:
    """Return the row's mean score with the fewest labels, and the sentences on it."""
    table = result.table()
    fewest = result.budgets[0]
    at = table[table["labels"] == fewest].set_index("row")
    own, others = at.loc[row], at.drop(index=row)
    clusters = result.frame()[["region", "survey"]].nunique()
    text = (
        f"{_main(result)} of {result.titles[row]} from {_labels_text(fewest)}, mean over "
        f"{int(own['tasks'])} tasks; in all, {clusters['region']} regions of {clusters['survey']} "
        f"surveys are scored."
    )
    if len(others):
        best = str(others["mean"].idxmax())
        tests = result.compare(row)
        test = tests[(tests["labels"] == fewest) & (tests["other"] == best)].iloc[0]
        difference, low, high = (
            number_text(test[name], signed=True) for name in ("difference", "low", "high")
        )
        text += (
            f" The best of the other {len(others)} methods there, {result.titles[best]}, has "
            f"{number_text(others['mean'].max())}: the difference is {difference} ({low} to {high},"
            f" 95 % interval over regions)."
        )
    return number_text(own["mean"]), text


def _scores_picture(result: FewShotResult, row: str) -> Picture:
    """Draw the main score against labels per class, the compared row with its standard errors."""
    table, budgets = result.table(), result.budgets
    styles = method_styles(result.titles)
    tasks = table.groupby("labels")["tasks"].max()
    series = {}
    for name, title in result.titles.items():
        own = table[table["row"] == name].set_index("labels").reindex(budgets)
        errors = own["standard_error"].fillna(0).tolist() if name == row else None
        series[title] = Line(list(range(len(budgets))), own["mean"].tolist(), errors)
    drawn = lines(
        series,
        "labels per class, and tasks that have so many",
        _main(result),
        {result.titles[name]: style for name, style in styles.items()},
        ticks={place: f"{b}\n{tasks[b]} tasks" for place, b in enumerate(budgets)},
    )
    return Picture(
        "scores",
        drawn,
        f"{_main(result)} of {len(result.titles)} methods against the number of labels per class",
        f"Means over tasks; bars: one standard error of {result.titles[row]}, regions counting as "
        f"independent. Only tasks with so many labels count, so their number differs.",
    )


def _scores(result: FewShotResult) -> Section:
    """Show a table for each score, and the mean ranks by the main one."""
    section = Section("scores", "Scores")
    for score in result.scores:
        caption = f"{_NAMES[score]}, mean over tasks ± standard error over regions"
        section.blocks.append(_by_labels(result, score, caption))
    section.blocks.append(
        _by_labels(
            result, result.scores[0], f"Mean rank by {_main(result)}, 1 is best", column="rank"
        )
    )
    less = "Brier score and rank" if "brier" in result.scores else "Rank"
    section.blocks.append(
        Text(f"* the best, ° the second best of a column. {less}: less is better.")
    )
    return section


def _by_labels(result: FewShotResult, score: str, caption: str, column: str = "mean") -> Table:
    """Return one column of the score's table, a line for each row, by numbers of labels."""
    table = result.table(score)
    tasks = table.groupby("labels")["tasks"].max()
    wide = table.pivot(index="row", columns="labels", values=column).reindex(
        index=list(result.titles), columns=result.budgets
    )
    errors = table.pivot(index="row", columns="labels", values="standard_error").reindex_like(wide)
    ascending = column == "rank" or score == "brier"
    ranks = wide.rank(ascending=ascending, method="min").fillna(0).astype(int)
    ranks = ranks.where(ranks <= 2, 0)
    rows = []
    for name, title in result.titles.items():
        texts = []
        for labels in result.budgets:
            value, error = wide.loc[name, labels], errors.loc[name, labels]
            if column == "rank":
                texts.append(count_text(value))
            elif column == "seconds":
                texts.append(number_text(value, 2))
            else:
                has_error = column == "mean" and error == error
                texts.append(number_text(value) + (f" ± {number_text(error)}" if has_error else ""))
        rows.append([title, *texts])
    marked = column in ("mean", "rank")
    return Table(
        caption,
        ["method", *(f"{b} ({tasks[b]} tasks)" for b in result.budgets)],
        rows,
        ranks=[[0, *line] for line in ranks.to_numpy().tolist()] if marked else (),
    )


def _comparison(result: FewShotResult, row: str) -> Section:
    """Show the tests of one row against the others by the main score, by numbers of labels."""
    section = Section("comparison", f"{result.titles[row]} against the others")
    section.absent = "there is one method only"
    tests = result.compare(row)
    for labels in result.budgets:
        found = tests[tests["labels"] == labels]
        if not len(found):
            continue
        rows = [
            [
                result.titles[test.other],
                number_text(test.difference, signed=True),
                f"{number_text(test.low, signed=True)} to {number_text(test.high, signed=True)}",
                p_text(test.p_regions),
                p_text(test.p_corrected),
                p_text(test.p_surveys),
            ]
            for test in found.itertuples()
        ]
        first = found.iloc[0]
        section.blocks.append(
            Table(
                f"{_labels_text(labels)[0].upper()}{_labels_text(labels)[1:]}: {first['tasks']} "
                f"tasks in {first['regions']} regions of {first['surveys']} surveys",
                ["against", "difference", "interval", "p", "corrected", "p, surveys"],
                rows,
                meanings=[f"loses most on {task}" for task in found["worst_task"]],
            )
        )
    if section.blocks:
        section.blocks.append(
            Text(
                f"Differences of {_main(result)}, means over tasks. Two-sided sign-flip tests over "
                "regions (corrected: Holm, over the others) and over surveys; 95 % intervals over "
                "regions. "
                f"{result.stem}.md has the same for the other scores.",
                kind="faint",
            )
        )
    return section


def _held_out(result: FewShotResult) -> str:
    settings = result.provenance["settings"]
    return (
        f"{_HELD_OUT[settings['held_out']]} Training and test samples of a task lie in other "
        f"blocks of {settings['block_km']:g} km."
    )


def _held_out_section(result: FewShotResult) -> Section:
    """Say what each fold held out, and which classes the tasks of several have."""
    several = "classes" in result.provenance["folds"][0]
    rows = [
        [
            str(number),
            ", ".join(fold["regions"]),
            ", ".join(sorted(set(fold["regions"].values()))),
            str(len(fold["classes" if several else "tasks"])),
            str(fold["training_tasks"]),
            f"{fold['nearest_training_km']:,.0f} km",
        ]
        for number, fold in enumerate(result.provenance["folds"], start=1)
    ]
    section = Section("held-out", "What was held out")
    section.blocks.append(
        Table(
            "Folds: each is scored by methods that were trained without it",
            ["fold", "regions", "surveys", "tasks", "training tasks", "nearest training sample"],
            rows,
            wide=True,
        )
    )
    if several:
        rows = [
            [region, str(len(classes)), ", ".join(classes)]
            for fold in result.provenance["folds"]
            for region, classes in fold["classes"].items()
        ]
        caption = "Classes of each region; a division may leave out the rarest"
        section.blocks.append(Table(caption, ["region", "number", "classes"], rows, wide=True))
    left_out = result.provenance.get("left_out")
    if left_out:
        section.blocks.append(
            Text(f"Not scored, since they cannot be divided in space: {', '.join(left_out)}.")
        )
    return section


def _at_random(result: FewShotResult) -> Section:
    section = Section("at-random", "Random divisions")
    section.absent = "not computed; give timl benchmark the option --random-splits"
    if result.table()["at_random"].notna().any():
        caption = (
            f"{_main(result)} on random divisions of the same sizes, which put neighbours on both "
            f"sides"
        )
        section.blocks.append(_by_labels(result, result.scores[0], caption, column="at_random"))
    return section


def _cost(result: FewShotResult) -> Section:
    section = Section("cost", "Time")
    section.blocks.append(
        _by_labels(
            result, result.scores[0], "Seconds of adapting and scoring, mean", column="seconds"
        )
    )
    frame = result.frame()
    shared = frame.groupby(["row", "fold"], sort=False)["training_seconds"].max()
    training: Any = shared.groupby("row").mean()
    trained = [[result.titles[row], number_text(training[row], 0)] for row in result.titles
               if training[row] > 0]  # fmt: skip
    if trained:
        section.blocks.append(
            Table("Seconds of the training before, mean over folds", ["method", "seconds"], trained)
        )
    return section


def _provenance(result: FewShotResult) -> Section:
    listed = ("folds", "left_out")
    told = {name: value for name, value in result.provenance.items() if name not in listed}
    section = Section("provenance", "Provenance")
    section.blocks.append(
        Table("What the numbers come from", ["what", "value"], list(flat_rows(told)), wide=True)
    )
    return section
