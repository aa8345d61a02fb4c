"""Methods to compare with: classical classifiers, and a temporal convolutional network."""

from timl.baselines.classical import (
    Baseline,
    GradientBoosting,
    NearestClassMean,
    cross_validated_logistic_regression,
    extra_trees,
    gradient_boosting,
    logistic_regression,
    nearest_class_mean,
    random_forest,
)
from timl.baselines.network import NetworkClassifier
from timl.baselines.temporal_cnn import TemporalCNN

__all__ = [
    "Baseline",
    "GradientBoosting",
    "NearestClassMean",
    "NetworkClassifier",
    "TemporalCNN",
    "cross_validated_logistic_regression",
    "extra_trees",
    "gradient_boosting",
    "logistic_regression",
    "nearest_class_mean",
    "random_forest",
]
