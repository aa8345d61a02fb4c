"""The LSTM with FiLM at its input, in plain PyTorch; formulas: docs/explanation/meta-step.md."""

from __future__ import annotations

import torch
from torch import Tensor

from timl.parameters import lstm_shapes, unflatten


def film_lstm(
    x: Tensor,
    weights: Tensor,
    film: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    hidden: int,
    every_step: bool = True,
) -> Tensor:
    """Compute the hidden states of a batch; differentiable to any order, in any floating type.

    Parameters
    ----------
    x : floating tensor of shape [B, T, F]
        Series. All tensors have its dtype.
    weights : tensor of shape [W]
        In the order of `timl.parameters.lstm_shapes`.
    film : tensor of shape [2, T, F]
        Factors gamma and summands beta of the input; None for the input as it is.
    mask : tensor of shape [B, H]
        Variational dropout mask of 0 and 1 / (1 - rate), by which the hidden state of every step is
        multiplied; None for no dropout.
    hidden
        H.
    every_step
        Return the hidden states of every step, or of the last alone.

    Returns
    -------
    tensor of shape [B, T, H], of the last step alone [B, H]
        The state before the first step is zero.
    """
    w = unflatten(weights, lstm_shapes(x.shape[2], hidden))
    modulated = x if film is None else x * film[0] + film[1]  # [B, T, F]
    hd = c = x.new_zeros(x.shape[0], hidden)  # [B, H]
    states = []
    for t in range(x.shape[1]):
        a = (
            modulated[:, t] @ w["input_weight"].T + hd @ w["hidden_weight"].T + w["gate_bias"]
        )  # [B, 4H]
        i, f, g, o = a.chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        hd = torch.sigmoid(o) * torch.tanh(c)
        if mask is not None:
            hd = hd * mask
        states.append(hd)
    return torch.stack(states, dim=1) if every_step else hd
