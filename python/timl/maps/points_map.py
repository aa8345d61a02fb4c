"""Result of a map from points."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from timl.evaluation.cross_validation import CropTypeValidation, CrossValidation, LearningCurve
from timl.maps.predict import MapFiles
from timl.nn import Classifier, StrongClassifier


@dataclass(frozen=True)
class PointsMap:
    """Result of `map_points`."""

    classifier: Classifier | StrongClassifier
    """Classifier that was adapted to the points."""
    files: MapFiles
    """Files of the map."""
    report: Path
    """HTML report."""
    threshold: float | None
    """Probability from which on a pixel is of the class; None of several classes."""
    validation: CrossValidation | CropTypeValidation | None
    """Scores over blocks of the points; None where they cannot be divided."""
    curve: LearningCurve | None
    """Scores against numbers of labels; None likewise."""
    hectares: dict[int, float]
    """Area of the map's pixels of each class, hectares: a biased estimate, see `timl.area`."""
