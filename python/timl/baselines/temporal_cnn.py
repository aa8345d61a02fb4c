"""Temporal convolutional network, trained on the labels of one task."""

from __future__ import annotations

from torch import Tensor, nn

from timl.baselines.network import NetworkClassifier


class TemporalCNN(NetworkClassifier):
    """Network of convolutions over time, as it is common for crop time series.

    It has two convolutions of width 3 with ReLU, the first followed by max pooling of width 2, the
    second by the mean over time; a dense layer with ReLU and dropout; and one output. Series must
    have two steps or more.

    Parameters
    ----------
    seed
        Seed of weights, order and dropout: the same seed gives the same bits.
    channels
        Number of channels of each convolution and of the dense layer.
    dropout
        Dropout rate before the output.
    epochs, batch, learning_rate
        Those of `NetworkClassifier`.
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
        super().__init__(self._build, seed, epochs=epochs, batch=batch, learning_rate=learning_rate)
        self.channels, self.dropout = channels, dropout
        self.bands = 0

    def _inputs(self, series: Tensor) -> Tensor:
        """Return series as convolutions take them, [n, F, T]."""
        self.bands = series.shape[2]
        return series.transpose(1, 2)

    def _build(self) -> nn.Sequential:
        """Return a new network, from [n, F, T] to [n, 1]."""
        channels = self.channels
        return nn.Sequential(
            nn.Conv1d(self.bands, channels, 3, padding=1),
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
