"""Models on disk: our `model.safetensors` with `config.json`, and the authors' pair of files."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from timl.files import atomic_write
from timl.nn import authors
from timl.parameters import Shape

if TYPE_CHECKING:
    from timl.normalization import Normalization

WEIGHTS, CONFIGURATION = "model.safetensors", "config.json"
AUTHORS_CLASSIFIER, AUTHORS_ENCODER = "state_dict.pth", "encoder_state_dict.pth"
_FORMAT = {"format": "timl", "version": 1}

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Checkpoint:
    """What a folder holds: how to build the model, and its state."""

    path: Path
    """The file with the classifier's tensors, for messages."""
    kind: str
    """The name of the module's class: "TIML" or "Classifier"."""
    configuration: dict[str, Any]
    tensors: dict[str, Tensor]
    normalization: Normalization | None


def write(
    folder: str | Path,
    kind: str,
    configuration: dict[str, Any],
    tensors: dict[str, Tensor],
    normalization: Normalization | None,
) -> None:
    """Write a model's two files, both or none.

    `config.json` holds the checksum of `model.safetensors`: an older file beside a newer one is
    noticed on reading.

    Raises
    ------
    ValueError
        The normalising statistics are malformed.
    """
    from safetensors.torch import save

    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    stored = None
    if normalization is not None:
        checked = _normalization(normalization)
        stored = {**checked, "mean": checked["mean"].tolist(), "std": checked["std"].tolist()}
    text = json.dumps(
        {
            **_FORMAT,
            "kind": kind,
            "model": configuration,
            "normalization": stored,
            "sha256": hashlib.sha256(data).hexdigest(),
        },
        indent=2,
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (
        atomic_write(folder / WEIGHTS) as weights_file,
        atomic_write(folder / CONFIGURATION, "w") as configuration_file,
    ):
        weights_file.write(data)
        weights_file.flush()
        configuration_file.write(text + "\n")


def read(folder: str | Path) -> Checkpoint:
    """Read a folder in our format, else one with the authors' files.

    Raises
    ------
    FileNotFoundError
        The folder or a file is missing.
    ValueError
        A file is truncated or foreign.
    """
    folder = Path(folder)
    if (folder / CONFIGURATION).exists() or (folder / WEIGHTS).exists():
        return _read_ours(folder)
    if (folder / AUTHORS_CLASSIFIER).exists():
        return _read_authors(folder)
    raise FileNotFoundError(
        f"{folder} holds no model: give a folder with {WEIGHTS} and {CONFIGURATION}, or with the "
        f"authors' {AUTHORS_CLASSIFIER} and {AUTHORS_ENCODER}"
    )


def build(model: type[Model], kind: str, checkpoint: Checkpoint) -> Model:
    """Return a model with the checkpoint's tensors, in evaluation mode and on the CPU.

    Raises
    ------
    ValueError
        The checkpoint is of another kind, or its configuration builds no model, or one of other
        tensors.
    """
    if checkpoint.kind != kind:
        raise ValueError(
            f"{checkpoint.path} holds a {checkpoint.kind}, not a {kind}: read it with "
            f"{checkpoint.kind}.from_pretrained"
        )
    try:
        with torch.device("meta"):
            built = model(**checkpoint.configuration)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{checkpoint.path}: its configuration {checkpoint.configuration} builds no model: "
            f"{error}"
        ) from error
    state = built.state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in state.items()}
    whole = {n: t.dtype for n, t in state.items() if not t.is_floating_point()}
    _check(checkpoint.path, checkpoint.tensors, expected, whole)
    built.load_state_dict(checkpoint.tensors, assign=True)
    built.normalization = checkpoint.normalization  # type: ignore[assignment]
    return built.eval()


