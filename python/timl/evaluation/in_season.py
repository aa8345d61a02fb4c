"""Scores in season: how well crops are told apart as a function of the last month seen."""

from __future__ import annotations

import dataclasses
import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from timl.data import BenchmarkTask, TestInstance
from timl.data.regions.splits import derived_seed, split_in_space
from timl.evaluation.cross_validation.folds import require_two_classes
from timl.evaluation.few_shot.tasks import FewShotTask, places_of
from timl.evaluation.plotting import COLOURS, require_matplotlib
from timl.evaluation.runner import provenance
from timl.evaluation.scores import evaluate
from timl.files import atomic_write
from timl.meta import finetune
from timl.meta.finetuning import Protocol, chosen_kernel
from timl.nn import TIML, Classifier, DeepKernel, Device, checked_device
from timl.normalization import normalization_of
from timl.text import drawn

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""Names of the calendar months."""

_SCORES = ("auc_roc", "f1", "average_precision", "brier")
_LEAST = 5
"""Positives, and negatives, of each half of a task that is divided."""


class InSeasonTask(BenchmarkTask):
    """An evaluation task whose series end after some months: what comes later is missing.

    `timl.finetune` adapts a model to those months alone, and `timl.evaluate` scores on them.

    Parameters
    ----------
    whole
        Task with whole series.
    months
        Number of months that are seen, from the first. The later ones are NaN.
    completed_by
        Deep kernel that completes the later months, for the paper's protocol, whose classifiers
        take no NaN; see `timl.nn.DeepKernel.complete`.
    """

    def __init__(
        self, whole: BenchmarkTask, months: int, completed_by: DeepKernel | None = None
    ) -> None:
        self.name, self.task, self.data = whole.name, whole.task, whole.data
        self.whole_region = whole.whole_region
        self.positives, self.negatives = whole.positives, whole.negatives
        self.months = months
        self._whole, self._kernel = whole, completed_by

    @property
    def test(self) -> TestInstance:
        """Test set of the task, its series seen likewise."""
        test = self._whole.test
        return dataclasses.replace(test, x=self._completed(self._seen(test.x)))

    def _arrays(
        self, positives: NDArray[np.int64], negatives: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        x, y = super()._arrays(positives, negatives)
        return self._completed(self._seen(x)), y

    def _seen(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return series [n, T, 18] with NaN in the months after those seen."""
        seen: NDArray[np.float32] = x.copy()
        seen[:, self.months :] = np.nan
        return seen

    def _completed(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return series [n, T, 18] completed around the mean of the labelled ones, if they are."""
        if self._kernel is None:
            return x
        labelled, _ = super()._arrays(self.positives, self.negatives)
        return self._kernel.complete(x, self._kernel.task_mean(self._seen(labelled)))


@dataclass(frozen=True)
class InSeasonCell:
    """Scores with one last month, in one division of the task."""

    months: int
    """Number of months seen."""
    division: int
    auc_roc: float
    f1: float
    average_precision: float
    brier: float
    labels: int
    """Samples that the model was fine-tuned on."""
    test_samples: int
    """Labelled samples that were scored."""


@dataclass(frozen=True, repr=False)
class InSeason:
    """Scores of a task as a function of the last month seen; made by `timl.in_season`."""

    task: str
    """Name of the task."""
    first_month: int | None
    """Calendar month of the first step of a series, 1 to 12, where it is known."""
    cells: tuple[InSeasonCell, ...]
    """Scores of every month and division."""
    provenance: dict[str, Any]
    """Settings, versions and data."""

    def __repr__(self) -> str:
        months = sorted({cell.months for cell in self.cells})
        divisions = len({cell.division for cell in self.cells})
        return f"InSeason({self.task!r}, months {months}, {divisions} divisions)"

    def _repr_html_(self) -> str:
        table = self.to_frame().to_html(index=False, float_format="{:.3f}".format)
        return f"<p>{html.escape(repr(self))}</p>{table}"

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each number of months seen, ascending: means over the divisions.

        Returns
        -------
        DataFrame
            Columns months (seen, from the first), last_month (its name; None where the first month
            is not known), auc_roc, f1 (at 0.5), average_precision, brier, labels, test_samples, and
            divisions, over which these six are averaged.
        """
        import pandas as pd

        cells = pd.DataFrame([dataclasses.asdict(cell) for cell in self.cells])
        grouped = cells.groupby("months")
        table = grouped[[*_SCORES, "labels", "test_samples"]].mean()
        table["divisions"] = grouped.size()
        table = table.reset_index()
        table.insert(1, "last_month", [self._name(months) for months in table["months"]])
        return table

    def to_markdown(self) -> str:
        """Return the table of AUC ROC and F1 in Markdown."""
        lines = ["| last month seen | AUC ROC | F1 |", "|---|---:|---:|"]
        for row in self.to_frame().itertuples():
            last = row.months if row.last_month is None else f"{row.months} ({row.last_month})"
            lines.append(f"| {last} | {row.auc_roc:.3f} | {row.f1:.3f} |")
        return "\n".join(lines) + "\n"

    def plot(self) -> Figure:
        """Draw AUC ROC and F1 against the last month seen, with bands of the divisions' range.

        Raises
        ------
        ImportError
            If matplotlib is not installed (the extra ``timl[plot]``).
        """
        require_matplotlib("the plot needs")
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 4.2), layout="constrained", dpi=110)
        axes = figure.add_subplot()
        table = self.to_frame()
        months = table["months"].to_list()
        for colour, marker, score, title in (
            (COLOURS[0], "o", "auc_roc", "AUC ROC"),
            (COLOURS[1], "s", "f1", "F1"),
        ):
            axes.plot(months, table[score], marker=marker, color=colour, label=title)
            if table["divisions"].max() > 1:
                found = [[getattr(c, score) for c in self.cells if c.months == m] for m in months]
                low, high = [min(values) for values in found], [max(values) for values in found]
                axes.fill_between(months, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set_xticks(months, [self._name(m) or str(m) for m in months])
        axes.set(xlabel="last month seen", ylabel="score", ylim=(None, 1.0), title=drawn(self.task))
        axes.grid(axis="y", alpha=0.3)
        axes.legend(loc="lower right", frameon=False)
        return figure

    def save(self, folder: str | Path) -> None:
        """Write in-season.csv, in-season.md and in-season.json into a folder, made where needed.

        Where matplotlib is installed in-season.png is written too.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        described = {"task": self.task, "first_month": self.first_month, **self.provenance}
        described["cells"] = [dataclasses.asdict(cell) for cell in self.cells]
        with (
            atomic_write(folder / "in-season.csv", "w") as table,
            atomic_write(folder / "in-season.md", "w") as markdown,
            atomic_write(folder / "in-season.json", "w") as file,
        ):
            self.to_frame().to_csv(table, index=False)
            markdown.write(self.to_markdown())
            file.write(json.dumps(described, indent=2) + "\n")
        try:
            figure = self.plot()
        except ImportError:
            return
        with atomic_write(folder / "in-season.png") as picture:
            figure.savefig(picture, format="png")

    def _name(self, months: int) -> str | None:
        """Return the name of the last of so many months, None where the first is not known."""
        if self.first_month is None:
            return None
        return MONTHS[(self.first_month + months - 2) % len(MONTHS)]


def in_season(
    model: TIML | Classifier | DeepKernel,
    benchmark: BenchmarkTask,
    months: Sequence[int] | None = None,
    *,
    protocol: Protocol | None = None,
    first_month: int | None = None,
    draws: int = 3,
    seed: int = 0,
    device: Device | None = None,
) -> InSeason:
    """Score a task as a function of the last month seen: what a map made in June would be worth.

    For each number of months the later ones are taken away from labelled and test series alike,
    completed by the model's deep kernel (see `timl.nn.DeepKernel.complete`), and the model is
    adapted and scored on them. A task with a test set is scored on it. Another is divided in space
    into halves of whole blocks at least 2 km apart (see `split_in_space`); each half is scored by
    the model that was adapted to the other.

    Parameters
    ----------
    model
        A model with a deep kernel, or a deep kernel alone.
    benchmark
        Evaluation task with whole series.
    months
        Numbers of months that are seen, from the first of a series. By default from 1 to all.
    protocol
        Strong or the paper's, as of `timl.finetune`. None: strong where the model has a deep
        kernel.
    first_month
        Calendar month of the first step of a series, 1 to 12, for the names of months in table and
        plot. By default that in which all series of the data start, if there is such a one.
    draws
        Divisions into halves, where the task has no test set.
    seed
        Seed of adaptation and divisions.
    device
        Device that classifiers are adapted and scored on, as of `timl.finetune`. None: the model's.

    Raises
    ------
    ValueError
        If the model has no deep kernel, an argument is out of range, the task has no test set and
        cannot be divided in space, or there is no such device.
    """
    strong = chosen_kernel(model, protocol, {})
    kernel = model.deep_kernel if strong is None and isinstance(model, TIML) else strong
    if kernel is None:
        raise ValueError(
            f"model is a {type(model).__name__} without deep kernel, which completes the months "
            f"that are not seen: give a model that timl.meta_train made, or set model.deep_kernel "
            f"= timl.meta.learn_deep_kernel(tasks)"
        )
    wanted = list(range(1, kernel.steps + 1)) if months is None else sorted(set(months))
    if not wanted or not 1 <= wanted[0] <= wanted[-1] <= kernel.steps:
        raise ValueError(f"months is {months}: give numbers from 1 to {kernel.steps}")
    if first_month not in (None, *range(1, len(MONTHS) + 1)):
        raise ValueError(f"first_month is {first_month}: give a number from 1 to 12, or None")
    require_two_classes(benchmark)
    if draws < 1:
        raise ValueError(f"draws is {draws}: give at least 1")
    known = normalization_of(benchmark.data).get("start_months", [])
    if first_month is None and len(known) == 1:
        first_month = known[0]
    settings = {"protocol": protocol, "draws": draws, "seed": seed, "months": wanted}
    place = {} if device is None else {"device": str(checked_device(device))}
    described = provenance(benchmark.data, settings | place)
    cells = []
    for number, division in enumerate(_divisions(benchmark, draws, seed)):
        for count in wanted:
            seen = InSeasonTask(division, count, None if strong is not None else kernel)
            adapted = finetune(model, seen, protocol=protocol, seed=seed, device=device)
            scores = evaluate(adapted, seen)
            cells.append(
                InSeasonCell(
                    months=count,
                    division=number,
                    auc_roc=scores.auc_roc,
                    f1=scores.f1,
                    average_precision=scores.average_precision,
                    brier=scores.brier,
                    labels=len(seen.positives) + len(seen.negatives),
                    test_samples=scores.samples,
                )
            )
    return InSeason(benchmark.name, first_month, tuple(cells), described)


def _divisions(benchmark: BenchmarkTask, draws: int, seed: int) -> Iterator[BenchmarkTask]:
    """Yield the task itself where it has a test set, else its halves in space, each way round."""
    try:
        len(benchmark.test)
    except FileNotFoundError:
        yield from _halves(benchmark, draws, seed)
    else:
        yield benchmark


def _halves(benchmark: BenchmarkTask, draws: int, seed: int) -> Iterator[FewShotTask]:
    positions = np.concatenate([benchmark.positives, benchmark.unique_negatives])
    positive = np.arange(len(positions)) < len(benchmark.positives)
    lat, lon = places_of(benchmark.data)[positions].T
    for draw in range(draws):
        own = derived_seed(seed, benchmark.name, draw)
        split = split_in_space(lat, lon, positive, seed=own, least_train=_LEAST, least_test=_LEAST)
        if split is None:
            raise ValueError(
                f"benchmark {benchmark.name!r} has no test set, and its {positive.sum()} positives "
                f"and {(~positive).sum()} negatives cannot be divided into halves 2 km apart with "
                f"{_LEAST} of each: give more places, or some as a test set"
            )
        halves = [
            tuple(positions[part[positive[part] == side]] for side in (True, False))
            for part in (split.train, split.test)
        ]
        for (p, n), (test_p, test_n) in (halves, halves[::-1]):
            yield FewShotTask(
                benchmark.data, benchmark.task, (p, n), (test_p, test_n), own, split.distance_km
            )
