"""The classifier as PyTorch modules: an LSTM unrolled in Python, one linear layer per gate."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from timl import parameters
from torch import Tensor, nn
from torch.nn import functional

GATES = ("input", "forget", "candidate", "output")


class UnrolledLSTM(nn.Module):
    """An LSTM that returns its last hidden state; each gate reads [x_t, h]."""

    def __init__(self, bands: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.gates = nn.ModuleDict({gate: nn.Linear(bands + hidden, hidden) for gate in GATES})

    def forward(self, x: Tensor) -> Tensor:
        """Return the hidden state [B, H] after series [B, T, F]."""
        h = c = x.new_zeros(x.shape[0], self.hidden)
        for t in range(x.shape[1]):
            joined = torch.cat([x[:, t], h], dim=1)
            i = torch.sigmoid(self.gates["input"](joined))
            f = torch.sigmoid(self.gates["forget"](joined))
            g = torch.tanh(self.gates["candidate"](joined))
            o = torch.sigmoid(self.gates["output"](joined))
            c = f * c + i * g
            h = o * torch.tanh(c)
        return h


class UnrolledClassifier(nn.Module):
    """The network of docs/explanation/meta-step.md, FiLM values given with every call."""

    def __init__(self, bands: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.layers = layers
        self.lstm = UnrolledLSTM(bands, hidden)
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden, affine=False) for _ in range(layers))
        self.dense = nn.ModuleList(nn.Linear(hidden, hidden, bias=False) for _ in range(layers - 1))
        self.dense.append(nn.Linear(hidden, 1))

    def forward(self, x: Tensor, film: dict[str, Tensor] | None = None) -> Tensor:
        """Return the logits [B] of series [B, T, F]; without FiLM values where none are given."""
        if film is not None:
            x = x * film["gamma_0"] + film["beta_0"]
        z: Tensor = self.norms[0](self.lstm(x))
        for layer in range(1, self.layers + 1):
            if film is not None:
                z = z * film[f"gamma_{layer}"] + film[f"beta_{layer}"]
            z = self.dense[layer - 1](z)
            if layer < self.layers:
                z = self.norms[layer](functional.gelu(z))
        return z[:, 0]

    @torch.no_grad()
    def load_flat(self, weights: Tensor) -> None:
        """Take the weights [P] in the order of `timl.parameters`."""
        parts = parameters.unflatten(weights, self._shapes())
        for index, gate in enumerate(self._gates()):
            rows = slice(index * self.lstm.hidden, (index + 1) * self.lstm.hidden)
            joined = [parts["input_weight"][rows], parts["hidden_weight"][rows]]
            gate.weight.copy_(torch.cat(joined, dim=1))
            gate.bias.copy_(parts["gate_bias"][rows])
        for name, parameter in self._dense_parameters().items():
            parameter.copy_(parts[name])

    def flat(self) -> Tensor:
        """Return the weights as one vector [P] in the order of `timl.parameters`."""
        return self._in_order(lambda parameter: parameter.detach())

    def flat_gradients(self) -> Tensor:
        """Return the parameters' gradients, likewise."""
        return self._in_order(lambda parameter: cast(Tensor, parameter.grad))

    def _in_order(self, part: Callable[[Tensor], Tensor]) -> Tensor:
        joined = torch.cat([part(gate.weight) for gate in self._gates()])
        bands = joined.shape[1] - self.lstm.hidden
        gate_bias = torch.cat([part(gate.bias) for gate in self._gates()])
        dense = [part(parameter) for parameter in self._dense_parameters().values()]
        return parameters.flatten([joined[:, :bands], joined[:, bands:], gate_bias, *dense])

    def _gates(self) -> list[nn.Linear]:
        return [cast(nn.Linear, self.lstm.gates[gate]) for gate in GATES]

    def _dense_parameters(self) -> dict[str, nn.Parameter]:
        return {f"dense.{name}": parameter for name, parameter in self.dense.named_parameters()}

    def _shapes(self) -> dict[str, parameters.Shape]:
        bands = self._gates()[0].in_features - self.lstm.hidden
        return parameters.weight_shapes(bands, self.lstm.hidden, self.layers)
