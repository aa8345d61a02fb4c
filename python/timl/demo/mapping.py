"""The demonstration's map of a scene, and the crop's area from it and a sample of the truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from timl.data import LabelledData, read_export
from timl.data.own.exports import import_rasterio
from timl.data.simulator.draws import Draws, Level, Stream
from timl.evaluation import probabilities
from timl.nn import Classifier, StrongClassifier

_BATCH = 4096
_SAMPLE = 200
"""Pixels of the reference sample, half of them mapped as the crop."""
_QUANTILE = 1.96
"""Of the standard normal distribution, for intervals of 95 %."""


@dataclass(frozen=True)
class Area:
    """Area of a crop in hectares: estimated from a sample, counted in the map, and true."""

    estimate: float
    """Stratified estimate (Olofsson et al. 2014, equation 9)."""
    low: float
    """Lower end of its 95 % interval."""
    high: float
    """Upper end of its 95 % interval."""
    counted: float
    """Area of the pixels that the map calls the crop: biased by the map's errors."""
    true: float
    """Area by the truth of all pixels, which outside a simulation nobody has."""
    sample: int
    """Number of pixels whose truth was looked up."""


def scene_series(export: Path, like: LabelledData) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Return the series of an export, normalised as a data set's, [n, 12, 18], and its shape."""
    read = read_export(export, like.ndvi)
    series = ((read.series - like.mean) / like.std).astype(np.float32)
    return series, (read.height, read.width)


def predict(
    classifier: Classifier | StrongClassifier, series: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the probabilities of many series, [n], in batches."""
    parts = [
        probabilities(classifier, series[start : start + _BATCH])
        for start in range(0, len(series), _BATCH)
    ]
    return np.concatenate(parts)


def write_map(path: Path, probability: NDArray[np.float64], export: Path) -> None:
    """Write a map of class and probability, on the pixels of an export.

    Parameters
    ----------
    path
        GeoTIFF to write.
    probability : float64 array of shape [h, w]
        Probability of each pixel.
    export
        GeoTIFF with the same pixels.
    """
    rasterio = import_rasterio()
    with rasterio.open(export) as source:
        profile = {"crs": source.crs, "transform": source.transform}
    height, width = probability.shape
    temporary = path.with_name(f".{path.name}")
    with rasterio.open(
        temporary,
        "w",
        driver="GTiff",
        dtype="float32",
        count=2,
        height=height,
        width=width,
        nodata=np.nan,
        compress="deflate",
        **profile,
    ) as file:
        file.descriptions = ["class", "probability"]
        file.write(np.stack([probability >= 0.5, probability]).astype(np.float32))
    temporary.replace(path)


def estimate_area(
    mapped: NDArray[np.bool_], truth: NDArray[np.bool_], hectares: float, seed: int
) -> Area:
    """Estimate a crop's area from a sample of the truth, stratified by the mapped class.

    Parameters
    ----------
    mapped, truth : bool arrays of shape [h, w]
        Whether each pixel is mapped as the crop, and whether it is.
    hectares
        Area of a pixel.
    seed
        Seed of the sample.
    """
    share, variance = 0.0, 0.0
    draws = Draws(seed, level=Level.SCENE)
    order = draws.permutation(Stream.REFERENCE_SAMPLE, truth.size)
    for stratum in (mapped.ravel(), ~mapped.ravel()):
        sample = truth.ravel()[order[stratum[order]][: _SAMPLE // 2]]
        if len(sample) < 2:
            continue
        weight, found = stratum.mean(), sample.mean()
        share += weight * found
        variance += weight**2 * found * (1 - found) / (len(sample) - 1)
    half = _QUANTILE * np.sqrt(variance)
    low, middle, high, counted, true = (
        float(part) * truth.size * hectares
        for part in (max(share - half, 0), share, min(share + half, 1), mapped.mean(), truth.mean())
    )
    return Area(middle, low, high, counted, true, _SAMPLE)
