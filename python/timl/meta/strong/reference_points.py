"""Points that the distance to what training knew is measured to, and its unit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timl import random
from timl.meta.strong.constants import USUAL_SHARE
from timl.nn import DeepKernel
from timl.random import Purpose

_AT_ONCE = 4096
"""Number of series whose distances are computed at once."""


def draw_reference(
    kernel: DeepKernel, regions: Sequence[Tensor], axes: NDArray[np.float64], seed: int
) -> None:
    """Fill a deep kernel's reference points, and the distance that other series keep to them.

    Each series' distance is that to the nearest reference of another region; where there is one
    region, of another series. The usual distance is the 99% quantile of them.

    Parameters
    ----------
    kernel
        Deep kernel whose `reference` and `usual_distance` are written.
    regions : float64 tensors of shape [n, D]
        Standardised descriptions of each region's series.
    axes : array of shape [D, d]
        Axes of the first network.
    seed
        Seed of the draw.
    """
    points = torch.cat(list(regions)).double() @ torch.from_numpy(axes)
    owner = torch.repeat_interleave(torch.tensor([len(region) for region in regions]))
    if len(regions) == 1:
        owner = torch.arange(len(points))
    order = random.permutation(len(points), seed=seed, purpose=Purpose.KERNEL_REFERENCE)
    drawn = torch.from_numpy(order[: len(kernel.reference)])
    kernel.reference.copy_(points[drawn])
    nearest = []
    for part, own in zip(torch.split(points, _AT_ONCE), torch.split(owner, _AT_ONCE), strict=True):
        apart = torch.cdist(part, points[drawn])
        apart[own[:, None] == owner[drawn]] = torch.inf
        nearest.append(apart.min(dim=1).values)
    least = torch.cat(nearest).numpy()
    kept = least[np.isfinite(least)]
    usual = float(np.quantile(kept, USUAL_SHARE)) if len(kept) else 0.0
    kernel.usual_distance.fill_(usual or 1.0)
