"""Classifier of series by any network, trained on the labels of one task."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from timl.nn import one_thread, seeded
from timl.reference import mean_loss


class NetworkClassifier:
    """Binary classifier of series by a network that Adam trains on shuffled batches.

    Parameters
    ----------
    make
        Makes a new network: a function, or a class of modules, without arguments. The network
        takes series, float32 [n, T, F], and returns logits [n] or [n, 1].
    seed
        Seed of weights, order and dropout: the same seed gives the same bits.
    epochs, batch, learning_rate
        Epochs of training, series in a batch, and learning rate of Adam. A last batch of a single
        series, which batch normalisation could not take, joins the one before.

    Attributes
    ----------
    network : torch.nn.Module or None
        Trained network; None before `fit`.
    """

    def __init__(
        self,
        make: Callable[[], nn.Module],
        seed: int = 0,
        *,
        epochs: int = 50,
        batch: int = 64,
        learning_rate: float = 1e-3,
    ) -> None:
        self.make, self.seed = make, seed
        self.epochs, self.batch, self.learning_rate = epochs, batch, learning_rate
        self.network: nn.Module | None = None

    def fit(self, x: ArrayLike, y: ArrayLike) -> NetworkClassifier:
        """Train on labelled series.

        Parameters
        ----------
        x : array of shape [n, T, F]
            Normalised series.
        y : array of shape [n]
            Labels, 0 and 1; both occur.

        Raises
        ------
        ValueError
            If shapes or labels are wrong, or the network returns something else than logits.
        """
        series = self._inputs(_series(x))
        labels = torch.as_tensor(np.asarray(y), dtype=torch.float32)
        if labels.shape != series.shape[:1] or set(labels.tolist()) != {0, 1}:
            raise ValueError(
                f"y is of shape {list(labels.shape)} with labels "
                f"{sorted(set(labels.tolist()))[:5]}: give shape [{len(series)}] with both 0 and 1"
            )
        with seeded(self.seed), torch.enable_grad(), one_thread():
            network = self.make().float()
            optimizer = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
            for _ in range(self.epochs):
                for rows in _batches(torch.randperm(len(labels)), self.batch):
                    optimizer.zero_grad()
                    logits = _logits(network, series[rows])
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
            chunks = torch.split(self._inputs(_series(x)), 4096)
            logits = torch.cat([_logits(self.network, chunk) for chunk in chunks])
        probability: NDArray[np.float64] = torch.sigmoid(logits.double()).numpy()
        return probability

    def _inputs(self, series: Tensor) -> Tensor:
        """Return what the network takes of series [n, T, F]."""
        return series


def _series(x: ArrayLike) -> Tensor:
    """Return series as a tensor, float32 [n, T, F]."""
    series = torch.as_tensor(np.asarray(x), dtype=torch.float32)
    if series.ndim != 3 or 0 in series.shape:
        raise ValueError(f"x is of shape {[*series.shape]}: give [n, T, F], none of them 0")
    return series


def _batches(order: Tensor, size: int) -> list[Tensor]:
    """Return an order in batches, of which none but the only one is of a single number."""
    batches = list(torch.split(order, size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _logits(network: nn.Module, series: Tensor) -> Tensor:
    """Return a network's logits [n]."""
    logits: Tensor = network(series)
    shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape not in ([len(series)], [len(series), 1]):
        raise ValueError(
            f"make is of a {type(network).__name__} that returns {shape} for {len(series)} series: "
            f"return logits [{len(series)}] or [{len(series)}, 1]"
        )
    return logits.reshape(len(series))
