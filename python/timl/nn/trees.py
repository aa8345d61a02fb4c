"""Fitted forest of decision trees as arrays, for files and prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Trees(nn.Module):
    """Binary decision trees whose predictions are averaged.

    Parameters
    ----------
    trees, nodes
        Number of trees, and of the nodes of all of them together.

    Attributes
    ----------
    roots : int64 buffer of shape [trees]
        First node of each tree.
    left, right : int64 buffers of shape [nodes]
        Children of each node; both children of a leaf are the leaf itself.
    feature : int64 buffer of shape [nodes]
        Index of the feature that a node compares.
    threshold : buffer of shape [nodes]
        Greatest value of that feature that goes to the left.
    value : buffer of shape [nodes]
        Share of positives among a node's samples.
    """

    roots: Tensor
    left: Tensor
    right: Tensor
    feature: Tensor
    threshold: Tensor
    value: Tensor

    def __init__(self, trees: int, nodes: int) -> None:
        super().__init__()
        self.register_buffer("roots", torch.zeros(trees, dtype=torch.int64))
        for name in ("left", "right", "feature"):
            self.register_buffer(name, torch.zeros(nodes, dtype=torch.int64))
        for name in ("threshold", "value"):
            self.register_buffer(name, torch.zeros(nodes))

    @classmethod
    def from_fitted(cls, fitted: Sequence[Any]) -> Trees:
        """Return a copy of fitted scikit-learn trees of classes 0 and 1, such as a forest's."""
        parts = [tree.tree_ for tree in fitted]
        sizes = [part.node_count for part in parts]
        starts = np.cumsum([0, *sizes[:-1]])
        made = cls(len(parts), sum(sizes))
        for part, start, size in zip(parts, starts.tolist(), sizes, strict=True):
            nodes = slice(start, start + size)
            leaf = part.children_left < 0
            own = np.arange(size)
            for name, child in (("left", part.children_left), ("right", part.children_right)):
                getattr(made, name)[nodes] = torch.from_numpy(start + np.where(leaf, own, child))
            made.feature[nodes] = torch.from_numpy(np.where(leaf, 0, part.feature).astype(np.int64))
            # rounded down, so that the same float32 values go to the left as before
            rounded = part.threshold.astype(np.float32)
            rounded = np.where(
                rounded > part.threshold, np.nextafter(rounded, np.float32(-np.inf)), rounded
            )
            made.threshold[nodes] = torch.from_numpy(rounded)
            votes = part.value[:, 0]
            made.value[nodes] = torch.from_numpy((votes[:, 1] / votes.sum(axis=1)).astype("f4"))
        made.roots.copy_(torch.from_numpy(starts))
        return made

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the trees' mean share of positives, float64 [n], for features [n, D]."""
        left, right, feature, threshold, value = (
            buffer.cpu().numpy()
            for buffer in (self.left, self.right, self.feature, self.threshold, self.value)
        )
        node = np.broadcast_to(self.roots.cpu().numpy(), (len(x), len(self.roots)))
        rows = np.arange(len(x))[:, None]
        while (left[node] != node).any():
            goes_left = x[rows, feature[node]] <= threshold[node]
            node = np.where(goes_left, left[node], right[node])
        share: NDArray[np.float64] = value[node].astype(np.float64).mean(axis=1)
        return share
