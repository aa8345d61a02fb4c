"""Deep kernel: a metric and a prior mean learned on other regions, and the ridge regression in it.

docs/explanation/strong.md has the formulas.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from timl.bands import BANDS
from timl.completion import conditional_means
from timl.crop_classes import CLASSES, CROP, class_numbers
from timl.nn import checkpoint
from timl.nn.strong.description import description_size
from timl.normalization import Normalization
from timl.reference.strong import MOST_DEVIATIONS


class Head(NamedTuple):
    """Three constants of a network's ridge regression, tensors of shape []."""

    length: Tensor
    """Squared distance at which the kernel falls to 1 / e."""
    ridge: Tensor
    """Variance of a label's noise in the rarer class, where the kernel's is 1."""
    scale: Tensor
    """Factor from the regression's value to a logit."""


class KernelNetwork(nn.Module):
    """Map from standardised descriptions to points of a metric space, and to a task's prior mean.

    With h = GELU(LayerNorm(H x + b)) the point of x is A' x + P h. The prior mean is linear in h;
    its weights are the sum of one vector for each FAO class and label name, weighted by the numbers
    that describe the task. All weights are 0 at first.

    Parameters
    ----------
    features
        Number D of a description.
    dimensions
        Number d of dimensions of the metric space.
    width
        Number W of hidden units; with 0 there is no hidden layer, and the prior mean is 0.
    outputs
        Number O of numbers that describe a task.

    Attributes
    ----------
    axes : parameter of shape [D, d]
        Matrix A.
    hidden_weight, hidden_bias, norm_gain, norm_bias : parameters of shape [W, D], [W], [W], [W]
        Weights of the hidden layer and its normalisation.
    point_weight : parameter of shape [d, W]
        Matrix P.
    prior_weight : parameter of shape [O, W]
        Weights of the prior mean of each class and name.
    log_head : parameter of shape [3]
        Natural logarithms of the head's length, ridge and scale.
    """

    def __init__(self, features: int, dimensions: int, width: int, outputs: int) -> None:
        super().__init__()
        self.axes = nn.Parameter(torch.zeros(features, dimensions))
        self.hidden_weight = nn.Parameter(torch.zeros(width, features))
        self.hidden_bias = nn.Parameter(torch.zeros(width))
        self.norm_gain = nn.Parameter(torch.ones(width))
        self.norm_bias = nn.Parameter(torch.zeros(width))
        self.point_weight = nn.Parameter(torch.zeros(dimensions, width))
        self.prior_weight = nn.Parameter(torch.zeros(outputs, width))
        self.log_head = nn.Parameter(torch.zeros(3))

    @property
    def head(self) -> Head:
        """Constants of the ridge regression."""
        return Head(*self.log_head.exp())

    def forward(self, x: Tensor, task: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute points and prior means of one or more tasks' series.

        Parameters
        ----------
        x : tensor of shape [*tasks, n, D]
            Standardised descriptions.
        task : tensor of shape [*tasks, O]
            Numbers that describe the tasks.
        mask : tensor of shape [*tasks, n, W]
            Dropout mask of the hidden units.

        Returns
        -------
        points : tensor of shape [*tasks, n, d]
        prior : tensor of shape [*tasks, n]
            Prior means up to a constant: the regression centres them on its labels.
        """
        points = x @ self.axes
        if len(self.hidden_bias) == 0:
            return points, x.new_zeros(x.shape[:-1])
        hidden = functional.linear(x, self.hidden_weight, self.hidden_bias)
        hidden = functional.layer_norm(hidden, hidden.shape[-1:], self.norm_gain, self.norm_bias)
        hidden = functional.gelu(hidden)
        if mask is not None:
            hidden = hidden * mask
        prior = hidden @ (task @ self.prior_weight).unsqueeze(-1)
        return points + functional.linear(hidden, self.point_weight), prior.squeeze(-1)


class DeepKernel(nn.Module):
    """What other regions teach the strong protocol: kernel networks, whose logits are averaged.

    `timl.meta.learn_deep_kernel` learns it from meta-training tasks.

    Parameters
    ----------
    steps
        Number T of time steps of a series of the record's bands.
    networks
        Number of networks.
    dimensions, width
        Sizes of each, see `KernelNetwork`.
    names
        Label names that have a prior mean of their own, beside the FAO classes.
    references
        Number R of series that distances are measured to.

    Attributes
    ----------
    mean, scale : buffers of shape [D]
        Mean that is subtracted from the descriptions, and scale that divides them.
    covariance : buffer of shape [T * 18, T * 18]
        Covariance of the standardised numbers of a series within regions, by which missing ones are
        completed.
    reference : buffer of shape [R, d]
        Points of some series of the learning, in the space of the first network's axes alone.
    usual_distance : buffer of shape []
        Distance to the nearest of them that 99% of the learning's series keep, see
        docs/explanation/strong.md.
    networks : ModuleList of KernelNetwork
        The networks; their parameters are frozen.
    names : tuple of str
        Label names as given.
    normalization : Normalization or None
        Preparation of the series that it was learned on.
    """

    mean: Tensor
    scale: Tensor
    covariance: Tensor
    reference: Tensor
    usual_distance: Tensor

    def __init__(
        self,
        steps: int,
        networks: int,
        dimensions: int,
        width: int,
        names: Sequence[str],
        references: int = 0,
    ) -> None:
        super().__init__()
        features = description_size(steps)
        self.steps, self.names = steps, tuple(names)
        self.normalization: Normalization | None = None
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        size = steps * len(BANDS)
        # as torch.eye, which on meta, where checkpoints are built, loads PyTorch's compiler
        self.register_buffer("covariance", torch.zeros(size, size).fill_diagonal_(1))
        self.register_buffer("reference", torch.zeros(references, dimensions))
        self.register_buffer("usual_distance", torch.ones(()))
        outputs = len(CLASSES) + len(self.names)
        self.networks = nn.ModuleList(
            KernelNetwork(features, dimensions, width, outputs) for _ in range(networks)
        )
        self.requires_grad_(False)

    @property
    def members(self) -> list[KernelNetwork]:
        """The networks as a list."""
        return [network for network in self.networks if isinstance(network, KernelNetwork)]

    def describe_task(self, classification_label: str | None, target_label: str | None) -> Tensor:
        """Return the numbers that describe a task "label against the rest", float32 [O].

        One for its FAO class, or 1/9 for each crop class where the task is crop versus non-crop;
        and one for the label's name. Classes and names that are unknown count as none.

        Parameters
        ----------
        classification_label
            One of `timl.data.CLASSES`, "crop" for crop versus non-crop, or None.
        target_label
            Name of the positives' label, or None.
        """
        return describe_task(classification_label, target_label, self.names)

    def task_mean(
        self, x: NDArray[np.float32], counts: NDArray[np.float64] | None = None
    ) -> NDArray[np.float32]:
        """Return the mean series of a task, around which `complete` expects its missing values.

        Each number is the mean of those that are there and of one more, the learning's mean. So a
        number that no series has is expected as in the learning.

        Parameters
        ----------
        x : float32 array of shape [n, T, 18]
            Normalised series of the task, with NaN where a value is missing.
        counts : float64 array of shape [n]
            How many samples each series stands for; by default one.

        Returns
        -------
        float32 array of shape [T, 18]

        Raises
        ------
        ValueError
            If the shape is another, or a value is infinite.
        """
        self._require_series(x)
        each = np.ones(len(x)) if counts is None else counts
        own = np.nansum(each[:, None, None] * x, axis=0, dtype=np.float64)
        size = x.shape[1] * x.shape[2]
        learned = self.mean[:size].double().cpu().numpy().reshape(own.shape)
        mean: NDArray[np.float32] = (own + learned) / (
            1 + (each[:, None, None] * ~np.isnan(x)).sum(axis=0)
        )
        return mean.astype(np.float32)

    def complete(
        self, x: NDArray[np.float32], task_mean: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Replace the missing values of series by what is expected of them given the others.

        The expectation is linear in the values that are there: see docs/explanation/strong.md.
        Values that are there stay as they are; in the expectation those further than 8 standard
        deviations from the task's mean count as 8.

        Parameters
        ----------
        x : float32 array of shape [n, T, 18]
            Normalised series, with NaN where a value is missing.
        task_mean : float32 array of shape [T, 18]
            Mean series of the task, see `task_mean`.

        Returns
        -------
        float32 array of shape [n, T, 18]
            `x` itself where nothing is missing, else a copy without NaN.

        Raises
        ------
        ValueError
            If the shape is another, a value is infinite, or nothing is there of a series.
        """
        self._require_series(x)
        flat = x.reshape(len(x), -1)
        missing = np.isnan(flat)
        if not missing.any():
            return x
        if empty := int(missing.all(axis=1).sum()):
            raise ValueError(
                f"x is of shape {list(x.shape)} with {empty} series of NaN alone: leave them out"
            )
        mean = task_mean.reshape(-1).astype(np.float64)
        scale = self.scale[: len(mean)].double().cpu().numpy()
        rows = np.flatnonzero(missing.any(axis=1))
        deviations = ((flat[rows] - mean) / scale).clip(-MOST_DEVIATIONS, MOST_DEVIATIONS)
        expected = conditional_means(deviations, self.covariance.double().cpu().numpy())
        completed: NDArray[np.float32] = flat.copy()
        completed[rows] = np.where(missing[rows], expected * scale + mean, flat[rows])
        return completed.reshape(x.shape)

    def _require_series(self, x: NDArray[np.float32]) -> None:
        """Raise ValueError unless these are series [n, T, 18] of finite values and NaN."""
        if x.ndim != 3 or x.shape[1:] != (self.steps, len(BANDS)):
            raise ValueError(
                f"x is of shape {list(x.shape)}: give [n, {self.steps}, {len(BANDS)}], like the "
                f"series that the deep kernel was learned on"
            )
        if infinite := int(np.isinf(x).sum()):
            raise ValueError(
                f"x is of shape {list(x.shape)} with {infinite} infinite values: give NaN where a "
                f"value is missing"
            )

    def standardize(self, described: NDArray[np.floating]) -> Tensor:
        """Return descriptions [n, D] with the scale of the learning's, float64 [n, D]."""
        mean, scale = (buffer.double().cpu() for buffer in (self.mean, self.scale))
        return ((torch.from_numpy(described) - mean) / scale).clamp(
            -MOST_DEVIATIONS, MOST_DEVIATIONS
        )

    @torch.no_grad()
    def embed(self, x: Tensor, tasks: Tensor) -> Iterator[tuple[Head, Tensor, Tensor]]:
        """Yield each network's head, points [n, d] and prior means [K, n], float64 on the CPU.

        Parameters
        ----------
        x : float64 tensor of shape [n, D]
            Standardised descriptions.
        tasks : tensor of shape [K, O]
            Numbers that describe the task, or each of its classes against the rest.
        """
        for network in self.members:
            exact = copy.deepcopy(network).to("cpu", torch.float64)
            points, prior = exact(x, tasks.to("cpu", torch.float64))
            yield exact.head, points, prior.expand(len(tasks), -1)

    def configuration(self) -> dict[str, Any]:
        """Return the arguments that build a kernel like this one."""
        first = self.members[0]
        return {
            "steps": self.steps,
            "networks": len(self.networks),
            "dimensions": first.axes.shape[1],
            "width": len(first.hidden_bias),
            "names": list(self.names),
            "references": len(self.reference),
        }

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `config.json` into a folder, which is made where needed."""
        checkpoint.write(
            folder, "DeepKernel", self.configuration(), self.state_dict(), self.normalization
        )

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> DeepKernel:
        """Read a deep kernel that `save_pretrained` wrote, on the CPU.

        Raises
        ------
        FileNotFoundError
            If a file is missing.
        ValueError
            If a file is truncated, foreign, or of another kind of model; the message names it.
        """
        return checkpoint.build(cls, "DeepKernel", checkpoint.read(folder))


def describe_task(
    classification_label: str | None, target_label: str | None, names: Sequence[str]
) -> Tensor:
    """Return the numbers that describe a task, see `DeepKernel.describe_task`."""
    numbers = torch.zeros(len(CLASSES) + len(names))
    if classification_label == CROP or classification_label in CLASSES:
        numbers[: len(CLASSES)] = torch.from_numpy(class_numbers(classification_label))
    if target_label in names:
        numbers[len(CLASSES) + names.index(target_label)] = 1
    return numbers


def similarity(points: Tensor, labelled: Tensor, length: Tensor) -> Tensor:
    """Return exp(-squared distance / length) of points [*, n, d] and [*, m, d], [*, n, m]."""
    squared = (
        (points**2).sum(-1, keepdim=True)
        + (labelled**2).sum(-1).unsqueeze(-2)
        - 2 * points @ labelled.mT
    )
    return torch.exp(-squared.clamp_min(0) / length)


def class_weights(targets: Tensor, counts: Tensor | None = None) -> Tensor:
    """Return weights of labels with targets 1, -1 and, for padding, 0, all of shape [*, n].

    Labels of the rarer class weigh 1, those of the other as much in all: more labels of one class
    do not move the border between the classes. Where `counts` [*, n] are given, a label stands for
    so many.
    """
    each = torch.ones_like(targets) if counts is None else counts
    positives = (each * (targets > 0)).sum(-1, keepdim=True)
    negatives = (each * (targets < 0)).sum(-1, keepdim=True)
    rarer = torch.minimum(positives, negatives)
    return each * torch.where(targets > 0, rarer / positives, rarer / negatives)


def fit_ridge(
    points: Tensor, prior: Tensor, targets: Tensor, head: Head, counts: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Fit the kernel ridge regression to labels.

    It solves (K + D) a = t - (m - level), with K the similarities, D the ridge over each label's
    weight, t the targets, m the prior means, and level their weighted mean.

    Parameters
    ----------
    points : tensor of shape [*, n, d]
        Points of the labelled series.
    prior : tensor of shape [*, n]
        Their prior means.
    targets : tensor of shape [*, n]
        1 for positives, -1 for negatives, 0 for padding.
    head
        Constants of the regression.
    counts : tensor of shape [*, n]
        How many samples each label stands for; by default one.

    Returns
    -------
    coefficients : tensor of shape [*, n]
        Coefficients a, 0 for padding.
    level : tensor of shape [*]
        Mean of the prior means of positives and of negatives.
    """
    weight, given = class_weights(targets, counts), targets.abs()
    total = (weight * given).sum(-1, keepdim=True)
    level = (prior * weight * given).sum(-1, keepdim=True) / total
    diagonal = torch.where(targets != 0, head.ridge / weight, 1.0)
    similar = similarity(points, points, head.length) * given.unsqueeze(-1) * given.unsqueeze(-2)
    left = (targets - (prior - level)) * given
    coefficients = torch.linalg.solve(similar + torch.diag_embed(diagonal), left)
    return coefficients, level.squeeze(-1)


def fit_ridge_classes(
    points: Tensor, prior: Tensor, of_class: Tensor, head: Head, counts: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Fit the kernel ridge regressions of several classes, by one solve.

    It solves (K + D) a_k = u_k - (m_k - level_k) with u_k 1 for the labels of class k and 0 for the
    others, and D the ridge times the labels of a class over those of the rarest. The difference of
    two classes' regressions is what `fit_ridge` fits to one against the other, but that the labels
    of other classes are there too, as labels of neither.

    Parameters
    ----------
    points : tensor of shape [n, d]
        Points of the labelled series.
    prior : tensor of shape [K, n]
        Their prior means for each class.
    of_class : int64 tensor of shape [n]
        Their classes.
    head
        Constants of the regression.
    counts : tensor of shape [n]
        How many samples each label stands for; by default one.

    Returns
    -------
    coefficients : tensor of shape [K, n]
    levels : tensor of shape [K]
        Means of the prior means over classes.
    """
    member = functional.one_hot(of_class, len(prior)).to(points)  # [n, K]
    each = points.new_ones(len(points)) if counts is None else counts
    totals = each @ member
    levels = ((prior * each) @ member / totals).mean(dim=1)
    weight = each * (totals.min() / totals)[of_class]
    left = member - (prior - levels[:, None]).T
    system = similarity(points, points, head.length) + torch.diag(head.ridge / weight)
    return torch.linalg.solve(system, left).T, levels


def ridge_logits(
    points: Tensor,
    prior: Tensor,
    labelled: Tensor,
    coefficients: Tensor,
    level: Tensor,
    head: Head,
) -> Tensor:
    """Return scale (k(z, Z) a + m(z) - level) of points [*, q, d] and prior means [*, q], [*, q].

    `labelled` [*, n, d], `coefficients` [*, n] and `level` [*] are those of `fit_ridge`.
    """
    similar = similarity(points, labelled, head.length)
    learned = (similar @ coefficients.unsqueeze(-1)).squeeze(-1)
    return head.scale * (learned + prior - level.unsqueeze(-1))
