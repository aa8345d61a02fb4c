"""Temporal convolutional network, trained on the labels of one task."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from timl.nn import one_thread, seeded
from timl.reference import mean_loss


class TemporalCNN:
    """Network of convolutions over time, as it is common for crop time series.

    It has two convolutions of width 3 with ReLU, the first followed by max pooling of width 2, the
    second by the mean over time; a dense layer with ReLU and dropout; and one output. Adam trains
    it on shuffled batches.

    Parameters
    ----------
    seed
        Seed of weights, order and dropout: the same seed gives the same bits.
    channels
        Number of channels of each convolution and of the dense layer.
    dropout
        Dropout rate before the output.
    epochs, batch, learning_rate
        Epochs of training, series in a batch, and learning rate of Adam.

    Attributes
    ----------
    network : torch.nn.Module or None
        Trained network; None before `fit`.
    """

    def __init__(
        self,
        seed: int = 0,
        channels: int = 64,
        dropout: float = 0.2,
        epochs: int = 50,
        batch: int = 64,
        learning_rate: float = 1e-3,
    ) -> None:
        self.seed, self.channels, self.dropout = seed, channels, dropout
        self.epochs, self.batch, self.learning_rate = epochs, batch, learning_rate
        self.network: nn.Module | None = None

    def fit(self, x: ArrayLike, y: ArrayLike) -> TemporalCNN:
        """Train on labelled series.

        Parameters
        ----------
        x : array of shape [n, T, F]
            Normalised series, T at least 2.
        y : array of shape [n]
            Labels, 0 and 1; both occur.

        Raises
        ------
        ValueError
            If shapes or labels are wrong.
        """
        series = _series(x)
        labels = torch.as_tensor(np.asarray(y), dtype=torch.float32)
        if labels.shape != series.shape[:1] or set(labels.tolist()) != {0, 1}:
            raise ValueError(
                f"y is of shape {list(labels.shape)} with labels "
                f"{sorted(set(labels.tolist()))[:5]}: give shape [{len(series)}] with both 0 and 1"
            )
        with seeded(self.seed), torch.enable_grad(), one_thread():
            network = self._build(series.shape[1])
            optimizer = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
            for _ in range(self.epochs):
                for rows in torch.split(torch.randperm(len(labels)), self.batch):
                    optimizer.zero_grad()
                    logits = network(series[rows])[:, 0]
                    mean_loss(logits, labels[rows]).backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
        self.network = network.eval()
        return self

    def predict_proba(self, x: ArrayLike) -> NDArray[np.float64]:
        """Return the probability of the positive class, float64 [n], for series [n, T, F].

        Raises
        ------
        ValueError
            If the network is not trained, or the shape is wrong.
        """
        if self.network is None:
            raise ValueError("network is None, not trained: call fit first")
        with torch.no_grad(), one_thread():
            logits = [self.network(chunk)[:, 0] for chunk in torch.split(_series(x), 4096)]
        probability: NDArray[np.float64] = torch.sigmoid(torch.cat(logits).double()).numpy()
        return probability

    def _build(self, bands: int) -> nn.Sequential:
        """Return a new network for series of so many bands, [n, F, T] to [n, 1]."""
        channels = self.channels
        return nn.Sequential(
            nn.Conv1d(bands, channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(channels, channels),
            nn.ReLU(),
            nn.Dropout(self.dropout),
            nn.Linear(channels, 1),
        )


def _series(x: ArrayLike) -> torch.Tensor:
    """Return series as [n, F, T], float32."""
    series = torch.as_tensor(np.asarray(x), dtype=torch.float32)
    if series.ndim != 3 or 0 in series.shape:
        raise ValueError(f"x is of shape {[*series.shape]}: give [n, T, F], none of them 0")
    return series.transpose(1, 2)
