"""The strong protocol's classifier: readable twin of `describe` and `strong_evaluate`, in float64.

docs/explanation/strong.md has the formulas.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from timl.bands import BANDS

MOST_DEVIATIONS = 8.0
"""Greatest absolute value of a standardised number: sensors and clouds make outliers."""
LEAST_STEPS = 4
"""Time steps that a series needs to be described."""
INDEX_PAIRS = (
    ("B8", "B4"),  # NDVI, whatever index the record's own column holds
    ("B8", "B11"),  # moisture of leaves
    ("B3", "B8"),  # open water
    ("B11", "B12"),  # residue and tillage
    ("B8", "B5"),  # chlorophyll at the red edge
    ("B3", "B11"),  # flooding and snow
    ("B8A", "B5"),  # chlorophyll, from the narrow near infrared
)
"""Bands (p, q) of the normalised differences (p - q) / (p + q)."""
INDICES = len(INDEX_PAIRS) + 1
"""Number of vegetation indices: the normalised differences and EVI."""
MEASURED = 13
"""Number of bands, the first of a series: radar and optical. Their seasons are described too."""
STATISTICS = 7
"""Number of statistics of the year."""
_REFLECTANCE = 1e4
"""Digital number that Sentinel-2 gives a reflectance of 1."""


def describe(x: Tensor, bands: Tensor) -> Tensor:
    """Describe series by their numbers, vegetation indices, and order statistics of the year.

    Parameters
    ----------
    x : tensor of shape [n, T, 18]
        Normalised series of the record's bands, T at least 4.
    bands : tensor of shape [2, 18]
        Mean and standard deviation with which they were normalised.

    Returns
    -------
    float64 tensor of shape [n, T * 18 + T * 8 + 7 * (8 + 13)]
        The values in a row; eight indices of each month; and for each index and measured band
        mean, standard deviation, minimum, maximum, the two quartiles of the year, and the mean
        absolute change from month to month.
    """
    series, (mean, deviation) = x.double(), bands.double()
    indices = _indices(series * deviation + mean)
    parts = (series.flatten(1), indices.flatten(1), _year(indices), _year(series[..., :MEASURED]))
    return torch.cat(parts, dim=1)


def _indices(measured: Tensor) -> Tensor:
    """Return the seven normalised differences and EVI of each month, [n, T, 8]."""
    band = {name: measured[..., number] for number, name in enumerate(BANDS)}
    made = [
        ((band[p] - band[q]) / (band[p] + band[q]).clamp_min(1)).clamp(-1, 1)
        for p, q in INDEX_PAIRS
    ]
    below = band["B8"] + 6 * band["B4"] - 7.5 * band["B2"] + _REFLECTANCE
    made.append((2.5 * (band["B8"] - band["B4"]) / below.clamp_min(1)).clamp(-1, 2))
    return torch.stack(made, dim=-1)


def _year(values: Tensor) -> Tensor:
    """Return seven statistics of the year of [n, T, C], [n, 7 C]."""
    quarter = values.shape[1] // 4
    ordered = values.sort(dim=1).values
    return torch.cat(
        [
            values.mean(dim=1),
            values.std(dim=1, correction=0),
            ordered[:, 0],
            ordered[:, -1],
            ordered[:, quarter],
            ordered[:, -1 - quarter],
            values.diff(dim=1).abs().mean(dim=1),
        ],
        dim=1,
    )


def strong_evaluate(
    x: Tensor,
    bands: Tensor,
    columns: Tensor,
    axes: Tensor,
    hidden_weight: Tensor,
    hidden_vectors: Tensor,
    point_weight: Tensor,
    heads: Tensor,
    points: Tensor,
    coefficients: Tensor,
    roots: Tensor,
    left: Tensor,
    right: Tensor,
    feature: Tensor,
    threshold: Tensor,
    value: Tensor,
    known: Tensor | None,
    constants: Tensor,
) -> tuple[Tensor, Tensor]:
    """Compute the logits of a fitted classifier, and distances to what it knows.

    Parameters
    ----------
    x : tensor of shape [B, T, 18]
        Normalised series.
    bands : tensor of shape [2, 18]
        Mean and standard deviation with which they were normalised.
    columns : tensor of shape [2, D]
        Mean and scale of the descriptions.
    axes, hidden_weight, point_weight : tensors of shape [M, D, d], [M, W, D], [M, d, W]
        Matrices of the networks.
    hidden_vectors : tensor of shape [M, 3 + K, W]
        Bias of the hidden layer, gain and bias of its normalisation, and the weights of the prior
        mean of each of K outputs; K is 1 for two classes.
    heads : tensor of shape [M, 2 + K]
        Length, scale and levels of the regressions.
    points : tensor of shape [M, n, d]
        Points of the labelled series.
    coefficients : tensor of shape [M, n] with one output, else [M, K, n]
        The regressions' coefficients.
    roots, left, right, feature, threshold, value : tensors of shape [trees], the others [nodes]
        Those of `timl.nn.strong.trees.Trees`; `value` is [nodes, K] with several outputs.
    known : tensor of shape [R, d]
        Points in the space of the first network's axes; None: no distances.
    constants : tensor of shape [3 + K]
        Weight of the kernel, slope, shifts of the logits, and the usual distance.

    Returns
    -------
    logits : float64 tensor of shape [B] with one output, else [B, K]
    distances : float64 tensor of shape [B]
        Distance to the nearest known point over the usual one; of shape [0] without known points.
    """
    described = describe(x, bands)
    mean, scale = columns.double()
    standard = ((described - mean) / scale).clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS)
    kernel = torch.stack(
        [
            network_logits(standard, *(part.double() for part in network))
            for network in zip(
                axes,
                hidden_weight,
                hidden_vectors,
                point_weight,
                heads,
                points,
                coefficients,
                strict=True,
            )
        ]
    ).mean(dim=0)
    votes = len(roots) * tree_votes(
        described.float(), roots, left, right, feature, threshold, value
    )
    forest = torch.log(votes + 0.5)
    if votes.dim() == 1:
        forest = forest - torch.log(len(roots) - votes + 0.5)
    weight, slope, *shifts, usual = constants.double()
    shift = torch.stack(shifts) if votes.dim() == 2 else shifts[0]
    logits = slope * (weight * kernel + forest) + shift
    if known is None:
        return logits, logits.new_empty(0)
    apart = torch.cdist(
        standard @ axes[0].double(),
        known.double(),
        compute_mode="donot_use_mm_for_euclid_dist",
    )
    return logits, apart.min(dim=1).values / usual


def network_logits(
    x: Tensor,
    axes: Tensor,
    hidden_weight: Tensor,
    hidden_vectors: Tensor,
    point_weight: Tensor,
    head: Tensor,
    points: Tensor,
    coefficients: Tensor,
) -> Tensor:
    """Return one network's logits of standardised descriptions [B, D], [B] or [B, K]."""
    length, scale, *levels = head
    z, prior = x @ axes, x.new_zeros(())
    if len(hidden_weight):
        bias, gain, shift, *weights = hidden_vectors
        hidden = functional.linear(x, hidden_weight, bias)
        hidden = functional.gelu(functional.layer_norm(hidden, (len(gain),), gain, shift))
        z, prior = z + hidden @ point_weight.T, hidden @ torch.stack(weights, dim=1)
    apart = torch.cdist(z, points, compute_mode="donot_use_mm_for_euclid_dist")
    rows = coefficients if coefficients.dim() == 2 else coefficients[None]
    learned = torch.exp(-(apart**2) / length) @ rows.T
    logits: Tensor = scale * (learned + prior - torch.stack(levels))  # [B, K]
    return logits if coefficients.dim() == 2 else logits.squeeze(1)


def tree_votes(
    x: Tensor,
    roots: Tensor,
    left: Tensor,
    right: Tensor,
    feature: Tensor,
    threshold: Tensor,
    value: Tensor,
) -> Tensor:
    """Return the trees' mean shares for features [B, D], float64 [B] or [B, K] like `value`."""
    node = roots.expand(len(x), -1)
    while bool((left[node] != node).any()):
        goes_left = x.gather(1, feature[node]) <= threshold[node]
        node = torch.where(goes_left, left[node], right[node])
    share: Tensor = value[node].double().mean(dim=1)
    return share
