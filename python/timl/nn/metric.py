"""The metric of a meta-trained model: in which directions series of other crops differ."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from timl.nn.classifier import Classifier
from timl.nn.description import describe_series, hidden_states
from timl.normalization import Normalization


class Metric(nn.Module):
    """Takes series to a space where Euclidean distance tells the crops of one place apart.

    Learned from the meta-training tasks by `timl.meta.learn_metric`; docs/explanation/strong.md
    has the formulas.

    Parameters
    ----------
    features
        D, numbers that describe a series: those of `describe_series` and `hidden_states`.
    dimensions
        Of the space, d.

    Attributes
    ----------
    mean, scale : Tensor
        Buffers, [D]: what is subtracted from the description, and divided by.
    projection : Tensor
        Buffer, [D, d].
    length : Tensor
        Buffer, []: the median squared distance of two training series.
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
        """Return the places of normalised series [n, T, 18] in the metric's space, [n, d].

        The classifier is the task's, with its FiLM values.
        """
        described = np.concatenate(
            [describe_series(x, normalization), hidden_states(classifier, x)], axis=1
        )
        mean, scale, projection = (
            buffer.double().cpu().numpy() for buffer in (self.mean, self.scale, self.projection)
        )
        if described.shape[1] != len(mean):
            raise ValueError(
                f"the metric is of series with {len(mean)} numbers, those of shape "
                f"{list(x.shape)} have {described.shape[1]}: give series as those of the "
                f"meta-training"
            )
        places: NDArray[np.float64] = (described - mean) / scale @ projection
        return places
