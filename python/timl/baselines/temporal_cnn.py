"""A one-dimensional convolutional network over time, trained on the labels at hand."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from timl.nn import one_thread, seeded
from timl.reference import mean_loss


class TemporalCNN:
    """Convolutions along the months, pooling and dense layers, as taught for crop time series.

    Two convolutions of width 3, each with ReLU, the first with max pooling of width 2, the second
    with the mean over time; a dense layer with ReLU and dropout, and one output. Adam on shuffled
    batches.

    Parameters
    ----------
    seed : int
        Of weights, order and dropout: the same seed gives the same bits.
    channels : int
        Of each convolution and of the dense layer.
    dropout : float
        Rate before the output.
    epochs, batch, learning_rate
        Of the training.
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
        x : array, shape [n, T, F]
            Normalised series, T at least 2.
        y : array, shape [n]
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
                f"y must have shape [{len(series)}] and hold both labels, 0 and 1, but has "
                f"{list(labels.shape)}"
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
        """Give the probability of the positive class, float64 [n], for series [n, T, F]."""
        if self.network is None:
            raise ValueError("this TemporalCNN is not trained: call fit first")
        with torch.no_grad(), one_thread():
            logits = [self.network(chunk)[:, 0] for chunk in torch.split(_series(x), 4096)]
        probability: NDArray[np.float64] = torch.sigmoid(torch.cat(logits).double()).numpy()
        return probability

    def _build(self, bands: int) -> nn.Sequential:
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
        raise ValueError(f"x must have shape [n, T, F], none of them 0, but has {[*series.shape]}")
    return series.transpose(1, 2)
