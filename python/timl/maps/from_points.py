"""From labelled places and exports to a map, in one call."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from timl.area.class_map import open_map
from timl.data.own.crop_types import OwnCropTypes
from timl.data.own.points import OwnPoints
from timl.data.sources.source import SourceLike
from timl.evaluation.cross_validation import (
    CropTypeValidation,
    CrossValidation,
    LearningCurve,
    cross_validate,
    learning_curve,
)
from timl.evaluation.prevalence import at_prevalence, given_prevalence, logit_line
from timl.files import atomic_write, output_folder
from timl.maps.points_map import PointsMap
from timl.maps.predict import predict_map
from timl.maps.predictor import require_map_classes
from timl.maps.report import write_report
from timl.meta import finetune, finetune_ensemble
from timl.meta.finetuning import Protocol
from timl.nn import TIML, Classifier, DeepKernel, Device, StrongClassifier, on_device
from timl.text import csv_cell

if TYPE_CHECKING:
    import pandas as pd


def map_points(
    model: TIML | Classifier | DeepKernel,
    points: OwnPoints | OwnCropTypes,
    exports: SourceLike,
    out: str | Path,
    *,
    protocol: Protocol | None = None,
    members: int = 5,
    block_km: float = 3.0,
    prevalence: float | Mapping[str, float] | None = None,
    threshold: float | None = None,
    class_probabilities: bool = True,
    any_month: bool = False,
    vrt_within: str | Path | None = None,
    seed: int = 0,
    device: Device | None = None,
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
        Labelled places, of `timl.data.own_points`: of a target and the rest, or of several classes.
    exports
        What is mapped, see `timl.predict_map`.
    out
        Folder for map.tif, map.png, map.html, map.json, report.html, scores.csv,
        learning-curve.csv and the folder classifier; of several classes map.classes.tif and
        confusion.csv too.
    protocol
        As of `timl.finetune`.
    members
        Members of the ensemble whose spread is the uncertainty; 0: none. Each takes as long as the
        map itself.
    block_km
        Edge of the blocks of cross-validation; training places are a third of that away, but at
        most a kilometre.
    prevalence
        Share of the positive class, or of each of several by its name, that the map's probabilities
        are stated for; logits are then calibrated first.
    threshold
        Probability from which on a pixel is of the class; by default the best of cross-validation,
        or 0.5 where a prevalence is stated or nothing could be validated. Of several classes there
        is none: a pixel is mapped as its most probable class.
    class_probabilities
        Whether the map has a band of each of several classes' probability.
    any_month, vrt_within
        As of `timl.predict_map`.
    seed
        Seed of everything.
    device
        Device that models are adapted and predict on, such as "cuda"; `model` stays where it is.
        None: there.
    workers, progress
        As of `timl.predict_map`.

    Raises
    ------
    ValueError, OSError, ImportError
        As of `timl.finetune` and `timl.predict_map`; or if there are more classes than a map can
        show.

    Warns
    -----
    UserWarning
        If the points lie too close together to be divided, or a class has one point alone: there
        is no accuracy then, and the threshold is 0.5.
    """
    if not 0 < block_km < math.inf:
        raise ValueError(f"block_km is {block_km}: give a finite number of kilometres above 0")
    model = on_device(model, device)
    names = points.classes if isinstance(points, OwnCropTypes) else None
    if names is not None:
        require_map_classes(names)
        if threshold is not None:
            raise ValueError(
                f"threshold is {threshold}, and the points are of the classes {', '.join(names)}: "
                f"leave it out; a pixel is mapped as its most probable class"
            )
    with output_folder(out) as folder:
        classifier = finetune(model, points, protocol=protocol, seed=seed)
        logit_line(classifier, prevalence, classes=names)  # a wrong one is an error before the rest
        classifier.save_pretrained(folder / "classifier")
        validation, curve, reason = _validate(model, points, protocol, block_km, seed)
        ensemble = []
        if members:
            ensemble = finetune_ensemble(model, points, members, protocol=protocol, seed=seed)
        calibration = None
        if validation is not None and prevalence is not None:
            calibration = validation.calibrate()
        if isinstance(validation, CrossValidation) and threshold is None and prevalence is None:
            threshold = _as_given(validation.choose_threshold(), classifier)
        threshold = 0.5 if threshold is None else threshold
        files = predict_map(
            classifier,
            exports,
            folder / "map.tif",
            ensemble=ensemble,
            classes=names,
            class_probabilities=class_probabilities,
            threshold=threshold,
            calibration=calibration,
            prevalence=prevalence,
            any_month=any_month,
            vrt_within=vrt_within,
            target=None if isinstance(points, OwnCropTypes) else points.task.target_label,
            points=shown_points(points),
            workers=workers,
            progress=progress,
        )
        with open_map(files.map) as opened:
            _, hectares = opened.class_sizes()
        if validation is not None and curve is not None:
            _write_scores(folder, validation, curve)
        made = PointsMap(
            classifier,
            files,
            folder / "report.html",
            threshold if names is None else None,
            validation,
            curve,
            hectares,
        )
        write_report(made, points, reason)
    return made


