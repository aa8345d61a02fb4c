"""Classifiers without meta-learning, trained on all labels of a task."""

from timl.baselines.classical import Baseline, logistic_regression, random_forest
from timl.baselines.temporal_cnn import TemporalCNN

__all__ = ["Baseline", "TemporalCNN", "logistic_regression", "random_forest"]
