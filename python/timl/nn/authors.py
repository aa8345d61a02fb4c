"""The names of the tensors in the authors' published state dicts, and the way there and back.

Their LSTM has one linear layer a gate, on the bands followed by the hidden units; their classifier
counts a normalisation's batches in each normalisation; their encoder has one linear layer for each
gamma and beta.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from timl.parameters import Shape, counts, film_shapes, identity_film

# the authors' names in the order of our rows: input, forget, candidate, output
_GATES = ("update_gate", "forget_gate", "update_candidates", "output_gate")
_AUTHORS_ORDER = ("forget_gate", "update_gate", "update_candidates", "output_gate")


def _gate(name: str) -> str:
    return f"base.0.rnn.{name}.0"


def _normalisation(layer: int) -> str:
    """Return their name of the normalisation before dense layer `layer` (from 0)."""
    return "batchnorm" if layer == 0 else f"global_classifier.{layer - 1}.2"


def _film_layer(name: str) -> str:
    """Return their name of the linear layer of the FiLM values `gamma_l` or `beta_l`."""
    kind, number = name.split("_")
    return f"task_embedding_{number}_{kind}.{'linear' if number == '0' else '0'}"


def classifier_shapes(bands: int, hidden: int, layers: int) -> dict[str, Shape]:
    """Return the names and shapes of a classifier's tensors, in the authors' order."""
    shapes: dict[str, Shape] = {}
    for gate in _AUTHORS_ORDER:
        shapes[f"{_gate(gate)}.weight"] = (hidden, bands + hidden)
        shapes[f"{_gate(gate)}.bias"] = (hidden,)

    def add_normalisation(layer: int) -> None:
        shapes[f"{_normalisation(layer)}.running_mean"] = (hidden,)
        shapes[f"{_normalisation(layer)}.running_var"] = (hidden,)
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
        They are not those of the authors' classifier.
    """
    weight = state.get(f"{_gate('forget_gate')}.weight")
    layers = 0
    while f"global_classifier.{layers}.0.weight" in state:
        layers += 1
    if weight is None or weight.ndim != 2 or layers == 0:
        raise ValueError(
            f"not the authors' classifier: it needs '{_gate('forget_gate')}.weight' [H, F + H] "
            f"and 'global_classifier.0.0.weight', and has {list(state)[:4]} ..."
        )
    hidden, inputs = weight.shape
    if inputs <= hidden:
        raise ValueError(
            f"'{_gate('forget_gate')}.weight' must be [H, F + H], but is {[hidden, inputs]}"
        )
    return {"bands": inputs - hidden, "hidden": hidden, "layers": layers}


def encoder_configuration(state: dict[str, Tensor], bands: int) -> dict[str, Any]:
    """Infer the encoder's sizes (info_size, encoder_sizes, steps) from its tensors.

    Raises
    ------
    ValueError
        They are not those of the authors' encoder.
    """
    blocks: list[Tensor] = []
    while (weight := state.get(f"initial_encoder.{4 * len(blocks)}.weight")) is not None:
        blocks.append(weight)
    film = state.get(f"{_film_layer('gamma_0')}.weight")
    if film is None or not blocks or any(weight.ndim != 2 for weight in (film, *blocks)):
        raise ValueError(
            f"not the authors' encoder: it needs 'initial_encoder.0.weight' and "
            f"'{_film_layer('gamma_0')}.weight', and has {list(state)[:4]} ..."
        )
    if film.shape[0] % bands:
        raise ValueError(
            f"'{_film_layer('gamma_0')}.weight' {list(film.shape)} must have a multiple of the "
            f"classifier's {bands} bands as rows"
        )
    return {
        "info_size": blocks[0].shape[1],
        "encoder_sizes": [weight.shape[0] for weight in blocks],
        "steps": film.shape[0] // bands,
    }


def from_authors(
    classifier: dict[str, Tensor], encoder: dict[str, Tensor] | None, configuration: dict[str, Any]
) -> dict[str, Tensor]:
    """Return a model's state dict from the authors' pair, whose shapes have been checked."""
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
        "classifier.running_mean": statistics("running_mean"),
        "classifier.running_var": statistics("running_var"),
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
    """Return the authors' pair of state dicts from a model's; the second empty for no encoder."""
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
        for name in ("running_mean", "running_var"):
            named[f"{_normalisation(layer)}.{name}"] = state[f"classifier.{name}"][layer]
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
