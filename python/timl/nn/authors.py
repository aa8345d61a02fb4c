"""Conversion between this package's state dicts and the authors' published ones.

The authors' LSTM has one linear layer for each gate, on the bands followed by the hidden units;
their classifier counts the batches in each batch normalisation; their encoder has one linear layer
for each gamma and beta.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from timl.parameters import Shape, counts, film_shapes, identity_film

_GATES = ("update_gate", "forget_gate", "update_candidates", "output_gate")
"""The authors' names of the gates input, forget, candidate and output: this package's order."""
_AUTHORS_ORDER = ("forget_gate", "update_gate", "update_candidates", "output_gate")
"""The same names in the order of the authors' state dict."""
_STATISTICS = {"running_mean": "running_mean", "running_variance": "running_var"}
"""This package's names of the running statistics, and the authors', which are PyTorch's."""


def _gate(name: str) -> str:
    return f"base.0.rnn.{name}.0"


def _normalisation(layer: int) -> str:
    """Return the authors' name of the batch normalisation before dense layer `layer`, from 0."""
    return "batchnorm" if layer == 0 else f"global_classifier.{layer - 1}.2"


def _film_layer(name: str) -> str:
    """Return the authors' name of the linear layer of the FiLM values `gamma_l` or `beta_l`."""
    kind, number = name.split("_")
    return f"task_embedding_{number}_{kind}.{'linear' if number == '0' else '0'}"


def classifier_shapes(bands: int, hidden: int, layers: int) -> dict[str, Shape]:
    """Return the names and shapes of a classifier's tensors, in the authors' order."""
    shapes: dict[str, Shape] = {}
    for gate in _AUTHORS_ORDER:
        shapes[f"{_gate(gate)}.weight"] = (hidden, bands + hidden)
        shapes[f"{_gate(gate)}.bias"] = (hidden,)

    def add_normalisation(layer: int) -> None:
        for name in _STATISTICS.values():
            shapes[f"{_normalisation(layer)}.{name}"] = (hidden,)
        shapes[f"{_normalisation(layer)}.num_batches_tracked"] = ()

    add_normalisation(0)
    for layer in range(layers - 1):
        shapes[f"global_classifier.{layer}.0.weight"] = (hidden, hidden)
        add_normalisation(layer + 1)
    shapes[f"global_classifier.{layers - 1}.0.weight"] = (1, hidden)
    shapes[f"global_classifier.{layers - 1}.0.bias"] = (1,)
    return shapes


def encoder_shapes(
    info_size: int, encoder_sizes: list[int], steps: int, bands: int, hidden: int, layers: int
) -> dict[str, Shape]:
    """Return the names and shapes of an encoder's tensors, in the authors' order."""
    shapes: dict[str, Shape] = {}
    inputs = info_size
    for block, outputs in enumerate(encoder_sizes):
        shapes[f"initial_encoder.{4 * block}.weight"] = (outputs, inputs)
        shapes[f"initial_encoder.{4 * block}.bias"] = (outputs,)
        shapes[f"initial_encoder.{4 * block + 2}.weight"] = (outputs,)
        shapes[f"initial_encoder.{4 * block + 2}.bias"] = (outputs,)
        inputs = outputs
    table = film_shapes(steps, bands, hidden, layers)
    for name, size in zip(table, counts(table), strict=True):
        shapes[f"{_film_layer(name)}.weight"] = (size, inputs)
        shapes[f"{_film_layer(name)}.bias"] = (size,)
    return shapes


def classifier_configuration(state: dict[str, Tensor]) -> dict[str, Any]:
    """Infer the classifier's sizes (bands, hidden, layers) from its tensors.

    Raises
    ------
    ValueError
        If the tensors are not those of the authors' classifier.
    """
    weight = state.get(f"{_gate('forget_gate')}.weight")
    layers = 0
    while f"global_classifier.{layers}.0.weight" in state:
        layers += 1
    if weight is None or weight.ndim != 2 or layers == 0:
        raise ValueError(
            f"the state dict is of {list(state)[:4]} ..., not of the authors' classifier: give "
            f"one with '{_gate('forget_gate')}.weight' [H, F + H] and "
            f"'global_classifier.0.0.weight'"
        )
    hidden, inputs = weight.shape
    if inputs <= hidden:
        raise ValueError(
            f"'{_gate('forget_gate')}.weight' is {[hidden, inputs]}: give [H, F + H], F at least 1"
        )
    return {"bands": inputs - hidden, "hidden": hidden, "layers": layers}


