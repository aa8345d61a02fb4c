"""Reader of a folder that may hold any kind of model."""

from __future__ import annotations

from pathlib import Path

from timl.nn import checkpoint
from timl.nn.classifier import Classifier
from timl.nn.strong.classifier import StrongClassifier
from timl.nn.strong.deep_kernel import DeepKernel
from timl.nn.timl import TIML
from timl.normalization import HasStatistics


def load_pretrained(
    folder: str | Path, *, statistics: HasStatistics | None = None
) -> TIML | Classifier | StrongClassifier | DeepKernel:
    """Read the model in a folder, of whichever kind, in evaluation mode and on the CPU.

    Parameters
    ----------
    folder
        Folder of a model, the name of one that `timl.make_model` made, such as "default", or a
        folder with the authors' state dicts.
    statistics
        Data set whose mean, standard deviations and NDVI the model's series have, for a model that
        does not tell, as the authors' (see `TIML.from_pretrained`).

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is truncated or foreign, which the message names, or statistics are given for a
        model that has its own.
    """
    stored = checkpoint.read(folder, statistics)
    if stored.kind == "Classifier":
        return checkpoint.build(Classifier, "Classifier", stored)
    if stored.kind == "StrongClassifier":
        return checkpoint.build(StrongClassifier, "StrongClassifier", stored)
    if stored.kind == "DeepKernel":
        return checkpoint.build(DeepKernel, "DeepKernel", stored)
    if stored.kind != "TIML":
        raise ValueError(
            f"{stored.path} is of the unknown kind {stored.kind!r}: write the model with this "
            f"version of timl, or update timl"
        )
    return checkpoint.build(TIML, "TIML", stored)
