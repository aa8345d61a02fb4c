"""Scores of several classes: of each class, their means, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from timl.arrays import class_labels
from timl.crop_classes import CLASSES
from timl.evaluation.plotting import require_matplotlib
from timl.text import drawn, markdown_cell

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NOT_KNOWN = "not known"
"""Group of the classes whose FAO class is not known."""
TITLES = {"iou": "IoU", "recall": "accuracy", "precision": "precision", "f1": "F1"}
"""Scores of a class, and what tables call them: a class's accuracy is its recall."""


@dataclass(frozen=True, eq=False, repr=False)
class ClassScores:
    """Scores of several classes, from their confusion matrix.

    A class without samples has no scores, NaN, and does not count in means; what is taken for it
    wrongly counts against the classes that the samples are of. A class that nothing was taken for
    has a precision of 0.

    Parameters
    ----------
    classes
        Names of the K classes.
    counts : int64 array of shape [K, K]
        Numbers of samples: row i is of samples of class i, column j of those taken for class j.
    classification_labels
        FAO class of each class, None where it is not known.
    """

    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    classification_labels: tuple[str | None, ...]

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(self.counts.sum())

    @property
    def support(self) -> NDArray[np.int64]:
        """Number of samples of each class, [K]."""
        return np.asarray(self.counts.sum(axis=1))

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of right ones among those taken for each class: user's accuracy, [K]."""
        return self._measures["precision"]

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of right ones among those of each class: producer's accuracy, [K]."""
        return self._measures["recall"]

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and recall of each class, [K]."""
        return self._measures["f1"]

    @property
    def iou(self) -> NDArray[np.float64]:
        """Right ones over those that are of each class or were taken for it, [K]."""
        return self._measures["iou"]

    @property
    def overall_accuracy(self) -> float:
        """Share of right samples."""
        return float(self._measures["overall_accuracy"])

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes."""
        return float(self._measures["balanced_accuracy"])

    @property
    def mean_iou(self) -> float:
        """Mean IoU of the classes."""
        return float(self._measures["mean_iou"])

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes."""
        return float(self._measures["macro_f1"])

    @property
    def confusion(self) -> pd.DataFrame:
        """Table of the counts: a row per class of the samples, a column per class taken."""
        import pandas as pd

        return pd.DataFrame(
            self.counts,
            index=pd.Index(self.classes, name="class"),
            columns=pd.Index(self.classes, name="taken for"),
        )

    def by_group(self) -> ClassScores:
        """Return the scores of top-level groups: confusion within an FAO class is no mistake.

        Classes whose FAO class is not known are one group, the last.
        """
        of = [NOT_KNOWN if kind is None else kind for kind in self.classification_labels]
        groups = tuple(sorted(set(of), key=(*CLASSES, "crop", NOT_KNOWN).index))
        member = np.array([[kind == group for kind in of] for group in groups], np.int64)
        kinds = tuple(None if group == NOT_KNOWN else group for group in groups)
        return ClassScores(groups, member @ self.counts @ member.T, kinds)

    def to_frame(self) -> pd.DataFrame:
        """Return a table with a row per class, and rows of their macro and weighted means.

        Its columns are precision, recall, f1, iou and support. The weighted means weigh each class
        by its samples.
        """
        import pandas as pd

        table = pd.DataFrame(
            {score: self._measures[score] for score in ("precision", "recall", "f1", "iou")},
            index=pd.Index(self.classes, name="class"),
        )
        macro = table.mean()
        weighted = table.mul(self.support, axis=0).sum() / self.samples
        table["support"] = self.support
        for name, values in (("macro mean", macro), ("weighted mean", weighted)):
            table.loc[name] = [*values, self.samples]
        return table.astype({"support": np.int64})

    def to_markdown(self) -> str:
        """Return the table of IoU and accuracy per class, with means, in Markdown."""
        lines = [
            f"| class | {' | '.join(TITLES.values())} | samples |",
            f"|---|{'---:|' * (len(TITLES) + 1)}",
        ]
        table = self.to_frame()
        for name, row in zip(table.index, table.to_dict("records"), strict=True):
            shown = " | ".join(_text(row[score]) for score in TITLES)
            lines.append(f"| {markdown_cell(name)} | {shown} | {int(row['support'])} |")
        return "\n".join([*lines, "", f"All classes: {self._overall()}."]) + "\n"

    def to_model_card(self) -> str:
        """Return IoU and accuracy per class, and their means, as model cards of segmentation do.

        That is the table of the published models of multi-temporal crop segmentation: aAcc is the
        overall accuracy, mIoU and mAcc are means of the classes that have samples.
        """
        lines = ["| Classes | IoU | Acc |", "|:---|:---:|:---:|"]
        for name, iou, accuracy in zip(self.classes, self.iou, self.recall, strict=True):
            shown = f"{_text(iou, '.4f')} | {_text(accuracy, '.2%')}"
            lines.append(f"| {markdown_cell(name)} | {shown} |")
        means = f"{self.overall_accuracy:.2%} | {self.mean_iou:.4f} | {self.balanced_accuracy:.2%}"
        lines += ["", "| aAcc | mIoU | mAcc |", "|:---:|:---:|:---:|", f"| {means} |"]
        return "\n".join(lines) + "\n"

    def plot(self) -> Figure:
        """Draw the confusion matrix: each row's shares, of samples of one class.

        Raises
        ------
        ImportError
            If matplotlib is not installed (the extra ``timl[plot]``).
        """
        require_matplotlib("the plot needs")
        from matplotlib.figure import Figure
        from sklearn.metrics import ConfusionMatrixDisplay

        count = len(self.classes)
        side = 2.4 + 0.5 * count
        figure = Figure(figsize=(side + 1, side), layout="constrained", dpi=110)
        axes = figure.add_subplot()
        shares = self.counts / np.maximum(self.support, 1)[:, None]
        display = ConfusionMatrixDisplay(shares, display_labels=[drawn(c) for c in self.classes])
        display.plot(
            ax=axes,
            cmap="Blues",
            values_format=".2f",
            xticks_rotation="vertical",
            im_kw={"vmin": 0, "vmax": 1},
        )
        display.im_.colorbar.set_label("share of the class's samples")
        axes.set(xlabel="taken for", ylabel="class")
        return figure

    def __repr__(self) -> str:
        return f"ClassScores({len(self.classes)} classes: {self._overall()})"

    def _repr_html_(self) -> str:
        table = self.to_frame().to_html(float_format="{:.3f}".format, na_rep="")
        return f"<p>{self._overall()}</p>{table}"

    def _overall(self) -> str:
        return (
            f"overall accuracy {self.overall_accuracy:.3f}, balanced accuracy "
            f"{self.balanced_accuracy:.3f}, mean IoU {self.mean_iou:.3f} on {self.samples} samples"
        )

    @property
    def _measures(self) -> dict[str, NDArray[np.float64]]:
        counts = self.counts.astype(np.float64)
        return measures(counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0))


def class_scores(
    truth: ArrayLike,
    predicted: ArrayLike,
    classes: Sequence[str],
    *,
    classification_labels: Sequence[str | None] | None = None,
) -> ClassScores:
    """Score classes that samples were taken for.

    Parameters
    ----------
    truth : integer array of shape [n]
        Class of each sample, 0 to K - 1; -1 where it is not known: such a sample does not count.
    predicted : integer array of shape [n]
        Class that each was taken for, 0 to K - 1.
    classes
        Names of the K classes.
    classification_labels
        FAO class of each class; by default none is known.

    Raises
    ------
    TypeError, ValueError
        If shapes do not fit, a number is out of range, or no sample has a class.
    """
    from sklearn.metrics import confusion_matrix

    count = len(classes)
    kinds = (None,) * count if classification_labels is None else tuple(classification_labels)
    if len(kinds) != count or not set(kinds) <= {None, "crop", *CLASSES}:
        raise ValueError(
            f"classification_labels is {list(kinds)} for {count} classes: give one of "
            f"{', '.join(CLASSES)}, or None, for each"
        )
    known = np.asarray(truth)
    given = np.asarray(predicted)
    if known.ndim != 1 or given.shape != known.shape:
        raise ValueError(
            f"truth has shape {list(known.shape)}, predicted {list(given.shape)}: give [n] both"
        )
    counted = known != -1
    if not counted.any():
        raise ValueError(f"truth is of {len(known)} samples without a class: give some that have")
    counts = confusion_matrix(
        class_labels(known[counted], "truth", count),
        class_labels(given[counted], "predicted", count),
        labels=np.arange(count),
    )
    return ClassScores(tuple(classes), counts.astype(np.int64), kinds)


def measures(
    right: NDArray[np.float64], are: NDArray[np.float64], taken: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Compute all scores from weights of samples, for one matrix or many resamples of it.

    Parameters
    ----------
    right, are, taken : float64 arrays of shape [..., K]
        Weight of the samples of each class that were taken for it, of those that are of it, and of
        those that were taken for it.

    Returns
    -------
    dict
        Scores of the classes, [..., K]: precision, recall, f1, iou; and over them, [...]:
        overall_accuracy, balanced_accuracy, mean_iou, macro_f1. NaN where nothing is scored.
    """
    there = are > 0
    of_class = {
        name: np.where(there, right * factor / np.where(below > 0, below, 1), np.nan)
        for name, factor, below in (
            ("precision", 1, taken),
            ("recall", 1, are),
            ("f1", 2, are + taken),
            ("iou", 1, are + taken - right),
        )
    }
    number, total = there.sum(axis=-1), are.sum(axis=-1)
    means = {
        name: np.nansum(of_class[score], axis=-1) / np.where(number, number, np.nan)
        for name, score in (
            ("balanced_accuracy", "recall"),
            ("mean_iou", "iou"),
            ("macro_f1", "f1"),
        )
    }
    overall = right.sum(axis=-1) / np.where(total > 0, total, np.nan)
    return {**of_class, "overall_accuracy": overall, **means}


def _text(value: float, form: str = ".3f") -> str:
    """Return a score for a table, "none" where there is none."""
    return "none" if np.isnan(value) else format(value, form)
