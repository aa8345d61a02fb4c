"""Files of models: `model.safetensors` with `config.json`, or the authors' pair of files."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor, nn

from timl.files import atomic_write, read_json, remove_leftovers
from timl.model_folders import (
    AUTHORS_CLASSIFIER,
    AUTHORS_ENCODER,
    CONFIGURATION,
    STATISTICS,
    WEIGHTS,
    model_folder,
)
from timl.nn import authors
from timl.normalization import (
    HasStatistics,
    Normalization,
    checked_normalization,
    normalization_of,
    read_statistics,
)
from timl.parameters import Shape

_FORMAT = {"format": "timl", "version": 1}

_FLAGS = ("encoder", "append_information")
"""Arguments of models that are true or false."""
_MOST_LAYERS = 1000

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Checkpoint:
    """Content of a model's folder: how to build the model, and its state."""

    path: Path
    """File of the classifier's tensors, named in messages."""
    kind: str
    """Name of the module's class: "TIML", "Classifier", "DeepKernel" or "StrongClassifier"."""
    configuration: dict[str, Any]
    """Arguments that build the module."""
    tensors: dict[str, Tensor]
    """State dict of the module."""
    normalization: Normalization | None
    """Preparation of its inputs, where it is known."""


def write(
    folder: str | Path,
    kind: str,
    configuration: dict[str, Any],
    tensors: dict[str, Tensor],
    normalization: Normalization | None,
) -> None:
    """Write a model's two files, both or none.

    `config.json` holds the checksum of `model.safetensors`, so that `read` notices an older file
    beside a newer one.

    Raises
    ------
    ValueError
        If a tensor is not finite, the normalising statistics are malformed, or the folder holds
        the authors' files.
    """
    from safetensors.torch import save

    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(
                f"key '{name}' {list(tensor.shape)} of the model has NaN or infinite values: train "
                f"it anew, with smaller steps"
            )
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    stored = None
    if normalization is not None:
        checked = checked_normalization(normalization)
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
    if (folder / AUTHORS_CLASSIFIER).exists():
        raise ValueError(
            f"folder is {folder}, which holds the authors' {AUTHORS_CLASSIFIER}, that would no "
            f"longer be read: give another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    with (
        atomic_write(folder / WEIGHTS) as weights_file,
        atomic_write(folder / CONFIGURATION, "w") as configuration_file,
    ):
        weights_file.write(data)
        weights_file.flush()
        configuration_file.write(text + "\n")


def read(folder: str | Path, statistics: HasStatistics | None = None) -> Checkpoint:
    """Read a folder that `write` made, one with the authors' files, or a model by its name.

    Parameters
    ----------
    folder
        The folder, or the name of one in the user's cache.
    statistics
        Data set whose statistics the model gets, where the folder does not tell its own.

    Raises
    ------
    FileNotFoundError
        If the folder or a file is missing.
    ValueError
        If a file is truncated or foreign, or statistics are given that the folder has already.
    """
    folder = model_folder(folder)
    if (folder / CONFIGURATION).exists() or (folder / WEIGHTS).exists():
        found = _read_own(folder)
    elif (folder / AUTHORS_CLASSIFIER).exists():
        found = _read_authors(folder)
    else:
        _raise_missing(folder)
    if statistics is None:
        return found
    if found.normalization is not None:
        raise ValueError(
            f"statistics is a {type(statistics).__name__}, but {folder} tells how the model's "
            f"series were prepared: leave statistics out"
        )
    return dataclasses.replace(found, normalization=normalization_of(statistics))


def _raise_missing(folder: Path) -> NoReturn:
    """Say that a folder holds no model."""
    raise FileNotFoundError(
        f"folder is {folder}, which holds no model: give one with {WEIGHTS} and {CONFIGURATION}, "
        f"or with the authors' {AUTHORS_CLASSIFIER} and {AUTHORS_ENCODER}"
    )


def build(model: type[Model], kind: str, checkpoint: Checkpoint) -> Model:
    """Return a model with the checkpoint's tensors, in evaluation mode and on the CPU.

    Raises
    ------
    ValueError
        If the checkpoint is of another kind, or its configuration builds no model or one of other
        tensors.
    """
    if checkpoint.kind != kind:
        raise ValueError(
            f"{checkpoint.path} is of a {checkpoint.kind}, not of a {kind}: read it with "
            f"{checkpoint.kind}.from_pretrained"
        )
    _check_sizes(checkpoint)
    try:
        with torch.device("meta"):
            built = model(**checkpoint.configuration)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{checkpoint.path} is of the configuration {checkpoint.configuration}, which builds "
            f"no model ({error}): write the model again"
        ) from error
    state = built.state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in state.items()}
    integers = {n: t.dtype for n, t in state.items() if not t.is_floating_point()}
    _check(checkpoint.path, checkpoint.tensors, expected, integers)
    built.load_state_dict(checkpoint.tensors, assign=True)
    _check_bands(checkpoint)
    built.normalization = checkpoint.normalization  # type: ignore[assignment]
    return built.eval()


