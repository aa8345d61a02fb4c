"""Metric of a meta-trained model: the directions in which series of different crops differ."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from timl.nn.classifier import Classifier
from timl.nn.description import describe_series, hidden_states
from timl.normalization import Normalization


class Metric(nn.Module):
    """Linear map to a space where Euclidean distance tells the crops of one place apart.

    `timl.meta.learn_metric` learns it from the meta-training tasks; docs/explanation/strong.md has
    the formulas.

    Parameters
    ----------
    features
        Number D of features of a series: those of `timl.nn.description`.
    dimensions
        Number d of dimensions of the space.

    Attributes
    ----------
    mean, scale : buffers of shape [D]
        Mean that is subtracted from the features, and scale that divides them.
    projection : buffer of shape [D, d]
        Projection of the scaled features.
    length : buffer of shape []
        Median squared distance of two series of the meta-training.
    """

    mean: Tensor
    scale: Tensor
    projection: Tensor
    length: Tensor

    def __init__(self, features: int, dimensions: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("projection", torch.zeros(features, dimensions))
        self.register_buffer("length", torch.ones(()))

    def transform(
        self, classifier: Classifier, x: NDArray[np.float32], normalization: Normalization
    ) -> NDArray[np.float64]:
        """Return the places of series in the metric's space.

        Parameters
        ----------
        classifier
            Classifier of the task, with its FiLM values.
        x : float32 array of shape [n, T, 18]
            Normalised series.
        normalization
            How they were normalised.

        Returns
        -------
        float64 array of shape [n, d]

        Raises
        ------
        ValueError
            If the series have another number of features than those of the meta-training.
        """
        described = metric_features(classifier, x, normalization)
        mean, scale, projection = (
            buffer.double().cpu().numpy() for buffer in (self.mean, self.scale, self.projection)
        )
        if described.shape[1] != len(mean):
            raise ValueError(
                f"x is of shape {list(x.shape)}, with {described.shape[1]} features: give series "
                f"like those of the meta-training, with {len(mean)}"
            )
        places: NDArray[np.float64] = (described - mean) / scale @ projection
        return places


def metric_features(
    classifier: Classifier, x: NDArray[np.float32], normalization: Normalization
) -> NDArray[np.float64]:
    """Return the features that a metric sees of normalised series, float64 [n, D]."""
    return np.concatenate([describe_series(x, normalization), hidden_states(classifier, x)], axis=1)
