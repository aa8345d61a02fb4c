"""Scores of several classes in a report: bars, confusion matrix, and the tables of both."""

from __future__ import annotations

from collections.abc import Sequence

from timl.evaluation.class_scores import NOT_KNOWN, ClassScores
from timl.evaluation.cross_validation import CropTypeValidation, Interval
from timl.evaluation.report import drawings
from timl.evaluation.report.document import Block, Picture, Table, Text
from timl.evaluation.report.numbers import number_text

_SCORES = {
    "f1": "F1",
    "iou": "IoU",
    "precision": "precision (user's accuracy)",
    "recall": "recall (producer's accuracy)",
}
"""Scores of a class, and what the table calls them."""
_MACRO = {"f1": "macro_f1", "iou": "mean_iou", "recall": "balanced_accuracy"}
"""Scores over all classes that are the mean of a score of each."""


def class_blocks(validation: CropTypeValidation, colours: Sequence[str]) -> list[Block]:
    """Return what a report shows of the cross-validated scores of several classes.

    Parameters
    ----------
    validation
        The scores, with intervals.
    colours
        Colour of each class, as #rrggbb: those of the map.
    """
    scores = validation.class_scores
    blocks: list[Block] = [
        _bars(validation, colours),
        _matrix(scores, colours),
        _table(validation),
        _counts(scores),
    ]
    groups = scores.by_group()
    if 1 < len(groups.classes) < len(scores.classes):
        blocks.append(_groups(groups))
    return blocks


def _bars(validation: CropTypeValidation, colours: Sequence[str]) -> Picture:
    names = validation.class_scores.classes
    shown = {
        _SCORES[score]: [validation.of_classes[name][score] for name in names]
        for score in ("f1", "iou")
    }
    best = max(names, key=lambda name: validation.of_classes[name]["f1"].value)
    worst = min(names, key=lambda name: validation.of_classes[name]["f1"].value)
    return Picture(
        "classes",
        drawings.class_bars(names, shown, colours),
        f"F1 and IoU of each class; the numbers are in the table below. The best F1 has {best}, "
        f"the worst {worst}.",
        f"F1 and, paler, IoU of each class in the colours of the map, with "
        f"{100 * validation.level:g}% intervals.",
    )


def _matrix(scores: ClassScores, colours: Sequence[str]) -> Picture:
    return Picture(
        "confusion",
        drawings.confusion(scores.classes, scores.counts, colours),
        "Confusion matrix; the counts are in the table below.",
        "What the points of each class were taken for: percent of each row.",
    )


def _table(validation: CropTypeValidation) -> Table:
    scores = validation.class_scores
    rows = [
        [name, str(size), *(_interval(validation.of_classes[name][score]) for score in _SCORES)]
        for name, size in zip(scores.classes, scores.support, strict=True)
    ]
    means = scores.to_frame()
    rows.append(
        [
            "macro mean",
            str(scores.samples),
            *(
                _interval(validation.scores[_MACRO[score]])
                if score in _MACRO
                else number_text(means.loc["macro mean", score])
                for score in _SCORES
            ),
        ]
    )
    weighted = [number_text(means.loc["weighted mean", score]) for score in _SCORES]
    rows.append(["weighted mean", str(scores.samples), *weighted])
    folds = validation.folds
    return Table(
        f"{scores.samples} points in {int(folds.blocks.max()) + 1} blocks of {folds.block_km:g} "
        f"km; each block is scored by a classifier trained on others, at least "
        f"{folds.distance_km:g} km away. In brackets {100 * validation.level:g}% intervals over "
        f"blocks. The macro mean counts each class once, the weighted mean each point.",
        ["class", "points", *_SCORES.values()],
        rows,
    )


def _counts(scores: ClassScores) -> Table:
    """Return the confusion matrix in numbers, with user's and producer's accuracy at its edges."""
    rows = [
        [name, *map(str, counts), number_text(recall)]
        for name, counts, recall in zip(scores.classes, scores.counts, scores.recall, strict=True)
    ]
    users = [number_text(value) for value in scores.precision]
    rows.append(["user's accuracy", *users, number_text(scores.overall_accuracy)])
    return Table(
        "Confusion matrix: a row for the points of each class, a column for what they were taken "
        "for. The last number is the overall accuracy.",
        ["class", *scores.classes, "producer's accuracy"],
        rows,
    )


def _groups(groups: ClassScores) -> Table:
    """Return the scores of FAO classes, within which confusion is no mistake."""
    table = groups.to_frame()
    rows = [
        [name.replace("_", " "), str(int(row["support"])), *(number_text(row[s]) for s in _SCORES)]
        for name, row in zip(table.index, table.to_dict("records"), strict=True)
    ]
    rest = " Classes without a known FAO class are one group." if NOT_KNOWN in table.index else ""
    return Table(
        f"FAO classes: what is confused within one is no mistake here. Overall accuracy "
        f"{number_text(groups.overall_accuracy)}.{rest}",
        ["FAO class", "points", *_SCORES.values()],
        rows,
    )


def _interval(interval: Interval) -> str:
    """Return a score with its interval: "0.812 (0.701 to 0.903)"."""
    value, low, high = map(number_text, interval)
    return f"{value} ({low} to {high})" if low != "none" else value


SHARES = Text(
    "All but recall depend on the shares of the classes among the points: they are those of the "
    "map only if the points were drawn at random from it.",
    kind="faint",
)
"""What a reader of such scores must know."""
