"""From labelled places and exports to a map, in one call."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from timl.area.class_map import open_map
from timl.data.own.points import OwnPoints
from timl.data.sources.source import SourceLike
from timl.evaluation.cross_validation import (
    CrossValidation,
    LearningCurve,
    cross_validate,
    learning_curve,
)
from timl.evaluation.prevalence import at_prevalence, given_prevalence
from timl.files import atomic_write, output_folder
from timl.maps.points_map import PointsMap
from timl.maps.predict import predict_map
from timl.maps.report import write_report
from timl.meta import finetune, finetune_ensemble
from timl.meta.finetuning import Protocol
from timl.nn import TIML, Classifier, DeepKernel, StrongClassifier

if TYPE_CHECKING:
    import pandas as pd


def map_points(
    model: TIML | Classifier | DeepKernel,
    points: OwnPoints,
    exports: SourceLike,
    out: str | Path,
    *,
    protocol: Protocol | None = None,
    members: int = 5,
    block_km: float = 3.0,
    prevalence: float | None = None,
    threshold: float | None = None,
    any_month: bool = False,
    vrt_within: str | Path | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> PointsMap:
    """Fine-tune on labelled places, validate over blocks, and map exports with a report.

    A call that was stopped goes on when it is given again.

    Parameters
    ----------
    model
        Meta-trained model.
    points
        Labelled places, of `timl.data.own_points`.
    exports
        What is mapped, see `timl.predict_map`.
    out
        Folder for map.tif, map.png, map.html, map.json, report.html, scores.csv,
        learning-curve.csv and the folder classifier.
    protocol
        As of `timl.finetune`.
    members
        Members of the ensemble whose spread is the uncertainty; 0: none. Each takes as long as the
        map itself.
    block_km
        Edge of the blocks of cross-validation.
    prevalence
        Share of the positive class that the map's probabilities are stated for; logits are then
        calibrated first.
    threshold
        Probability from which on a pixel is of the class; by default the best of cross-validation,
        or 0.5 where a prevalence is stated or nothing could be validated.
    any_month, vrt_within
        As of `timl.predict_map`.
    seed
        Seed of everything.
    workers, progress
        As of `timl.predict_map`.

    Raises
    ------
    ValueError, OSError, ImportError
        As of `timl.finetune` and `timl.predict_map`.

    Warns
    -----
    UserWarning
        If the points lie too close together to be divided: there is no accuracy then, and the
        threshold is 0.5.
    """
    if not 0 < block_km < math.inf:
        raise ValueError(f"block_km is {block_km}: give a finite number of kilometres above 0")
    with output_folder(out) as folder:
        validation, curve, reason = _validate(model, points, protocol, block_km, seed)
        classifier = finetune(model, points, protocol=protocol, seed=seed)
        classifier.save_pretrained(folder / "classifier")
        ensemble = []
        if members:
            ensemble = finetune_ensemble(model, points, members, protocol=protocol, seed=seed)
        calibration = None
        if validation is not None and prevalence is not None:
            calibration = validation.calibrate()
        if threshold is None and validation is not None and prevalence is None:
            threshold = _as_given(validation.choose_threshold(), classifier)
        threshold = 0.5 if threshold is None else threshold
        table = shown_points(points)
        files = predict_map(
            classifier,
            exports,
            folder / "map.tif",
            ensemble=ensemble,
            threshold=threshold,
            calibration=calibration,
            prevalence=prevalence,
            any_month=any_month,
            vrt_within=vrt_within,
            target=points.task.target_label,
            points=table,
            workers=workers,
            progress=progress,
        )
        with open_map(files.map) as opened:
            _, hectares = opened.class_sizes()
        if validation is not None and curve is not None:
            with atomic_write(folder / "scores.csv", "w") as file:
                validation.to_frame().to_csv(file, lineterminator="\n")
            with atomic_write(folder / "learning-curve.csv", "w") as file:
                curve.to_frame().to_csv(file, index=False, lineterminator="\n")
        made = PointsMap(
            classifier, files, folder / "report.html", threshold, validation, curve, hectares
        )
        write_report(made, points, reason)
    return made


def _as_given(threshold: float, classifier: Classifier | StrongClassifier) -> float:
    """Return a threshold for even classes as one for a classifier's own probabilities.

    Logits of a cross-validation are for even classes, those of a map are the classifier's own.
    """
    logit = at_prevalence(math.log(threshold / (1 - threshold)), given_prevalence(classifier))
    return float(1 / (1 + np.exp(-logit)))


def shown_points(points: OwnPoints) -> pd.DataFrame:
    """Return the places of a task as `predict_map` shows them: lat, lon, label 1 or 0, name."""
    from timl.data.tasks.task import has_label

    labels = points.data.labels
    return labels[["lat", "lon"]].assign(
        label=has_label(labels, points.task.target_label).astype(int),
        name=labels["label"].fillna("").astype(str),
    )


def _validate(
    model: TIML | Classifier | DeepKernel,
    points: OwnPoints,
    protocol: Protocol | None,
    block_km: float,
    seed: int,
) -> tuple[CrossValidation | None, LearningCurve | None, str]:
    """Return scores and learning curve, or why there are none."""
    try:
        validation = cross_validate(model, points, block_km=block_km, protocol=protocol, seed=seed)
        with warnings.catch_warnings():  # the same as the line before gave
            warnings.simplefilter("ignore")
            curve = learning_curve(model, points, block_km=block_km, protocol=protocol, seed=seed)
    except ValueError as error:
        warnings.warn(
            f"the points cannot be divided, so that there is no accuracy: {error}", stacklevel=3
        )
        return None, None, str(error)
    return validation, curve, ""
