"""Classifier of the strong protocol: kernel ridge regressions in a deep kernel, and a forest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from timl.bands import BANDS
from timl.nn import checkpoint
from timl.nn.checks import require_finite, require_tensor
from timl.nn.deep_kernel import DeepKernel, ridge_logits
from timl.nn.description import describe_series
from timl.nn.threads import one_thread
from timl.nn.trees import Trees
from timl.normalization import Normalization

_CHUNK = 4096
"""Number of series that are predicted at once."""


class StrongClassifier(nn.Module):
    """Classifier of one task that `timl.finetune` fits with `protocol="strong"`.

    Its logit is

        slope (kernel_weight kernel(x) + forest(x)) + shift

    with the mean logit of the deep kernel's networks, each with a kernel ridge regression on the
    labels, and the logarithm of the odds of the forest's votes. It only predicts: its logits carry
    no gradient. docs/explanation/strong.md has the formulas.

    Parameters
    ----------
    deep_kernel
        Arguments of its `DeepKernel`.
    labels
        Number n of labels in the kernel.
    trees
        Arguments of its `Trees`.

    Attributes
    ----------
    deep_kernel : DeepKernel
        What other regions taught; M networks.
    task : buffer of shape [O]
        Numbers that describe the task, see `DeepKernel.describe_task`.
    task_mean : buffer of shape [T, bands]
        Mean of the labelled series, see `DeepKernel.task_mean`.
    points : buffer of shape [M, n, d]
        Points of the labelled series in each network's metric space.
    coefficients : buffer of shape [M, n]
        Coefficients of each network's regression.
    levels : buffer of shape [M]
        Levels of each network's prior means.
    trees : Trees
        Forest on the descriptions of the series.
    kernel_weight, slope, shift : buffers of shape []
        Weight of the kernel against the forest, and slope and shift of the logit.
    normalization : Normalization or None
        Preparation of the inputs.
    """

    task: Tensor
    task_mean: Tensor
    points: Tensor
    coefficients: Tensor
    levels: Tensor
    kernel_weight: Tensor
    slope: Tensor
    shift: Tensor

    def __init__(self, deep_kernel: dict[str, Any], labels: int, trees: list[int]) -> None:
        super().__init__()
        self.deep_kernel = DeepKernel(**deep_kernel)
        self.trees = Trees(*trees)
        self.normalization: Normalization | None = None
        networks, dimensions = deep_kernel["networks"], deep_kernel["dimensions"]
        self.register_buffer("task", self.deep_kernel.describe_task(None, None))
        self.register_buffer("task_mean", torch.zeros(self.steps, self.bands))
        self.register_buffer("points", torch.zeros(networks, labels, dimensions))
        self.register_buffer("coefficients", torch.zeros(networks, labels))
        self.register_buffer("levels", torch.zeros(networks))
        for name in ("kernel_weight", "slope", "shift"):
            self.register_buffer(name, torch.zeros(()))

    @property
    def steps(self) -> int:
        """Number of time steps T of a series."""
        return self.deep_kernel.steps

    @property
    def bands(self) -> int:
        """Number of bands of a series: the record's."""
        return len(BANDS)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits of a batch.

        Parameters
        ----------
        x : tensor of shape [B, T, bands]
            Normalised series, of the classifier's dtype and device. NaN where a value is missing:
            `DeepKernel.complete` replaces it.

        Returns
        -------
        tensor of shape [B]

        Raises
        ------
        TypeError
            If `x` is no tensor or of another dtype than the classifier.
        ValueError
            If its shape or device is wrong, it is empty or has infinite values, or nothing is there
            of a series.
        """
        require_tensor("x", x, ("B", self.steps, self.bands), like=self.coefficients)
        if len(x) == 0:
            raise ValueError(f"x is empty, of shape {list(x.shape)}: give at least one series")
        if x.isnan().any():
            mean = self.task_mean.cpu().numpy()
            x = torch.from_numpy(self.deep_kernel.complete(x.cpu().numpy(), mean)).to(x)
        require_finite("x", x)
        parts = [self._logits(part) for part in torch.split(x, _CHUNK)]
        return torch.cat(parts).to(x)

    def _logits(self, x: Tensor) -> Tensor:
        """Return the logits of series [n, T, bands], float64 [n]."""
        from threadpoolctl import threadpool_limits

        assert self.normalization is not None
        with threadpool_limits(1), one_thread():
            described = describe_series(x.cpu().numpy(), self.normalization)
            logits = self._kernel_logits(described) * self.kernel_weight.double().cpu()
            logits += self._forest_logits(described)
            return self.slope.double().cpu() * logits + self.shift.double().cpu()

    def _kernel_logits(self, described: NDArray[np.float64]) -> Tensor:
        """Return the networks' mean logit of descriptions [n, D], float64 [n]."""
        points, coefficients, levels = (
            buffer.double().cpu() for buffer in (self.points, self.coefficients, self.levels)
        )
        embedded = self.deep_kernel.embed(self.deep_kernel.standardize(described), self.task)
        logits = [
            ridge_logits(z, prior, points[i], coefficients[i], levels[i], head)
            for i, (head, z, prior) in enumerate(embedded)
        ]
        return torch.stack(logits).mean(dim=0)

    def _forest_logits(self, described: NDArray[np.float64]) -> Tensor:
        """Return the logarithm of the odds of the trees' votes, half a vote added, float64 [n]."""
        count = len(self.trees.roots)
        votes = count * self.trees.predict(described.astype(np.float32))
        return torch.from_numpy(np.log(votes + 0.5) - np.log(count - votes + 0.5))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `config.json` into a folder, which is made where needed."""
        configuration = {
            "deep_kernel": self.deep_kernel.configuration(),
            "labels": self.coefficients.shape[1],
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