def _check_sizes(checkpoint: Checkpoint) -> None:
    """Raise ValueError if a model would be larger than its tensors, before it is built.

    Every layer has a tensor, and every unit, band or step has a number in some tensor.
    """
    largest = max((tensor.numel() for tensor in checkpoint.tensors.values()), default=0)
    count = min(len(checkpoint.tensors), _MOST_LAYERS)

    def check(name: str, value: Any) -> None:
        most = count if name.endswith(("layers", "networks", "learned_steps")) else largest
        if isinstance(value, dict):
            for key, inner in value.items():
                check(f"{name}.{key}", inner)
        elif isinstance(value, list):
            numbers = [item for item in value if not isinstance(item, str)]
            if len(numbers) > count or len(value) > largest:
                raise ValueError(
                    f"{checkpoint.path.with_name(CONFIGURATION)}: {name} has {len(value)} entries, "
                    f"but {checkpoint.path.name} {len(checkpoint.tensors)} tensors of at most "
                    f"{largest} numbers: write the model again"
                )
            for item in numbers:
                check(name, item)
        elif isinstance(value, int) and not isinstance(value, bool) and not 0 <= value <= most:
            raise ValueError(
                f"{checkpoint.path.with_name(CONFIGURATION)}: {name} is {value}, but "
                f"{checkpoint.path.name} has {len(checkpoint.tensors)} tensors of at most "
                f"{largest} numbers: write the model again"
            )

    for name, value in checkpoint.configuration.items():
        check(name, value)
        flag = name in _FLAGS
        if flag != isinstance(value, bool):
            raise ValueError(
                f"{checkpoint.path.with_name(CONFIGURATION)}: {name} is {value!r}: give "
                f"{'true or false' if flag else 'no truth value'}"
            )


def _check_bands(checkpoint: Checkpoint) -> None:
    """Raise ValueError if the statistics are of another number of bands than the model."""
    bands = checkpoint.configuration.get("bands")
    normalization = checkpoint.normalization
    if normalization is not None and bands not in (None, len(normalization["mean"])):
        raise ValueError(
            f"{checkpoint.path.with_name(CONFIGURATION)}: normalization is of "
            f"{len(normalization['mean'])} bands, the model of {bands}: give the same for both"
        )


def _read_own(folder: Path) -> Checkpoint:
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = folder / CONFIGURATION
    for file in (path, folder / WEIGHTS):
        if not file.exists():
            raise FileNotFoundError(f"{file} is missing: write the model again")
    stored = read_json(path, "write the model again")
    if not isinstance(stored, dict) or any(stored.get(k) != v for k, v in _FORMAT.items()):
        raise ValueError(
            f"{path} is not of a timl model of version {_FORMAT['version']}: give the folder of one"
        )
    if not isinstance(stored.get("kind"), str) or not isinstance(stored.get("model"), dict):
        raise ValueError(
            f"{path} is of kind {stored.get('kind')!r} and model {stored.get('model')!r}: give a "
            f"name as 'kind', and the model's arguments as 'model'"
        )
    data = (folder / WEIGHTS).read_bytes()
    if hashlib.sha256(data).hexdigest() != stored.get("sha256"):
        raise ValueError(
            f"{folder / WEIGHTS} ({len(data)} bytes) is truncated or belongs to another "
            f"{CONFIGURATION}, whose checksum differs: write the model again"
        )
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ValueError(
            f"{folder / WEIGHTS} is not a safetensors file ({error}): write the model again"
        ) from error
    normalization = stored.get("normalization")
    try:
        normalization = None if normalization is None else checked_normalization(normalization)
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
    statistics = folder / STATISTICS
    normalization = read_statistics(statistics) if statistics.exists() else None
    return Checkpoint(path, "TIML", configuration, tensors, normalization)


def _load_state_dict(path: Path) -> dict[str, Tensor]:
    """Load a state dict that `torch.save` wrote, without executing pickled code."""
    data = io.BytesIO(path.read_bytes())
    try:
        with warnings.catch_warnings():  # of versions of pickle, which an error says too
            warnings.simplefilter("ignore")
            state = torch.load(data, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes raise errors of many kinds
        # PyTorch's own text would advise to run what the file holds
        raise ValueError(
            f"{path} is truncated or not a state dict of tensors ({type(error).__name__}): "
            f"download it again"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        raise ValueError(f"{path} is of a {type(state).__name__}: give a state dict of tensors")
    return state


def _check(
    path: Path,
    tensors: dict[str, Tensor],
    expected: dict[str, Shape],
    integers: dict[str, torch.dtype] | None = None,
) -> None:
    """Raise ValueError unless these are the expected names and shapes, and all values finite.

    `integers` has the types of the tensors of integers, by name.
    """
    integers = integers or {}
    types = set()
    for name, shape in expected.items():
        tensor = tensors.get(name)
        if tensor is None:
            raise ValueError(f"{path}: key '{name}' is missing: give a tensor {list(shape)}")
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{path}: key '{name}' is {list(tensor.shape)}: give {list(shape)}")
        if tensor.dtype != integers.get(name, tensor.dtype):
            raise ValueError(f"{path}: key '{name}' is {tensor.dtype}: give {integers[name]}")
        if name.endswith(("num_batches_tracked", "running_variance")) and bool((tensor < 0).any()):
            raise ValueError(f"{path}: key '{name}' is negative: give numbers of at least 0")
        if name in integers or name.endswith("num_batches_tracked"):
            continue
        types.add(tensor.dtype)
        if types not in ({torch.float32}, {torch.float64}):
            raise ValueError(
                f"{path}: key '{name}' is {tensor.dtype}: give all as float32 or all as float64"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{path}: key '{name}' has NaN or infinite values: give finite ones")
    for name in sorted(set(tensors) - set(expected)):
        raise ValueError(
            f"{path}: key '{name}' {list(tensors[name].shape)} is unknown: leave it out"
        )
