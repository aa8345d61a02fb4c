"""Checkpoint of a training run: one safetensors file, written whole, that holds no code."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from timl.files import atomic_write
from timl.meta.configuration import differences
from timl.meta.history import TrainingHistory
from timl.nn import TIML

CHECKPOINT = "checkpoint.safetensors"
_HEADER = "timl"
_FORMAT = {"format": "timl training run", "version": 1}


@dataclass
class State:
    """Everything that changes while a run trains."""

    model: TIML
    """Model that is trained."""
    optimizer: torch.optim.Optimizer
    """Optimizer of its parameters."""
    history: TrainingHistory
    """Losses and AUC ROC of the epochs that are done."""
    best: dict[str, Tensor]
    """State of the model in the best epoch; empty as long as there is none."""


@dataclass(frozen=True)
class Snapshot:
    """Copy of a state between two epochs, ready to be written."""

    tensors: dict[str, Tensor]
    """Tensors of model, optimizer, history and best model, by name."""
    header: dict[str, Any]
    """Numbers of epochs and description of the run, as JSON takes them."""


def take_snapshot(state: State, run: dict[str, Any]) -> Snapshot:
    """Copy a state; `run` is the description of the run by `describe_run`."""
    tensors = {f"model.{name}": t for name, t in copy_model(state.model).items()}
    for index, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": t.clone() for name, t in moments.items()}
    tensors |= {f"best.{name}": t for name, t in state.best.items()}
    history = state.history
    for name, array in history.arrays().items():
        tensors[f"history.{name}"] = torch.from_numpy(array)
    header = {
        **_FORMAT,
        "epochs": history.epochs,
        "best_epoch": history.best_epoch,
        "run": run,
    }
    return Snapshot(tensors, header)


def copy_model(model: TIML) -> dict[str, Tensor]:
    """Return a copy of a model's state."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def write_checkpoint(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot, whole or not at all."""
    from safetensors.torch import save

    data = save(snapshot.tensors, metadata={_HEADER: json.dumps(snapshot.header)})
    with atomic_write(path) as file:
        file.write(data)


def read_checkpoint(path: Path, state: State, run: dict[str, Any]) -> None:
    """Restore a state from a checkpoint.

    Raises
    ------
    ValueError
        If the file is truncated or foreign, or belongs to a run of other options, sizes or data,
        which the message names.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(metadata.get(_HEADER, "{}"))
    except (SafetensorError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is truncated or not a checkpoint ({error}): delete it, or give resume=False"
        ) from error
    if (
        not isinstance(header, dict)
        or not isinstance(header.get("run"), dict)
        or any(header.get(name) != value for name, value in _FORMAT.items())
    ):
        raise ValueError(
            f"{path} is not a checkpoint of a training run of version {_FORMAT['version']}: give "
            f"another out, or resume=False"
        )
    _compare(path, header["run"], json.loads(json.dumps(run)))
    try:
        restore_snapshot(state, Snapshot(tensors, header))
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{path} is not of this run's state ({error}): delete it, or give resume=False"
        ) from error


def _compare(path: Path, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    differing = differences(stored, wanted)
    if differing:
        values = ", ".join(f"{name} = {a!r} (now {b!r})" for name, (a, b) in differing.items())
        raise ValueError(
            f"{path} is of a run with {values}: give the same to resume it, another out, or "
            f"resume=False to start over"
        )


def restore_snapshot(state: State, snapshot: Snapshot) -> None:
    """Give a state what a snapshot of the same run has."""
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "best": {}, "history": {}}
    for name, tensor in snapshot.tensors.items():
        part, rest = name.split(".", 1)
        parts[part][rest] = tensor
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        index, moment = name.split(".")
        moments.setdefault(int(index), {})[moment] = tensor
    state.model.load_state_dict(parts["model"])
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    state.best = parts["best"]
    arrays = {name: tensor.numpy() for name, tensor in parts["history"].items()}
    header = snapshot.header
    state.history.restore(header["epochs"], header["best_epoch"], arrays)
