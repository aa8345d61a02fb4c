"""Statistics that series of your own are made comparable by: those of a model or its data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timl.bands import BANDS
from timl.data.record.ndvi import NDVI_BANDS
from timl.model_folders import STATISTICS
from timl.normalization import HasNormalization, HasStatistics, read_normalization


def statistics_of(
    like: HasStatistics | HasNormalization | Mapping[str, Any] | str | Path,
) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    """Return the mean, std and NDVI that the series must be comparable to."""
    fields = ("mean", "std", "ndvi")
    given = f"a {type(like).__name__}"
    told: Any = like
    if isinstance(like, str | Path):
        given, told = f"the model {like}", read_normalization(like)
    elif hasattr(like, "normalization"):
        told = like.normalization
    if told is None:
        raise ValueError(
            f"like is {given} that does not know how its series were prepared (its normalization "
            f"is None): give the data set that it was trained on, or copy the record's "
            f"{STATISTICS} beside the authors' files"
        )
    if isinstance(told, Mapping):
        found = {field: told[field] for field in fields if field in told}
    else:
        found = {field: getattr(told, field) for field in fields if hasattr(told, field)}
    if len(found) < len(fields):
        raise TypeError(
            f"like is {given} without mean, std and ndvi: give the model, or the data set that "
            "it was trained on"
        )
    mean, std = (np.asarray(found[field], np.float64) for field in ("mean", "std"))
    if mean.shape != (len(BANDS),) or std.shape != (len(BANDS),):
        raise ValueError(
            f"like has mean {list(mean.shape)} and std {list(std.shape)}: give both of shape "
            f"[{len(BANDS)}]"
        )
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise ValueError(
            f"like has mean {mean.tolist()} and std {std.tolist()}: give finite numbers, and std "
            f"above 0"
        )
    if found["ndvi"] not in NDVI_BANDS:
        raise ValueError(
            f"like has the NDVI {found['ndvi']!r}, which cannot be computed for new places: give a "
            "mapping of mean, std and ndvi, ndvi 'record' (CropHarvest's record) or 'true'"
        )
    return mean, std, str(found["ndvi"])