def encoder_configuration(state: dict[str, Tensor], bands: int) -> dict[str, Any]:
    """Infer the encoder's sizes (info_size, encoder_sizes, steps) from its tensors.

    Raises
    ------
    ValueError
        If the tensors are not those of the authors' encoder.
    """
    blocks: list[Tensor] = []
    while (weight := state.get(f"initial_encoder.{4 * len(blocks)}.weight")) is not None:
        blocks.append(weight)
    film = state.get(f"{_film_layer('gamma_0')}.weight")
    if film is None or not blocks or any(weight.ndim != 2 for weight in (film, *blocks)):
        raise ValueError(
            f"the state dict is of {list(state)[:4]} ..., not of the authors' encoder: give one "
            f"with 'initial_encoder.0.weight' and '{_film_layer('gamma_0')}.weight'"
        )
    if film.shape[0] % bands:
        raise ValueError(
            f"'{_film_layer('gamma_0')}.weight' is {list(film.shape)}: give a multiple of the "
            f"classifier's {bands} bands as its number of rows"
        )
    return {
        "info_size": blocks[0].shape[1],
        "encoder_sizes": [weight.shape[0] for weight in blocks],
        "steps": film.shape[0] // bands,
    }


def from_authors(
    classifier: dict[str, Tensor], encoder: dict[str, Tensor] | None, configuration: dict[str, Any]
) -> dict[str, Tensor]:
    """Return a model's state dict from the authors' pair, whose shapes are as they must be."""
    bands, hidden, layers = (configuration[name] for name in ("bands", "hidden", "layers"))
    weights = torch.cat([classifier[f"{_gate(gate)}.weight"] for gate in _GATES])  # [4H, F + H]
    biases = [classifier[f"{_gate(gate)}.bias"] for gate in _GATES]

    def statistics(name: str) -> Tensor:
        return torch.stack([classifier[f"{_normalisation(i)}.{name}"] for i in range(layers)])

    state = {
        "classifier.input_weight": weights[:, :bands].contiguous(),
        "classifier.hidden_weight": weights[:, bands:].contiguous(),
        "classifier.gate_bias": torch.cat(biases),
        "classifier.film": identity_film(
            configuration["steps"], bands, hidden, layers, dtype=weights.dtype
        ),
        **{f"classifier.{ours}": statistics(theirs) for ours, theirs in _STATISTICS.items()},
        "classifier.num_batches_tracked": classifier["batchnorm.num_batches_tracked"],
        f"classifier.dense.{layers - 1}.bias": classifier[f"global_classifier.{layers - 1}.0.bias"],
    }
    for layer in range(layers):
        state[f"classifier.dense.{layer}.weight"] = classifier[
            f"global_classifier.{layer}.0.weight"
        ]
    if encoder is None:
        return state
    film = [_film_layer(n) for n in film_shapes(configuration["steps"], bands, hidden, layers)]
    for part in ("weight", "bias"):
        for block in range(len(configuration["encoder_sizes"])):
            state[f"encoder.linears.{block}.{part}"] = encoder[
                f"initial_encoder.{4 * block}.{part}"
            ]
            state[f"encoder.norms.{block}.{part}"] = encoder[
                f"initial_encoder.{4 * block + 2}.{part}"
            ]
        state[f"encoder.head.{part}"] = torch.cat([encoder[f"{name}.{part}"] for name in film])
    return state


def to_authors(
    state: dict[str, Tensor], configuration: dict[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the authors' pair of state dicts from a model's.

    The second is empty for a model without an encoder.
    """
    bands, hidden, layers, steps = (
        configuration[name] for name in ("bands", "hidden", "layers", "steps")
    )
    state = {name: tensor.detach() for name, tensor in state.items()}
    named: dict[str, Tensor] = {}
    weights = torch.cat(
        [state["classifier.input_weight"], state["classifier.hidden_weight"]], dim=1
    )
    for row, gate in enumerate(_GATES):
        rows = slice(row * hidden, (row + 1) * hidden)
        named[f"{_gate(gate)}.weight"] = weights[rows]
        named[f"{_gate(gate)}.bias"] = state["classifier.gate_bias"][rows]
    for layer in range(layers):
        named[f"global_classifier.{layer}.0.weight"] = state[f"classifier.dense.{layer}.weight"]
        for ours, theirs in _STATISTICS.items():
            named[f"{_normalisation(layer)}.{theirs}"] = state[f"classifier.{ours}"][layer]
        counter = f"{_normalisation(layer)}.num_batches_tracked"
        named[counter] = state["classifier.num_batches_tracked"]
    last = layers - 1
    named[f"global_classifier.{last}.0.bias"] = state[f"classifier.dense.{last}.bias"]
    classifier = {name: named[name].clone() for name in classifier_shapes(bands, hidden, layers)}
    if not configuration["encoder"]:
        return classifier, {}

    encoder_sizes = configuration["encoder_sizes"]
    table = film_shapes(steps, bands, hidden, layers)
    for part in ("weight", "bias"):
        for block in range(len(encoder_sizes)):
            linear, norm = f"initial_encoder.{4 * block}", f"initial_encoder.{4 * block + 2}"
            named[f"{linear}.{part}"] = state[f"encoder.linears.{block}.{part}"]
            named[f"{norm}.{part}"] = state[f"encoder.norms.{block}.{part}"]
        pieces = torch.split(state[f"encoder.head.{part}"], counts(table))
        for name, piece in zip(table, pieces, strict=True):
            named[f"{_film_layer(name)}.{part}"] = piece
    shapes = encoder_shapes(configuration["info_size"], encoder_sizes, steps, bands, hidden, layers)
    return classifier, {name: named[name].clone() for name in shapes}
