"""The loss: readable twin of `cpp/src/common/loss.h`, and what training in PyTorch minimises."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

IGNORED_LABEL = -1
"""Label of a sample that counts for nothing."""


def mean_loss(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Return the mean loss of logits: their cross entropy; differentiable to any order.

    Parameters
    ----------
    logits : floating tensor of shape [B] or [B, K]
        Of one output, whose sigmoid is the probability of class 1; or of K classes.
    labels : tensor of shape [B], of the dtype of `logits`
        0 or 1 with one output, else classes 0 to K - 1; -1 for a sample that counts for nothing.
    class_weights : tensor of shape [2] or [K]
        Weights of the classes, by which the mean is weighted; None for ones.

    Returns
    -------
    tensor of shape []
        0 where every label is -1.
    """
    counted = (labels != IGNORED_LABEL).to(logits.dtype)
    classes = labels.clamp(min=0)
    if logits.dim() == 1:
        losses = functional.binary_cross_entropy_with_logits(logits, classes, reduction="none")
    else:
        losses = functional.cross_entropy(logits, classes.long(), reduction="none")
    weights = counted if class_weights is None else counted * class_weights[classes.long()]
    total = weights.sum()
    return (weights * losses).sum() / torch.where(total > 0, total, 1)
