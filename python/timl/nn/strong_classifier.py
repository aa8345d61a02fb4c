"""The classifier of the strong protocol: a kernel in the model's metric, and a forest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from timl.nn import checkpoint
from timl.nn.checks import require_finite, require_tensor
from timl.nn.classifier import Classifier
from timl.nn.description import describe_series
from timl.nn.metric import Metric
from timl.nn.trees import Trees
from timl.normalization import Normalization

KERNEL_LENGTH = 0.5
"""Of the metric's `length`, the squared distance at which a label's weight falls to 1 / e."""
_KERNEL_SCALE = 4.0
"""Logits of a kernel value of 1."""
_VOTES = 100.0
_CHUNK = 4096


class StrongClassifier(nn.Module):
    """A task's classifier that `timl.finetune` makes with ``protocol="strong"``.

    Its logit is the sum of two: a kernel regression on the labels in the metric that the model
    learned on other regions, where the network's hidden states count; and a forest of extremely
    randomised trees on the series' numbers. Both are fitted with the classes weighted equally:
    a probability of 0.5 divides them whatever their share among the labels. It only evaluates:
    logits carry no gradient.

    Parameters
    ----------
    network
        Arguments of its `Classifier`.
    metric
        Arguments of its `Metric`.
    labels
        Labels in the kernel, n.
    trees
        Arguments of its `Trees`.

    Attributes
    ----------
    network : Classifier
        The task's, as meta-trained.
    metric : Metric
    places : Tensor
        Buffer, [n, d]: where the labelled series are.
    coefficients : Tensor
        Buffer, [n].
    trees : Trees
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
        """How inputs are prepared: the network's."""
        return self.network.normalization

    @normalization.setter
    def normalization(self, normalization: Normalization | None) -> None:
        self.network.normalization = normalization

    @property
    def steps(self) -> int:
        """Steps T of a series."""
        return self.network.steps

    @property
    def bands(self) -> int:
        """Bands of a series."""
        return self.network.bands

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits [B] of normalised series [B, T, F], of the network's type.

        Raises
        ------
        TypeError, ValueError
            As `Classifier.forward`.
        """
        like = self.network.input_weight
        require_tensor("x", x, ("B", self.steps, self.bands), like=like)
        if len(x) == 0:
            raise ValueError(f"x {list(x.shape)} is empty: give at least one series")
        require_finite("x", x)
        parts = [self._logits(part) for part in torch.split(x, _CHUNK)]
        return torch.from_numpy(np.concatenate(parts)).to(like)

    def _logits(self, x: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
        from threadpoolctl import threadpool_limits

        assert self.normalization is not None
        series = x.cpu().numpy()
        with threadpool_limits(1):
            places = self.metric.transform(self.network, series, self.normalization)
            similar = kernel(places, self.places.double().cpu().numpy(), float(self.metric.length))
            share = self.trees.predict(forest_numbers(series, self.normalization))
            logits: np.ndarray[Any, np.dtype[np.float64]] = (
                _KERNEL_SCALE * (similar @ self.coefficients.double().cpu().numpy())
                + np.log(_VOTES * share + 0.5)
                - np.log(_VOTES * (1 - share) + 0.5)
            )
        return logits

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `config.json` into a folder, made where needed."""
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
        """Read a classifier that `save_pretrained` wrote; errors as of `Classifier`."""
        return checkpoint.build(cls, "StrongClassifier", checkpoint.read(folder))


def kernel(
    places: np.ndarray[Any, np.dtype[np.float64]],
    labelled: np.ndarray[Any, np.dtype[np.float64]],
    length: float,
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return exp(-squared distance / (`KERNEL_LENGTH` length)) of places [n, d] and [m, d]."""
    squared = (places**2).sum(axis=1)[:, None] + (labelled**2).sum(axis=1) - 2 * places @ labelled.T
    similar: np.ndarray[Any, np.dtype[np.float64]] = np.exp(
        -np.maximum(squared, 0) / (KERNEL_LENGTH * length)
    )
    return similar


def forest_numbers(
    series: np.ndarray[Any, np.dtype[np.float32]], normalization: Normalization
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return what the forest sees of normalised series, float32 [n, D]."""
    return describe_series(series, normalization).astype(np.float32)