def _read_ours(folder: Path) -> Checkpoint:
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = folder / CONFIGURATION
    for file in (path, folder / WEIGHTS):
        if not file.exists():
            raise FileNotFoundError(f"{file} is missing: {folder} holds only half a model")
    try:
        stored = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): write the model again") from error
    if not isinstance(stored, dict) or any(stored.get(k) != v for k, v in _FORMAT.items()):
        raise ValueError(f"{path} is not a timl model of version {_FORMAT['version']}")
    if not isinstance(stored.get("kind"), str) or not isinstance(stored.get("model"), dict):
        raise ValueError(f"{path}: its key 'kind' must be a name, 'model' the model's arguments")
    data = (folder / WEIGHTS).read_bytes()
    if hashlib.sha256(data).hexdigest() != stored.get("sha256"):
        raise ValueError(
            f"{folder / WEIGHTS} ({len(data)} bytes) is truncated or belongs to another "
            f"{CONFIGURATION}: its checksum differs from the one there"
        )
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} is no safetensors file: {error}") from error
    normalization = stored.get("normalization")
    try:
        normalization = None if normalization is None else _normalization(normalization)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return Checkpoint(folder / WEIGHTS, stored["kind"], stored["model"], tensors, normalization)


def _read_authors(folder: Path) -> Checkpoint:
    path = folder / AUTHORS_CLASSIFIER
    classifier = _load_state_dict(path)
    try:
        configuration = authors.classifier_configuration(classifier)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    _check(path, classifier, authors.classifier_shapes(**configuration))
    encoder = None
    encoder_path = folder / AUTHORS_ENCODER
    if encoder_path.exists():
        encoder = _load_state_dict(encoder_path)
        try:
            configuration |= authors.encoder_configuration(encoder, configuration["bands"])
        except ValueError as error:
            raise ValueError(f"{encoder_path}: {error}") from error
        _check(encoder_path, encoder, authors.encoder_shapes(**configuration))
    configuration = {"steps": 12, **configuration, "encoder": encoder is not None}
    tensors = authors.from_authors(classifier, encoder, configuration)
    return Checkpoint(path, "TIML", configuration, tensors, None)


def _load_state_dict(path: Path) -> dict[str, Tensor]:
    """Load a state dict that torch.save wrote, without executing pickled code."""
    data = io.BytesIO(path.read_bytes())
    try:
        state = torch.load(data, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes raise errors of many kinds
        reason = str(error).split("\n", 1)[0]
        raise ValueError(f"{path} is truncated or no state dict: {reason}") from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        raise ValueError(f"{path} holds a {type(state).__name__}, not a state dict of tensors")
    return state


def _check(
    path: Path,
    tensors: dict[str, Tensor],
    expected: dict[str, Shape],
    whole: dict[str, torch.dtype] | None = None,
) -> None:
    """Raise ValueError unless these are the expected names and shapes, and all values finite.

    Those that hold whole numbers have the types that are given.
    """
    types = set()
    for name, shape in expected.items():
        tensor = tensors.get(name)
        if tensor is None:
            raise ValueError(f"{path}: key '{name}' {list(shape)} is missing")
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f"{path}: key '{name}' has shape {list(tensor.shape)}, expected {list(shape)}"
            )
        if whole and name in whole and tensor.dtype != whole[name]:
            raise ValueError(f"{path}: key '{name}' is {tensor.dtype}, expected {whole[name]}")
        if (whole and name in whole) or name.endswith("num_batches_tracked"):
            continue
        types.add(tensor.dtype)
        if types not in ({torch.float32}, {torch.float64}):
            raise ValueError(
                f"{path}: key '{name}' is {tensor.dtype}, expected all float32 or all float64"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{path}: key '{name}' holds NaN or infinite values")
    for name in sorted(set(tensors) - set(expected)):
        raise ValueError(f"{path}: key '{name}' {list(tensors[name].shape)} is unknown")


def _normalization(normalization: Any) -> Normalization:
    """Return checked statistics: mean and std as float64 [bands], std positive, the NDVI kind."""
    if not isinstance(normalization, dict) or set(normalization) != {"mean", "std", "ndvi"}:
        raise ValueError(
            f"normalization must be a dict of 'mean', 'std' and 'ndvi', but is {normalization!r}"
        )
    mean, std = (np.asarray(normalization[k], dtype=np.float64) for k in ("mean", "std"))
    if mean.ndim != 1 or mean.shape != std.shape:
        raise ValueError(
            f"normalization's mean and std must both be [bands], "
            f"but are {list(mean.shape)} and {list(std.shape)}"
        )
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise ValueError("normalization's mean and std must be finite, and std positive")
    if not isinstance(normalization["ndvi"], str):
        raise ValueError(f"normalization's ndvi must be a name, but is {normalization['ndvi']!r}")
    return {"mean": mean, "std": std, "ndvi": normalization["ndvi"]}
