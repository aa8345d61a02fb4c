"""Classifier of the strong protocol: kernel ridge regressions in a deep kernel, and a forest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from timl.bands import BANDS
from timl.nn import checkpoint
from timl.nn.checks import require_finite, require_tensor
from timl.nn.operators import strong_evaluate
from timl.nn.strong.deep_kernel import DeepKernel
from timl.nn.strong.description import normalization_tensor
from timl.nn.strong.trees import Trees
from timl.normalization import Normalization


class StrongClassifier(nn.Module):
    """Classifier of one task that `timl.finetune` fits with `protocol="strong"`.

    Its logit, or with several classes that of each, is

        slope (kernel_weight kernel(x) + forest(x)) + shift

    with the mean logit of the deep kernel's networks, each with a kernel ridge regression on the
    labels, and the logarithm of the odds of the forest's votes. It only predicts:
    differentiating its logits raises. docs/explanation/strong.md has the formulas.

    Parameters
    ----------
    deep_kernel
        Arguments of its `DeepKernel`.
    labels
        Number n of labels in the kernel.
    trees
        Arguments of its `Trees`.
    classes
        Names of its classes, two or more; None: the positives of a task against the rest, with one
        logit. K below is the number of logits.

    Attributes
    ----------
    deep_kernel : DeepKernel
        What other regions taught; M networks.
    classes : tuple of str, or None
        As given.
    task : buffer of shape [O] with one logit, else [K, O]
        Numbers that describe the task, or each class against the rest, see
        `DeepKernel.describe_task`.
    task_mean : buffer of shape [T, bands]
        Mean of the labelled series, see `DeepKernel.task_mean`.
    points : buffer of shape [M, n, d]
        Points of the labelled series in each network's metric space.
    coefficients : buffer of shape [M, n] with one logit, else [M, K, n]
        Coefficients of each network's regression.
    levels : buffer of shape [M] with one logit, else [M, K]
        Levels of each network's prior means.
    label_points : buffer of shape [n, d]
        Points of the labelled series in the space of the first network's axes alone.
    trees : Trees
        Forest on the descriptions of the series.
    kernel_weight, slope : buffers of shape []
        Weight of the kernel against the forest, and slope of the logits.
    shift : buffer of shape [] with one logit, else [K]
        Shift of the logit.
    normalization : Normalization or None
        Preparation of the inputs.
    """

    task: Tensor
    task_mean: Tensor
    points: Tensor
    coefficients: Tensor
    levels: Tensor
    label_points: Tensor
    kernel_weight: Tensor
    slope: Tensor
    shift: Tensor

    def __init__(
        self,
        deep_kernel: dict[str, Any],
        labels: int,
        trees: list[int],
        classes: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.classes = None if classes is None else tuple(classes)
        of_classes = () if self.classes is None else (len(self.classes),)
        self.deep_kernel = DeepKernel(**deep_kernel)
        self.trees = Trees(*trees)
        self.normalization: Normalization | None = None
        networks, dimensions = deep_kernel["networks"], deep_kernel["dimensions"]
        task = self.deep_kernel.describe_task(None, None)
        self.register_buffer("task", task.expand(*of_classes, -1).clone())
        self.register_buffer("task_mean", torch.zeros(self.steps, self.bands))
        self.register_buffer("points", torch.zeros(networks, labels, dimensions))
        self.register_buffer("coefficients", torch.zeros(networks, *of_classes, labels))
        self.register_buffer("levels", torch.zeros(networks, *of_classes))
        self.register_buffer("label_points", torch.zeros(labels, dimensions))
        for name in ("kernel_weight", "slope"):
            self.register_buffer(name, torch.zeros(()))
        self.register_buffer("shift", torch.zeros(of_classes))

    @property
    def steps(self) -> int:
        """Number of time steps T of a series."""
        return self.deep_kernel.steps

    @property
    def bands(self) -> int:
        """Number of bands of a series: the record's."""
        return len(BANDS)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits of a batch.

        A series gets the same bits whatever the batch and the number of threads.

        Parameters
        ----------
        x : tensor of shape [B, T, bands]
            Normalised series, of the classifier's dtype and device. NaN where a value is missing:
            `DeepKernel.complete` replaces it.

        Returns
        -------
        tensor of shape [B] with one logit, else [B, K]

        Raises
        ------
        TypeError
            If `x` is no tensor or of another dtype than the classifier.
        ValueError
            If its shape or device is wrong, it is empty or has infinite values, or nothing is there
            of a series.
        """
        return self._evaluate(x, distances=False)[0]

    def distances(self, x: Tensor) -> Tensor:
        """Compute how far the series of a batch are from what training knew.

        That is the distance to the nearest of some of the learning's series and of the task's
        labelled ones, in the metric, over the distance that 99% of the learning's series keep to
        those of other regions. A series above 1 is unlike anything in training. Parameters, result
        and errors are those of `forward`.
        """
        return self.logits_and_distances(x)[1]

    def logits_and_distances(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute what `forward` and `distances` return, in one pass."""
        return self._evaluate(x, distances=True)

    def _evaluate(self, x: Tensor, distances: bool) -> tuple[Tensor, Tensor]:
        """Check a batch and return its logits and distances, the latter [0] if not wanted."""
        if torch.compiler.is_exporting():
            raise RuntimeError(
                "a StrongClassifier is not exported: which way its trees go and what completes "
                "missing values depend on the values; export a classifier of the paper's protocol, "
                "or predict by timl"
            )
        x = require_tensor("x", x, ("B", self.steps, self.bands), like=self.coefficients)
        if len(x) == 0:
            raise ValueError(f"x is empty, of shape {list(x.shape)}: give at least one series")
        if x.isnan().any():
            mean = self.task_mean.cpu().numpy()
            x = torch.from_numpy(self.deep_kernel.complete(x.cpu().numpy(), mean)).to(x)
        require_finite("x", x)
        return strong_evaluate(x, *self.arguments(distances))

    @property
    def _tasks(self) -> Tensor:
        """The task's numbers as rows, [K, O]."""
        return self.task.reshape(-1, self.task.shape[-1])

    def arguments(self, distances: bool) -> tuple[Tensor | None, ...]:
        """Return the arguments of `timl.reference.strong_evaluate` after the series.

        Parameters
        ----------
        distances
            Whether the points that distances are measured to are among them.
        """
        assert self.normalization is not None
        kernel, networks = self.deep_kernel, self.deep_kernel.members
        vectors = [
            (n.hidden_bias, n.norm_gain, n.norm_bias, *(self._tasks @ n.prior_weight))
            for n in networks
        ]
        heads = [
            (network.head.length, network.head.scale, *levels.reshape(-1))
            for network, levels in zip(networks, self.levels, strict=True)
        ]
        known = torch.cat([kernel.reference, self.label_points]) if distances else None
        constants = (self.kernel_weight, self.slope, *self.shift.reshape(-1), kernel.usual_distance)
        return (
            normalization_tensor(self.normalization, self.coefficients),
            torch.stack([kernel.mean, kernel.scale]),
            torch.stack([network.axes for network in networks]),
            torch.stack([network.hidden_weight for network in networks]),
            torch.stack([torch.stack(rows) for rows in vectors]),
            torch.stack([network.point_weight for network in networks]),
            torch.stack([torch.stack(numbers) for numbers in heads]),
            self.points,
            self.coefficients,
            *self.trees.arrays,
            known,
            torch.stack(constants),
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `config.json` into a folder, which is made where needed."""
        configuration = {
            "deep_kernel": self.deep_kernel.configuration(),
            "labels": self.label_points.shape[0],
            "trees": [len(self.trees.roots), len(self.trees.left), *self.shift.shape],
        }
        if self.classes is not None:
            configuration["classes"] = list(self.classes)
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
