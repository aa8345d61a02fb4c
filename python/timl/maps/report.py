"""The report of a map from points: accuracy, what more points would bring, the map, its area."""

from __future__ import annotations

import base64
import io
from importlib import resources

import numpy as np

from timl.data.own.points import OwnPoints
from timl.evaluation.cross_validation import LearningCurve
from timl.evaluation.prevalence import given_prevalence
from timl.files import atomic_write
from timl.maps.drawing.map_file import read_map_file, read_shrunk
from timl.maps.points_map import PointsMap
from timl.version import __version__

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
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    folder = resources.files("timl.maps.drawing") / "templates"
    style = (folder / "report.css").read_text("utf-8")
    template = (folder / "report.html").read_text("utf-8")
    described = read_map_file(made.files.map)
    scores = None
    if made.validation is not None:
        scores = [
            (name, meaning, *(f"{value:.3f}" for value in made.validation.scores[key]))
            for key, (name, meaning) in _SCORES.items()
        ]
    total = sum(made.hectares.values())
    areas = [
        (name, f"{made.hectares.get(number, 0.0):,.1f}", f"{share:.1%}")
        for number, name in ((1, points.task.target_label), (0, "the rest"))
        for share in [made.hectares.get(number, 0.0) / total]
    ]
    text = (
        Environment(autoescape=True, undefined=StrictUndefined)
        .from_string(template)
        .render(
            style=Markup(style),
            target=points.task.target_label,
            map_name=made.files.map.name,
            page_name=made.files.page.name,
            picture=_data_uri(made.files.quicklook.read_bytes()),
            positives=len(np.unique(points.positives)),
            negatives=len(np.unique(points.negatives)),
            unmatched=points.unmatched.to_dict("records"),
            validation=made.validation,
            blocks=None if made.validation is None else int(made.validation.folds.blocks.max()) + 1,
            scores=scores,
            reason=reason,
            curve_picture=None if made.curve is None else _data_uri(_curve_picture(made.curve)),
            hint=None if made.curve is None else made.curve.hint(),
            threshold=made.threshold,
            areas=areas,
            unlike=_unlike_share(made),
            given=given_prevalence(made.classifier),
            origin=[line[0].upper() + line[1:] for line in described.origin],
            version=__version__,
        )
    )
    with atomic_write(made.report, "w") as file:
        file.write(text)


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


def _data_uri(png: bytes) -> str:
    """Return a PNG picture as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
