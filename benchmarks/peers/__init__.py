"""The other ways to take the same meta-step, and the form in which all of them are timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor


class Gradients(NamedTuple):
    """Results of a meta-step as flat vectors, in the order of `timl.parameters`."""

    loss: Tensor
    """Query losses, [N]."""
    weights: Tensor
    """Gradient of the mean loss by the weights, [P]."""
    film: Tensor
    """Gradient of the mean loss by each task's FiLM values, [N, Phi]."""


@dataclass(frozen=True)
class Contender:
    """One way to take the meta-step on a fixed meta-batch."""

    name: str
    step: Callable[[float], Any]
    """One meta-step with this inner step size, from losses to gradients: what is timed."""
    gradients: Callable[[Any], Gradients]
    """The step's results as flat vectors: not timed."""
    compiles: bool = False
    """Whether the first step compiles."""
