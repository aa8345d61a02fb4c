"""The report of a map from points: accuracy, what more points would bring, the map, its area."""

from __future__ import annotations

import io
import math

import numpy as np

from timl.data.own.crop_types import OwnCropTypes
from timl.data.own.points import OwnPoints
from timl.evaluation.cross_validation import CropTypeValidation, CrossValidation, LearningCurve
from timl.evaluation.prevalence import at_prevalence, given_prevalence
from timl.evaluation.report.classes import SHARES, class_blocks
from timl.evaluation.report.document import Document, Picture, Section, Table, Text
from timl.evaluation.report.numbers import number_text
from timl.files import atomic_write
from timl.maps.drawing.legend import CLASS_COLOURS
from timl.maps.drawing.map_file import read_map_file, read_shrunk
from timl.maps.points_map import PointsMap
from timl.maps.predict import CROP_TYPES

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


def write_report(made: PointsMap, points: OwnPoints | OwnCropTypes, reason: str) -> None:
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
    validation, counts = made.validation, _counts_text(points)
    headline, summary = "", f"{counts}."
    if validation is not None:
        score = "macro_f1" if isinstance(validation, CropTypeValidation) else "auc_roc"
        headline, low, high = map(number_text, validation.scores[score])
        meaning = "Macro F1, the mean of all classes," if score == "macro_f1" else "AUC ROC"
        summary = (
            f"{meaning} on places that the classifier was not trained on ({low} to {high}, "
            f"{100 * validation.level:g}% interval), from {counts}."
        )
        if isinstance(validation, CropTypeValidation):
            overall, low, high = map(number_text, validation.scores["overall_accuracy"])
            summary += f" Overall accuracy {overall} ({low} to {high})."
    no_scores = f"No accuracy could be measured: {reason}"
    names = _area_names(points)
    document = Document(
        title=f"Map of {_shown(points)}",
        headline=headline,
        summary=summary,
        opening=[] if validation is not None else [Text(no_scores, kind="note")],
        sections=[
            _map(made, points),
            _accuracy(validation, points),
            _more_points(made),
            _area(made, names),
            _left_out(points),
            _origin(made, points),
        ],
    )
    with atomic_write(made.report, "w") as file:
        file.write(document.to_html())


def _shown(points: OwnPoints | OwnCropTypes) -> str:
    """Return what the map shows."""
    return CROP_TYPES if isinstance(points, OwnCropTypes) else points.task.target_label


def _counts_text(points: OwnPoints | OwnCropTypes) -> str:
    """Return how many points there are of what."""
    if isinstance(points, OwnCropTypes):
        return f"{len(points.codes)} points of {len(points.classes)} classes"
    positives, negatives = len(np.unique(points.positives)), len(np.unique(points.negatives))
    return f"{positives} points of {points.task.target_label} and {negatives} others"


def _area_names(points: OwnPoints | OwnCropTypes) -> dict[int, str]:
    """Return the names of the map's classes by number, in the order of the table of areas."""
    if isinstance(points, OwnCropTypes):
        return dict(enumerate(points.classes))
    return {1: points.task.target_label, 0: "the rest"}


def _map(made: PointsMap, points: OwnPoints | OwnCropTypes) -> Section:
    several = isinstance(points, OwnCropTypes)
    of = "most probable class" if several else f"probability of {_shown(points)}"
    picture = Picture(
        "map", made.files.quicklook.read_bytes(), f"Map of the {of}, with the points", "", wide=True
    )
    section = Section("map", "The map", [picture])
    if several:
        section.blocks.append(Text("Each pixel is mapped as its most probable class."))
    else:
        section.blocks.append(Text(_threshold_text(made, _shown(points))))
    section.blocks += [
        Text("The map to zoom and to read:", link=made.files.page.name),
        Text("Its data:", link=made.files.map.name),
    ]
    if made.files.classes is not None:
        alone = Text("The classes alone, with colours for a GIS:", link=made.files.classes.name)
        section.blocks.append(alone)
    unlike = _unlike_share(made)
    if unlike is not None:
        section.blocks.append(
            Text(
                f"{unlike} of the pixels are unlike anything that the model was trained on or that "
                f"the points show; do not trust the map there."
            )
        )
    return section


def _threshold_text(made: PointsMap, target: str) -> str:
    """Return from which probability on a pixel of two classes is of the target."""
    assert made.threshold is not None  # only several classes have none
    text = f"A pixel counts as {target} from a probability of {number_text(made.threshold)} on"
    if read_map_file(made.files.map).prevalence is not None:
        return f"{text}."
    given = given_prevalence(made.classifier)
    logit = float(at_prevalence(math.log(made.threshold / (1 - made.threshold)), 0.5, given))
    even = number_text(1 / (1 + math.exp(-logit)))
    return f"{text}: {even} where as much of the area is {target} as is not."


def _accuracy(
    validation: CrossValidation | CropTypeValidation | None, points: OwnPoints | OwnCropTypes
) -> Section:
    section = Section("accuracy", "Accuracy")
    if isinstance(validation, CropTypeValidation):
        colours = CLASS_COLOURS[: len(validation.of_classes)]
        section.blocks += [*class_blocks(validation, colours), SHARES]
    elif validation is not None:
        folds = validation.folds
        section.blocks += [
            Table(
                f"{len(validation.labels)} points in {int(folds.blocks.max()) + 1} blocks of "
                f"{folds.block_km:g} km; each block is scored by a classifier trained on others, "
                f"at least {folds.distance_km:g} km away.",
                ["score", "value", "from", "to"],
                [
                    [name, *map(number_text, validation.scores[k])]
                    for k, (name, _) in _SCORES.items()
                ],
                meanings=[meaning for _, meaning in _SCORES.values()],
            ),
            Text(
                f"At a threshold of {validation.threshold:g}. User's and overall accuracy depend "
                f"on the share of {_shown(points)} among the points: they are those of the map "
                f"only if the points were drawn at random from it.",
                kind="faint",
            ),
        ]
    return section


def _more_points(made: PointsMap) -> Section:
    section = Section("more-points", "More points?")
    if made.curve is not None:
        hint = made.curve.hint()
        title = f"{made.curve.title} by number of labels"
        picture = Picture("curve", _curve_picture(made.curve), title, hint)
        section.blocks.append(picture)
    return section


def _area(made: PointsMap, names: dict[int, str]) -> Section:
    total = sum(made.hectares.values())
    rows = [
        [name, f"{hectares:,.1f}", f"{hectares / total:.1%}"]
        for number, name in names.items()
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


def _left_out(points: OwnPoints | OwnCropTypes) -> Section:
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


def _origin(made: PointsMap, points: OwnPoints | OwnCropTypes) -> Section:
    lines = read_map_file(made.files.map).origin
    lines = [line if line.startswith("timl") else line[0].upper() + line[1:] for line in lines]
    if isinstance(points, OwnCropTypes):
        meant = "are meant for classes that are equally frequent"
    else:
        share = f"{100 * given_prevalence(made.classifier):.0f}%"
        meant = f"are meant for places where {share} of the area is {points.task.target_label}"
    lines.append(
        f"The probabilities of the classifier {meant}: they are no shares elsewhere, unless a "
        f"prevalence was stated."
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
    axes.plot(frame["labels"], frame[curve.score], color="#0072b2", marker="o")
    more = np.linspace(0, curve.labels[-1], 20)
    ahead = [curve.after(float(n)).value for n in more]
    axes.plot(curve.labels[-1] + more, ahead, color="#0072b2", linestyle=":", label="extrapolated")
    axes.set_xlabel("labels trained on")
    axes.set_ylabel(curve.title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
