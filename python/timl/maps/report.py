"""The report of a map from points: accuracy, what more points would bring, the map, its area."""

from __future__ import annotations

import io

import numpy as np

from timl.data.own.points import OwnPoints
from timl.evaluation.cross_validation import CrossValidation, LearningCurve
from timl.evaluation.prevalence import given_prevalence
from timl.evaluation.report.document import Document, Picture, Section, Table, Text
from timl.evaluation.report.numbers import number_text
from timl.files import atomic_write
from timl.maps.drawing.map_file import read_map_file, read_shrunk
from timl.maps.points_map import PointsMap
from timl.version import __version__

_LISTED = 50
"""Most of the points left out that are named."""

_SCORES = {
    "auc_roc": ("AUC ROC", "how well probabilities rank: 0.5 is chance, 1 is perfect"),
    "f1": ("F1", "harmonic mean of user's and producer's accuracy"),
    "overall_accuracy": ("Overall accuracy", "share of points that are right"),
    "users_accuracy": ("User's accuracy", "share right of the points mapped as the class"),
    "producers_accuracy": ("Producer's accuracy", "share found of the points of the class"),
    "brier": ("Brier score", "mean squared error of probabilities: 0 is perfect"),
}


def write_report(made: PointsMap, points: OwnPoints, reason: str) -> None:
    """Write the HTML report of a map, one file that loads nothing.

    Parameters
    ----------
    made
        The map.
    points
        Points that it was made from.
    reason
        Why there is no cross-validation; "" where there is one.
    """
    positives, negatives = len(np.unique(points.positives)), len(np.unique(points.negatives))
    target, validation = points.task.target_label, made.validation
    counts = f"{positives} points of {target} and {negatives} others"
    if validation is None:
        headline, summary = "", f"{counts}."
    else:
        headline, low, high = map(number_text, validation.scores["auc_roc"])
        summary = (
            f"AUC ROC on places that the classifier was not trained on ({low} to {high}, "
            f"{100 * validation.level:g}% interval), from {counts}."
        )
    no_scores = f"No accuracy could be measured: {reason}"
    document = Document(
        title=f"Map of {target}",
        headline=headline,
        summary=summary,
        opening=[] if validation is not None else [Text(no_scores, kind="note")],
        sections=[
            _map(made, target),
            _accuracy(validation, target),
            _more_points(made),
            _area(made, target),
            _left_out(points),
            _origin(made, target),
        ],
    )
    with atomic_write(made.report, "w") as file:
        file.write(document.to_html())


def _map(made: PointsMap, target: str) -> Section:
    picture = Picture(
        "map",
        made.files.quicklook.read_bytes(),
        f"Map of the probability of {target}, with the points",
        "",
        wide=True,
    )
    chosen = ", which cross-validation chose" if made.validation is not None else ""
    threshold = number_text(made.threshold)
    section = Section("map", "The map", [picture])
    section.blocks += [
        Text(f"A pixel counts as {target} from a probability of {threshold} on{chosen}."),
        Text("The map to zoom and to read:", link=made.files.page.name),
        Text("Its data:", link=made.files.map.name),
    ]
    unlike = _unlike_share(made)
    if unlike is not None:
        section.blocks.append(
            Text(
                f"{unlike} of the pixels are unlike anything that the model was trained on or that "
                f"the points show; do not trust the map there."
            )
        )
    return section


def _accuracy(validation: CrossValidation | None, target: str) -> Section:
    section = Section("accuracy", "Accuracy")
    if validation is None:
        return section
    folds = validation.folds
    section.blocks += [
        Table(
            f"{len(validation.labels)} points in {int(folds.blocks.max()) + 1} blocks of "
            f"{folds.block_km:g} km; each block is scored by a classifier trained on others, at "
            f"least {folds.distance_km:g} km away.",
            ["score", "value", "from", "to"],
            [[name, *map(number_text, validation.scores[k])] for k, (name, _) in _SCORES.items()],
            meanings=[meaning for _, meaning in _SCORES.values()],
        ),
        Text(
            f"At a threshold of {validation.threshold:g}. User's and overall accuracy depend on "
            f"the share of {target} among the points: they are those of the map only if the "
            f"points were drawn at random from it.",
            kind="faint",
        ),
    ]
    return section


def _more_points(made: PointsMap) -> Section:
    section = Section("more-points", "More points?")
    if made.curve is not None:
        hint = made.curve.hint()
        picture = Picture("curve", _curve_picture(made.curve), "AUC ROC by number of labels", hint)
        section.blocks.append(picture)
    return section


def _area(made: PointsMap, target: str) -> Section:
    total = sum(made.hectares.values())
    rows = [
        [name, f"{hectares:,.1f}", f"{hectares / total:.1%}"]
        for number, name in ((1, target), (0, "the rest"))
        for hectares in [made.hectares.get(number, 0.0)]
    ]
    name = made.files.map.name
    commands = (
        f"timl sample --map {name} --out sample --standard-error 0.03\n"
        f"timl area --map {name} --reference sample/sample.csv"
    )
    return Section(
        "area",
        "Area",
        [
            Table("Pixels counted on the map.", ["class", "hectares", "share"], rows),
            Text(
                "Counting pixels is a biased estimate of an area: errors of the map do not cancel "
                "out, and it has no interval. For figures to be published draw a reference sample "
                "of this map, let it be visited or interpreted, and estimate the area from it:",
                kind="note",
            ),
            Text(commands, kind="command"),
        ],
    )


def _left_out(points: OwnPoints) -> Section:
    section = Section("left-out", "Points left out")
    rows = [
        [str(row["row"]), number_text(row["lat"], 5), number_text(row["lon"], 5), row["reason"]]
        for row in points.unmatched.to_dict("records")
    ]
    if rows:
        more = f", of {len(rows)} the first {_LISTED}" if len(rows) > _LISTED else ""
        header = ["row", "latitude", "longitude", "reason"]
        caption = f"Points that the map was not made from{more}"
        section.blocks.append(Table(caption, header, rows[:_LISTED], wide=True))
    return section


def _origin(made: PointsMap, target: str) -> Section:
    lines = [line[0].upper() + line[1:] for line in read_map_file(made.files.map).origin]
    lines.append(
        f"The probabilities of the classifier are meant for places where "
        f"{100 * given_prevalence(made.classifier):.0f}% of the area is {target}: they are no "
        f"shares elsewhere, unless a prevalence was stated. timl {__version__}."
    )
    return Section("origin", "How it was made", [Text(line, kind="faint") for line in lines])


def _unlike_share(made: PointsMap) -> str | None:
    """Return the share of pixels unlike the training, None where the map does not tell."""
    _, _, bands = read_shrunk(made.files.map, 1024)
    if "unlike" not in bands:
        return None
    distance = bands["unlike"]
    present = np.isfinite(distance)
    return f"{(distance[present] > 1).mean():.1%}" if present.any() else None


def _curve_picture(curve: LearningCurve) -> bytes:
    """Return the learning curve as a PNG picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.0), dpi=150, layout="constrained")
    axes = figure.subplots()
    frame = curve.to_frame()
    axes.fill_between(frame["labels"], frame["low"], frame["high"], color="#0072b2", alpha=0.15)
    axes.plot(frame["labels"], frame["auc_roc"], color="#0072b2", marker="o")
    more = np.linspace(0, curve.labels[-1], 20)
    ahead = [curve.after(float(n)).value for n in more]
    axes.plot(curve.labels[-1] + more, ahead, color="#0072b2", linestyle=":", label="extrapolated")
    axes.set_xlabel("labels trained on")
    axes.set_ylabel("AUC ROC")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
