"""Normalising statistics of series: what is kept with a model, and its checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import NotRequired, TypedDict

from timl.files import read_json
from timl.model_folders import CONFIGURATION, STATISTICS, model_folder

NDVI_KINDS = ("record", "true", "unknown", "as given")
"""What an NDVI column may hold: see `timl.data.record.ndvi`, and "as given" of arrays."""


class Normalization(TypedDict):
    """Preparation of the series that a model was trained on: (series - mean) / std."""

    mean: NDArray[np.float64]
    """Mean of each band, [bands]."""
    std: NDArray[np.float64]
    """Standard deviation of each band, above 0, [bands]."""
    ndvi: str
    """Name of the index that the NDVI column holds."""
    start_months: NotRequired[list[int]]
    """Calendar months, 1 to 12, in which the series start, in order; absent where unknown."""


class HasStatistics(Protocol):
    """Data set with normalising statistics."""

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean of each band, [bands]."""

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation of each band, [bands]."""

    @property
    def ndvi(self) -> str:
        """Name of the index that the NDVI column holds."""


class HasNormalization(Protocol):
    """Model that keeps how its series were prepared."""

    @property
    def normalization(self) -> Normalization | None:
        """Preparation of the model's series, None where it is not known."""


def normalization_of(data: HasStatistics, normalized: bool = True) -> Normalization:
    """Return a data set's statistics, or mean 0 and std 1 where its series stay as measured.

    The months in which its series start are told by a data set with an attribute `start_months`.
    """
    mean, std = data.mean.copy(), data.std.copy()
    if not normalized:
        mean, std = np.zeros_like(mean), np.ones_like(std)
    made = Normalization(mean=mean, std=std, ndvi=data.ndvi)
    months: list[int] | None = getattr(data, "start_months", None)
    if months is not None:
        made["start_months"] = list(months)
    return made


def checked_normalization(given: Any) -> Normalization:
    """Return statistics with mean and std as float64 [bands].

    Raises
    ------
    ValueError
        If they are no dictionary of 'mean', 'std', 'ndvi' and, where known, 'start_months', mean
        and std are not finite numbers of one shape [bands], std is not above 0, ndvi is none
        of `NDVI_KINDS`, or start_months is no list of months.
    """
    if not isinstance(given, dict) or set(given) - {"start_months"} != {"mean", "std", "ndvi"}:
        raise ValueError(
            f"normalization is {given!r}: give a dict of 'mean', 'std', 'ndvi' and, where known, "
            f"'start_months'"
        )
    try:
        mean, std = (np.asarray(given[name], dtype=np.float64) for name in ("mean", "std"))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"normalization is of mean {given['mean']!r} and std {given['std']!r}: give numbers"
        ) from error
    if mean.ndim != 1 or mean.shape != std.shape:
        raise ValueError(
            f"normalization is of mean {list(mean.shape)} and std {list(std.shape)}: give [bands] "
            f"for both"
        )
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise ValueError(
            f"normalization is of mean {mean.tolist()} and std {std.tolist()}: give finite "
            f"numbers, and std above 0"
        )
    if given["ndvi"] not in NDVI_KINDS:
        raise ValueError(
            f"normalization is of ndvi {given['ndvi']!r}: give one of {', '.join(NDVI_KINDS)}"
        )
    made = Normalization(mean=mean, std=std, ndvi=given["ndvi"])
    if "start_months" in given:
        months = given["start_months"]
        if not isinstance(months, list) or not all(
            type(month) is int and 1 <= month <= 12 for month in months
        ):
            raise ValueError(
                f"normalization is of start_months {months!r}: give a list of months, 1 to 12"
            )
        made["start_months"] = months
    return made


def read_statistics(path: str | Path) -> Normalization:
    """Read the record's file of mean and standard deviation of each band.

    The series of the authors' record carry the NDVI "record".

    Raises
    ------
    ValueError
        If the file is damaged or of something else.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            mean, std = np.asarray(file["mean"][:]), np.asarray(file["std"][:])
        return checked_normalization({"mean": mean, "std": std, "ndvi": "record"})
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path} is no file of statistics ({error}): give the record's {STATISTICS}, with mean "
            f"and std [bands]"
        ) from error


def read_normalization(model: str | Path) -> Normalization | None:
    """Read how the series of a model were prepared, from its folder or by its name.

    Returns
    -------
    Normalization or None
        None where the folder does not tell: of the authors' models, unless the record's
        normalizing_dict.h5 is beside them.

    Raises
    ------
    FileNotFoundError
        If there is no such model.
    ValueError
        If a file is damaged or of something else.
    """
    folder = model_folder(model)
    path = folder / CONFIGURATION
    if path.exists():
        stored = read_json(path, "write the model again")
        given = stored.get("normalization") if isinstance(stored, dict) else None
        return None if given is None else checked_normalization(given)
    if not folder.is_dir():
        raise FileNotFoundError(f"model is {folder}, which is no folder: give that of a model")
    statistics = folder / STATISTICS
    return read_statistics(statistics) if statistics.exists() else None
