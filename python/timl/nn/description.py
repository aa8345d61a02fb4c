"""Features of a series for the strong protocol: values, indices, seasons and hidden states."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from timl.bands import BANDS
from timl.nn.classifier import Classifier
from timl.nn.threads import one_thread
from timl.normalization import Normalization
from timl.parameters import BATCH_NORM_EPSILON, film_shapes, unflatten

_REFLECTANCE = 1e4
"""Digital number that Sentinel-2 gives a reflectance of 1."""
_PAIRS = (
    ("B8", "B4"),  # NDVI, whatever index the record's own column holds
    ("B8", "B11"),  # moisture of leaves
    ("B3", "B8"),  # open water
    ("B11", "B12"),  # residue and tillage
    ("B8", "B5"),  # chlorophyll at the red edge
    ("B3", "B11"),  # flooding and snow
    ("B8A", "B5"),  # chlorophyll, from the narrow near infrared
)
"""Bands (p, q) of the normalised differences (p - q) / (p + q)."""
_MEASURED = 13
"""Number of bands, the first of a series: radar and optical. Their seasons are described too."""


def describe_series(x: NDArray[np.float32], normalization: Normalization) -> NDArray[np.float64]:
    """Describe series by their numbers, vegetation indices, and order statistics of the year.

    Parameters
    ----------
    x : float32 array of shape [n, T, 18]
        Normalised series of the record's bands, T at least 4.
    normalization
        How they were normalised.

    Returns
    -------
    float64 array of shape [n, T * 18 + T * 8 + 7 * (8 + 13)]
        The values in a row; eight indices of each month; and for each index and measured band
        mean, standard deviation, minimum, maximum, the two quartiles of the year, and the mean
        absolute change from month to month, which hardly depend on when the season begins.

    Raises
    ------
    ValueError
        If `x` has another shape.
    """
    if x.ndim != 3 or x.shape[1] < 4 or x.shape[2] != len(BANDS):
        raise ValueError(
            f"x is of shape {list(x.shape)}: give [n, T, {len(BANDS)}], the record's bands, T at "
            f"least 4"
        )
    series = x.astype(np.float64)
    indices = _indices(series * normalization["std"] + normalization["mean"])
    return np.concatenate(
        [
            series.reshape(len(x), -1),
            indices.reshape(len(x), -1),
            _seasons(indices),
            _seasons(series[..., :_MEASURED]),
        ],
        axis=1,
    )


@torch.no_grad()
def hidden_states(classifier: Classifier, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the LSTM's last output for each series, normalised as the dense layers see it.

    Parameters
    ----------
    classifier
        Classifier of the task; its running statistics normalise, whatever its mode is.
    x : float32 array of shape [n, T, bands]
        Normalised series.

    Returns
    -------
    float64 array of shape [n, H]
    """
    like = classifier.input_weight
    # on the meta device first: initial weights would be drawn from PyTorch's generator
    lstm = nn.LSTM(
        like.shape[1], classifier.hidden, batch_first=True, dtype=like.dtype, device="meta"
    ).to_empty(device=like.device)
    for name, value in (
        ("weight_ih_l0", like),
        ("weight_hh_l0", classifier.hidden_weight),
        ("bias_ih_l0", classifier.gate_bias),
        ("bias_hh_l0", torch.zeros_like(classifier.gate_bias)),
    ):
        getattr(lstm, name).copy_(value)
    film = unflatten(
        classifier.film,
        film_shapes(classifier.steps, like.shape[1], classifier.hidden, classifier.layers),
    )
    series = torch.as_tensor(x, dtype=like.dtype, device=like.device)
    if classifier.appended:
        series = classifier.append(series, classifier.information)
    with one_thread():
        output: Tensor = lstm(series * film["gamma_0"] + film["beta_0"])[0][:, -1]
        deviation = torch.sqrt(classifier.running_variance[0] + BATCH_NORM_EPSILON)
        hidden = (output - classifier.running_mean[0]) / deviation
    result: NDArray[np.float64] = hidden.double().cpu().numpy()
    return result


def _indices(measured: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the seven normalised differences and EVI of each month, [n, T, 8]."""
    band = {name: measured[..., number] for number, name in enumerate(BANDS)}
    made = [
        np.clip((band[p] - band[q]) / np.maximum(band[p] + band[q], 1.0), -1, 1) for p, q in _PAIRS
    ]
    below = band["B8"] + 6 * band["B4"] - 7.5 * band["B2"] + _REFLECTANCE
    made.append(np.clip(2.5 * (band["B8"] - band["B4"]) / np.maximum(below, 1.0), -1, 2))
    return np.stack(made, axis=-1)


def _seasons(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return seven statistics of the year of [n, T, C], [n, 7 C]."""
    months = values.shape[1]
    ordered = np.sort(values, axis=1)
    return np.concatenate(
        [
            values.mean(axis=1),
            values.std(axis=1),
            ordered[:, 0],
            ordered[:, -1],
            ordered[:, months // 4],
            ordered[:, -1 - months // 4],
            np.abs(np.diff(values, axis=1)).mean(axis=1),
        ],
        axis=1,
    )
