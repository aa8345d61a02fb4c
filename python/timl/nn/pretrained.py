"""Reading a folder that may hold either kind of model."""

from __future__ import annotations

from pathlib import Path

from timl.nn import checkpoint
from timl.nn.classifier import Classifier
from timl.nn.timl import TIML


def load_pretrained(folder: str | Path) -> TIML | Classifier:
    """Read the model in a folder, whichever it is, in evaluation mode and on the CPU.

    Raises
    ------
    FileNotFoundError, ValueError
        As `timl.TIML.from_pretrained`.
    """
    stored = checkpoint.read(folder)
    if stored.kind == "Classifier":
        return checkpoint.build(Classifier, "Classifier", stored)
    return checkpoint.build(TIML, "TIML", stored)
