"""The operators that are exported, in PyTorch's own: such programs run without timl, as ONNX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from timl.reference import film_lstm, network


def _evaluate(
    x: Tensor,
    weights: Tensor,
    film: Tensor,
    running_mean: Tensor,
    running_variance: Tensor,
    hidden: int,
    layers: int,
    outputs: int,
) -> Tensor:
    running = (running_mean, running_variance)
    return network(
        x,
        weights,
        film,
        None,
        *running,
        hidden=hidden,
        layers=layers,
        outputs=outputs,
        batch_statistics=False,
    )[0]


def _network(
    x: Tensor,
    weights: Tensor,
    film: Tensor,
    mask: Tensor | None,
    running_mean: Tensor | None,
    running_variance: Tensor | None,
    hidden: int,
    layers: int,
    outputs: int,
) -> tuple[Tensor, ...]:
    if running_mean is None or running_variance is None or mask is not None:
        raise RuntimeError(
            "the exported classifier is in training mode: call .eval() before torch.export.export"
        )
    logits = _evaluate(x, weights, film, running_mean, running_variance, hidden, layers, outputs)
    nothing = x.new_empty(0, hidden)
    return logits, nothing, nothing, x.new_empty(0)  # the tape is for derivatives alone


def _evaluate_lstm(
    x: Tensor,
    weights: Tensor,
    film: Tensor | None,
    mask: Tensor | None,
    hidden: int,
    every_step: bool,
) -> Tensor:
    return film_lstm(x, weights, film, mask, hidden=hidden, every_step=every_step)


def _lstm(x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return _evaluate_lstm(x, *rest), x.new_empty(0)  # the tape is for derivatives alone


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Return timl's operators of an exported classifier or LSTM in terms of PyTorch's own.

    Give them to `torch.export.ExportedProgram.run_decompositions`: the program then runs where timl
    is not installed, and `torch.onnx.export` takes it. docs/how-to/pytorch.md has an example.

    Returns
    -------
    dict
        Function of each operator; of classifiers in evaluation mode alone.

    Raises
    ------
    RuntimeError
        While decomposing, if the classifier was exported in training mode.
    """
    operators = torch.ops.timl
    return {
        operators.network.default: _network,
        operators.network_evaluate.default: _evaluate,
        operators.film_lstm.default: _lstm,
        operators.film_lstm_evaluate.default: _evaluate_lstm,
    }
