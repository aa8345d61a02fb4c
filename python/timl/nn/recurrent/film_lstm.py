"""LSTM layer with FiLM at its input and exact second derivatives, in place of torch.nn.LSTM."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from timl.nn import operators
from timl.nn.checks import require_finite, require_rate, require_sizes, require_tensor
from timl.parameters import flatten


class FiLMLSTM(nn.Module):
    """LSTM over series, differentiable twice; its parameters are those of `torch.nn.LSTM`.

    It computes what `torch.nn.LSTM(..., batch_first=True)` computes: a state dict of either loads
    into the other, and both draw the same initial parameters from the same generator. Besides it
    takes FiLM values for its input (Perez et al., "FiLM: Visual Reasoning with a General
    Conditioning Layer", 2018) and a variational dropout mask (Gal and Ghahramani, "A Theoretically
    Grounded Application of Dropout in Recurrent Neural Networks", 2016). Forward, backward and
    double backward run in the engine, on the CPU or on CUDA.

    Unlike `torch.nn.LSTM` it returns the hidden states alone, starts from a state of zero, and
    runs in one direction; `dropout` is that of the hidden state itself, in every layer.

    Parameters
    ----------
    input_size
        Number F of values of each step.
    hidden_size
        Number H of units of each layer.
    num_layers
        Number of layers, each of which takes the hidden states of the one before.
    bias
        Whether the gates have biases.
    dropout
        Rate of the variational dropout, in [0, 1): a unit that is dropped is so at every step of a
        series. The attribute may be changed at any time.
    return_sequences
        Return the hidden states of every step, or of the last alone.
    device, dtype
        Of the parameters: float32 or float64.

    Attributes
    ----------
    weight_ih_l0, weight_hh_l0 : parameters of shape [4H, F] and [4H, H]
        Weights of the first layer; those of the next end in `_l1`, and so on, the first of shape
        [4H, H]. Gates in the order input, forget, candidate, output.
    bias_ih_l0, bias_hh_l0 : parameters of shape [4H]
        Biases, whose sum enters the gates; only with `bias`.

    Raises
    ------
    ValueError
        If a size is no integer of at least 1, or the dropout rate is not in [0, 1).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        *,
        dropout: float = 0.0,
        return_sequences: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_sizes(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        require_rate("dropout", dropout)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.dropout, self.return_sequences = bias, dropout, return_sequences
        rows = 4 * hidden_size
        for layer in range(num_layers):
            shapes = {
                "weight_ih": (rows, hidden_size if layer else input_size),
                "weight_hh": (rows, hidden_size),
                **({"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}),
            }
            for name, shape in shapes.items():
                values = torch.empty(shape, device=device, dtype=dtype)
                self.register_parameter(f"{name}_l{layer}", nn.Parameter(values))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every parameter anew from PyTorch's generator, uniform in +-1/sqrt(H)."""
        bound = self.hidden_size**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def flat_weights(self, layer: int) -> Tensor:
        """Return a layer's parameters as one vector [W], the two biases summed.

        Gradients flow through it into the parameters.

        Parameters
        ----------
        layer
            Number of the layer, from 0 on.

        Returns
        -------
        tensor of shape [W]
            In the order of `timl.parameters.lstm_shapes`.
        """
        weights = [getattr(self, f"weight_{of}_l{layer}") for of in ("ih", "hh")]
        if self.bias:
            bias = getattr(self, f"bias_ih_l{layer}") + getattr(self, f"bias_hh_l{layer}")
        else:
            bias = weights[0].new_zeros(4 * self.hidden_size)
        return flatten([*weights, bias])

    def forward(self, x: Tensor, film: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Compute the hidden states of a batch.

        Parameters
        ----------
        x : tensor of shape [B, T, F]
            Series, of the parameters' dtype and device.
        film : tensor of shape [2, T, F]
            FiLM values of the whole batch: the first layer takes `x * film[0] + film[1]`. None for
            `x` as it is. Values that are the same at every step can be expanded to this shape.
        mask : tensor of shape [num_layers, B, H]
            Variational dropout masks of 0 and 1 / (1 - rate), by which the layers' hidden states
            are multiplied at every step. By default they are drawn from PyTorch's generator in
            training mode, and there are none in evaluation mode.

        Returns
        -------
        tensor of shape [B, T, H], or [B, H] without `return_sequences`
            Hidden states of the last layer.

        Raises
        ------
        TypeError
            If an argument is no tensor or of another dtype than the parameters.
        ValueError
            If a shape or device is wrong, or `x` is empty or has NaN or infinite values.
        """
        like = cast(Tensor, self.weight_ih_l0)
        x = require_tensor("x", x, ("B", "T", self.input_size), like=like)
        batch, steps, _ = x.shape
        if batch == 0 or steps == 0:
            raise ValueError(
                f"x is empty, of shape {list(x.shape)}: give at least one series and one step"
            )
        require_finite("x", x)
        if film is not None:
            film = require_tensor("film", film, (2, steps, self.input_size), like=like)
        shape = (self.num_layers, batch, self.hidden_size)
        if mask is not None:
            mask = require_tensor("mask", mask, shape, like=like)
        elif self.training and self.dropout > 0:
            require_rate("dropout", self.dropout)
            kept = 1 - self.dropout
            mask = torch.bernoulli(x.new_full(shape, kept)) / kept

        states = x
        for layer in range(self.num_layers):
            states = operators.film_lstm(
                states,
                self.flat_weights(layer),
                film if layer == 0 else None,
                None if mask is None else mask[layer],
                hidden=self.hidden_size,
                every_step=self.return_sequences or layer + 1 < self.num_layers,
            )
        return states

    def extra_repr(self) -> str:
        """Return the sizes and options as `print` shows them."""
        return (
            f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, "
            f"bias={self.bias}, dropout={self.dropout}, return_sequences={self.return_sequences}"
        )
