"""The demonstration's map of a scene, and the crop's area from it and a sample of the truth."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from timl.area import assess_map, draw_sample, open_map
from timl.data import LabelledData, Scene, read_export

_SAMPLE = 200
"""Pixels of the reference sample, half of them mapped as the crop."""


@dataclass(frozen=True)
class Area:
    """Area of a crop in hectares: estimated from a sample, counted in the map, and true."""

    estimate: float
    """Stratified estimate, see `timl.area.estimate_area`."""
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


def estimate_area(map: Path, scene: Scene, target: str, seed: int) -> Area:
    """Estimate a crop's area from a sample of the truth, stratified by the mapped class.

    Parameters
    ----------
    map
        GeoTIFF of the map, with the band "class".
    scene
        Scene that was mapped.
    target
        Name of the crop.
    seed
        Seed of the sample.
    """
    number = next(value for value, label in scene.legend.items() if label == target)
    points = draw_sample(map, _SAMPLE, allocation="equal", seed=seed).points
    with open_map(scene.truth, 1) as truth:
        covers = truth.classes_at(points["lat"].to_numpy(), points["lon"].to_numpy())
        _, true = truth.class_sizes()
    with open_map(map) as mapped:
        _, counted = mapped.class_sizes()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*stratum")  # a class without any error in the sample
        table = points.assign(reference=[int(cover == number) for cover in covers])
        found = assess_map(map, table).to_frame()
    crop = found.loc[1] if 1 in found.index else dict.fromkeys(("area", "area_low", "area_high"), 0)
    return Area(
        estimate=float(crop["area"]),
        low=float(crop["area_low"]),
        high=float(crop["area_high"]),
        counted=counted.get(1, 0.0),
        true=true.get(number, 0.0),
        sample=len(points),
    )
