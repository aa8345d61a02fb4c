"""Cross-validation of places of one's own over blocks of the map, and learning curves."""

from timl.evaluation.cross_validation.crop_types import CropTypeValidation
from timl.evaluation.cross_validation.curve import LearningCurve, learning_curve
from timl.evaluation.cross_validation.folds import BlockFolds, block_folds
from timl.evaluation.cross_validation.resampling import Interval
from timl.evaluation.cross_validation.validation import CrossValidation, cross_validate

__all__ = [
    "BlockFolds",
    "CropTypeValidation",
    "CrossValidation",
    "Interval",
    "LearningCurve",
    "block_folds",
    "cross_validate",
    "learning_curve",
]
