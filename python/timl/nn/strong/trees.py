"""Fitted forest of decision trees as arrays, for files and prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Trees(nn.Module):
    """Binary decision trees whose predictions are averaged.

    Parameters
    ----------
    trees, nodes
        Number of trees, and of the nodes of all of them together.
    outputs
        1 for the trees of two classes, else the number K of classes.

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
    value : buffer of shape [nodes], or [nodes, K] with K outputs
        Share of positives among a node's samples, or the shares of K classes.
    """

    roots: Tensor
    left: Tensor
    right: Tensor
    feature: Tensor
    threshold: Tensor
    value: Tensor

    def __init__(self, trees: int, nodes: int, outputs: int = 1) -> None:
        super().__init__()
        self.register_buffer("roots", torch.zeros(trees, dtype=torch.int64))
        for name in ("left", "right", "feature"):
            self.register_buffer(name, torch.zeros(nodes, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(nodes))
        self.register_buffer("value", torch.zeros(nodes if outputs == 1 else (nodes, outputs)))

    @property
    def arrays(self) -> tuple[Tensor, ...]:
        """Roots, left, right, feature, threshold and value, as the operator takes them."""
        return self.roots, self.left, self.right, self.feature, self.threshold, self.value

    @classmethod
    def from_fitted(cls, fitted: Sequence[Any], outputs: int = 1) -> Trees:
        """Return a copy of fitted scikit-learn trees, such as a forest's.

        With one output their classes are 0 and 1, else 0 to outputs - 1.
        """
        parts = [tree.tree_ for tree in fitted]
        sizes = [part.node_count for part in parts]
        starts = np.cumsum([0, *sizes[:-1]])
        made = cls(len(parts), sum(sizes), outputs)
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
            shares = (votes / votes.sum(axis=1, keepdims=True)).astype("f4")
            made.value[nodes] = torch.from_numpy(shares[:, 1] if outputs == 1 else shares)
        made.roots.copy_(torch.from_numpy(starts))
        return made
