"""Classifier of the strong protocol: a kernel regression in the model's metric, and a forest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from timl.nn import checkpoint
from timl.nn.checks import require_finite, require_tensor
from timl.nn.classifier import Classifier
from timl.nn.description import describe_series
from timl.nn.metric import Metric
from timl.nn.trees import Trees
from timl.normalization import Normalization

KERNEL_LENGTH = 0.5
"""Squared distance at which a label's weight falls to 1 / e, in units of the metric's `length`."""
_KERNEL_SCALE = 4.0
"""Factor from the kernel regression's value to a logit."""
_FOREST_VOTES = 100.0
"""Number of votes that the forest's share of positives is counted as; half a vote is added."""
_CHUNK = 4096
"""Number of series that are predicted at once."""


class StrongClassifier(nn.Module):
    """Classifier of one task that `timl.finetune` fits with `protocol="strong"`.

    Its logit is the sum of two: a kernel regression on the labels, in the metric that the model
    learned on other regions, which the network's hidden states are part of; and a forest of
    extremely randomised trees on the features of the series. Both are fitted with the classes
    weighted equally: a probability of 0.5 divides them whatever their share among the labels. It
    only predicts: its logits carry no gradient. docs/explanation/strong.md has the formulas.

    Parameters
    ----------
    network
        Arguments of its `Classifier`.
    metric
        Arguments of its `Metric`.
    labels
        Number n of labels in the kernel.
    trees
        Arguments of its `Trees`.

    Attributes
    ----------
    network : Classifier
        Classifier of the task as meta-trained.
    metric : Metric
        Metric of the model.
    places : buffer of shape [n, d]
        Places of the labelled series in the metric's space.
    coefficients : buffer of shape [n]
        Coefficients of the kernel regression.
    trees : Trees
        Forest on the features of the series.
    """

    places: Tensor
    coefficients: Tensor

    def __init__(
        self, network: dict[str, Any], metric: list[int], labels: int, trees: list[int]
    ) -> None:
        super().__init__()
        self.network = Classifier(**network)
        self.metric = Metric(*metric)
        self.trees = Trees(*trees)
        self.register_buffer("places", torch.zeros(labels, metric[1]))
        self.register_buffer("coefficients", torch.zeros(labels))

    @property
    def normalization(self) -> Normalization | None:
        """Preparation of the inputs, or None: the network's."""
        return self.network.normalization

    @normalization.setter
    def normalization(self, normalization: Normalization | None) -> None:
        self.network.normalization = normalization

    @property
    def steps(self) -> int:
        """Number of time steps T of a series."""
        return self.network.steps

    @property
    def bands(self) -> int:
        """Number of bands of a series."""
        return self.network.bands

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits of a batch.

        Parameters
        ----------
        x : tensor of shape [B, T, bands]
            Normalised series, of the network's dtype and device.

        Returns
        -------
        tensor of shape [B]

        Raises
        ------
        TypeError
            If `x` is no tensor or of another dtype than the network.
        ValueError
            If its shape or device is wrong, it is empty or has NaN or infinite values.
        """
        like = self.network.input_weight
        require_tensor("x", x, ("B", self.steps, self.bands), like=like)
        if len(x) == 0:
            raise ValueError(f"x is empty, of shape {list(x.shape)}: give at least one series")
        require_finite("x", x)
        parts = [self._logits(part) for part in torch.split(x, _CHUNK)]
        return torch.from_numpy(np.concatenate(parts)).to(like)

    def _logits(self, x: Tensor) -> NDArray[np.float64]:
        from threadpoolctl import threadpool_limits

        assert self.normalization is not None
        series = x.cpu().numpy()
        with threadpool_limits(1):
            places = self.metric.transform(self.network, series, self.normalization)
            similar = kernel(places, self.places.double().cpu().numpy(), float(self.metric.length))
            share = self.trees.predict(forest_features(series, self.normalization))
            logits: NDArray[np.float64] = (
                _KERNEL_SCALE * (similar @ self.coefficients.double().cpu().numpy())
                + np.log(_FOREST_VOTES * share + 0.5)
                - np.log(_FOREST_VOTES * (1 - share) + 0.5)
            )
        return logits

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `config.json` into a folder, which is made where needed."""
        configuration = {
            "network": self.network.configuration(),
            "metric": list(self.metric.projection.shape),
            "labels": len(self.coefficients),
            "trees": [len(self.trees.roots), len(self.trees.left)],
        }
        checkpoint.write(
            folder, "StrongClassifier", configuration, self.state_dict(), self.normalization
        )

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> StrongClassifier:
        """Read a classifier that `save_pretrained` wrote, in evaluation mode and on the CPU.

        Raises
        ------
        FileNotFoundError
            If a file is missing.
        ValueError
            If a file is truncated, foreign, or of another kind of model; the message names it.
        """
        return checkpoint.build(cls, "StrongClassifier", checkpoint.read(folder))


def kernel(
    places: NDArray[np.float64],
    labelled: NDArray[np.float64],
    length: float,
) -> NDArray[np.float64]:
    """Return exp(-squared distance / (`KERNEL_LENGTH` * length)) of places [n, d] and [m, d]."""
    squared = (places**2).sum(axis=1)[:, None] + (labelled**2).sum(axis=1) - 2 * places @ labelled.T
    similar: NDArray[np.float64] = np.exp(-np.maximum(squared, 0) / (KERNEL_LENGTH * length))
    return similar


def forest_features(
    series: NDArray[np.float32], normalization: Normalization
) -> NDArray[np.float32]:
    """Return the features that the forest sees of normalised series, float32 [n, D]."""
    return describe_series(series, normalization).astype(np.float32)
