"""Classifiers without meta-learning, trained on all labels of a task."""

from timl.baselines.classical import Baseline, logistic_regression, random_forest

__all__ = ["Baseline", "logistic_regression", "random_forest"]
