"""Folders of models: the names that stand for some in the user's cache, and the files in them."""

from __future__ import annotations

import re
from pathlib import Path

from timl.files import user_cache

WEIGHTS, CONFIGURATION = "model.safetensors", "config.json"
AUTHORS_CLASSIFIER, AUTHORS_ENCODER = "state_dict.pth", "encoder_state_dict.pth"
STATISTICS = "normalizing_dict.h5"
"""The record's file of mean and standard deviation of each band, where it is beside a model."""

DEFAULT_MODEL = "default"
"""Name of the model that `timl model` makes where no other is given."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")


def named_folder(name: str) -> Path:
    """Return the folder in the user's cache that a name stands for, whether it exists or not.

    Raises
    ------
    ValueError
        If the name is not of 1 to 80 letters, digits, - and _.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"name is {name!r}: give 1 to 80 letters, digits, - and _")
    return user_cache() / "models" / name


def model_folder(model: str | Path) -> Path:
    """Return the folder of a model: the one given or, where there is none, the one of that name.

    Raises
    ------
    FileNotFoundError
        If there is neither.
    """
    folder, text = Path(model), str(model)
    if folder.exists() or not _NAME.fullmatch(text):
        return folder
    named = named_folder(text)
    if (named / CONFIGURATION).exists():
        return named
    option = "" if text == DEFAULT_MODEL else f" --name {text}"
    raise FileNotFoundError(
        f"model is {text!r}, and there is neither a folder {text} nor a model of that name: make "
        f"it by timl model{option}, or copy the folder of a finished one (with {WEIGHTS} and "
        f"{CONFIGURATION}) to {named}"
    )