def _as_given(threshold: float, classifier: Classifier | StrongClassifier) -> float:
    """Return a threshold for even classes as one for a classifier's own probabilities.

    Logits of a cross-validation are for even classes, those of a map are the classifier's own.
    """
    logit = at_prevalence(math.log(threshold / (1 - threshold)), given_prevalence(classifier))
    return float(1 / (1 + np.exp(-logit)))


def shown_points(points: OwnPoints | OwnCropTypes) -> pd.DataFrame:
    """Return the places of a task as `predict_map` shows them: lat, lon, label and name.

    The label is 1 or 0, of several classes the name of the class.
    """
    from timl.data.tasks.crop_types import class_names
    from timl.data.tasks.task import has_label

    labels = points.data.labels
    if isinstance(points, OwnCropTypes):
        label = class_names(labels)
    else:
        label = has_label(labels, points.task.target_label).astype(int)
    return labels[["lat", "lon"]].assign(label=label, name=labels["label"].fillna("").astype(str))


def _write_scores(
    folder: Path, validation: CrossValidation | CropTypeValidation, curve: LearningCurve
) -> None:
    """Write the tables of a map's report."""
    tables = {"scores": validation.to_frame()}
    if isinstance(validation, CropTypeValidation):
        confusion = validation.class_scores.confusion.rename(index=csv_cell, columns=csv_cell)
        tables = {"scores": tables["scores"].rename(index=csv_cell), "confusion": confusion}
    tables["learning-curve"] = curve.to_frame().set_index("labels")
    for name, table in tables.items():
        with atomic_write(folder / f"{name}.csv", "w") as file:
            table.to_csv(file, lineterminator="\n")


def _validate(
    model: TIML | Classifier | DeepKernel,
    points: OwnPoints | OwnCropTypes,
    protocol: Protocol | None,
    block_km: float,
    seed: int,
) -> tuple[CrossValidation | CropTypeValidation | None, LearningCurve | None, str]:
    """Return scores and learning curve, or why there are none."""
    distance_km = min(1.0, block_km / 3)
    try:
        validation = cross_validate(
            model, points, block_km=block_km, distance_km=distance_km, protocol=protocol, seed=seed
        )
        with warnings.catch_warnings():  # the same as the lines before gave
            warnings.simplefilter("ignore")
            curve = learning_curve(
                model,
                points,
                block_km=block_km,
                distance_km=distance_km,
                protocol=protocol,
                seed=seed,
            )
    except ValueError as error:
        warnings.warn(
            f"the points cannot be divided, so that there is no accuracy: {error}", stacklevel=3
        )
        return None, None, str(error)
    return validation, curve, ""
