"""The loss: readable twin of `cpp/src/cpu/loss.h`, and what training in PyTorch minimises."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def mean_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean loss of logits: their binary cross entropy; differentiable to any order.

    Parameters
    ----------
    logits : floating tensor of shape [B]
    labels : tensor of shape [B], of the dtype of `logits`
        0 or 1.

    Returns
    -------
    tensor of shape []
    """
    return functional.binary_cross_entropy_with_logits(logits, labels)
