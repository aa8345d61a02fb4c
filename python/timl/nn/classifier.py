"""Crop classifier: an LSTM and dense layers, modulated by one task's FiLM values."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from timl.nn import checkpoint, operators
from timl.nn.checks import require_finite, require_rate, require_sizes, require_tensor
from timl.nn.operator_rules import carries_transform
from timl.normalization import Normalization
from timl.parameters import BATCH_NORM_MOMENTUM, flatten, identity_film


class Classifier(nn.Module):
    """Crop classifier of one task (TIML, section 4).

    In training mode a pass normalises with its batch's statistics, draws a variational dropout
    mask from PyTorch's generator and moves the running statistics; in evaluation mode it uses the
    running statistics and no mask.

    Parameters
    ----------
    bands, steps
        Number of bands and of time steps T of a series.
    hidden
        Number of units H of the LSTM and of each dense layer.
    layers
        Number of dense layers L, at least 1.
    dropout
        Rate of the variational dropout, in [0, 1). The attribute may be changed at any time.
    appended
        How many numbers of the task, the buffer `information`, are appended to the bands of each
        step: the network then has F = bands + appended inputs.
    outputs
        Number K of logits: 1 for positives against negatives, else one for each class.

    Attributes
    ----------
    input_weight, hidden_weight, gate_bias : parameters of shape [4H, F], [4H, H] and [4H]
        Weights of the LSTM; gates in the order input, forget, candidate, output.
    dense : list of L linear layers
        Dense layers; only the last has a bias.
    film : buffer of shape [Phi]
        FiLM values where none are passed, in the order of `timl.parameters.film_shapes`; at first
        those that change nothing.
    information : buffer of shape [appended]
        Numbers that are appended; only where there are any.
    running_mean, running_variance : buffers of shape [L, H]
        Running statistics after the LSTM and after each dense layer but the last.
    num_batches_tracked : int64 buffer of shape []
        Number of passes that moved the running statistics.
    normalization : Normalization or None
        Preparation of the inputs: mean and std of each band, and which index the NDVI column holds.

    Raises
    ------
    ValueError
        If a size is no integer of at least 1, or the dropout rate is not in [0, 1).
    """

    film: Tensor
    information: Tensor
    running_mean: Tensor
    running_variance: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        bands: int = 18,
        steps: int = 12,
        hidden: int = 128,
        layers: int = 2,
        dropout: float = 0.2,
        *,
        appended: int = 0,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        require_sizes(bands=bands, steps=steps, hidden=hidden, layers=layers, outputs=outputs)
        require_rate("dropout", dropout)
        if not isinstance(appended, int) or appended < 0:
            raise ValueError(f"appended is {appended!r}: give an integer of at least 0")
        self.appended = appended
        inputs = bands + appended
        self.bands, self.steps, self.hidden, self.layers = bands, steps, hidden, layers
        self.dropout, self.outputs = dropout, outputs
        self.normalization: Normalization | None = None

        self.input_weight = nn.Parameter(torch.empty(4 * hidden, inputs))
        self.hidden_weight = nn.Parameter(torch.empty(4 * hidden, hidden))
        self.gate_bias = nn.Parameter(torch.empty(4 * hidden))
        self.dense = nn.ModuleList(nn.Linear(hidden, hidden, bias=False) for _ in range(layers - 1))
        self.dense.append(nn.Linear(hidden, outputs))

        self.register_buffer("film", identity_film(steps, inputs, hidden, layers))
        if appended:
            self.register_buffer("information", torch.zeros(appended))
        self.register_buffer("running_mean", torch.zeros(layers, hidden))
        self.register_buffer("running_variance", torch.ones(layers, hidden))
        self.register_buffer("num_batches_tracked", torch.tensor(0))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every weight anew from PyTorch's generator, uniform in +-1/sqrt(H)."""
        bound = self.hidden**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def flat_weights(self) -> Tensor:
        """Return the parameters as one vector [P] in the order of `timl.parameters.weight_shapes`.

        Gradients flow through it into the parameters.
        """
        dense = [cast(nn.Linear, layer) for layer in self.dense]
        lstm: list[Tensor] = [self.input_weight, self.hidden_weight, self.gate_bias]
        return flatten([*lstm, *(layer.weight for layer in dense), dense[-1].bias])

    def with_outputs(self, outputs: int) -> Classifier:
        """Return a copy with so many outputs, whose last layer is zero: it prefers no class.

        A head of zeros knows no order of the classes, so that a classifier of one task can become
        that of another task with other classes (the zeroing of Kao, Chiu and Chen, "MAML is a
        noisy contrastive learner in classification", 2022).

        Parameters
        ----------
        outputs
            Number K of logits, as of the class.

        Raises
        ------
        ValueError
            If it is no integer of at least 1.
        """
        require_sizes(outputs=outputs)
        copied = copy.deepcopy(self)
        copied.outputs = outputs
        last = nn.Linear(self.hidden, outputs).to(self.input_weight)
        with torch.no_grad():
            last.weight.zero_()
            assert last.bias is not None
            last.bias.zero_()
        copied.dense[-1] = last
        return copied

    def append(self, x: Tensor, information: Tensor) -> Tensor:
        """Append numbers of tasks to the bands of each step.

        Parameters
        ----------
        x : tensor of shape [..., T, bands]
            Series.
        information : tensor of shape [..., appended]
            Numbers of their tasks; the leading sizes broadcast to those of `x`.

        Returns
        -------
        tensor of shape [..., T, bands + appended]
        """
        numbers = information[..., None, :].expand(*x.shape[:-1], self.appended)
        return torch.cat([x, numbers], dim=-1)

    def forward(
        self,
        x: Tensor,
        film: Tensor | None = None,
        mask: Tensor | None = None,
        information: Tensor | None = None,
    ) -> Tensor:
        """Compute the logits of a batch.

        Parameters
        ----------
        x : tensor of shape [B, T, bands]
            Normalised series, of the parameters' dtype and device. In training mode B is at least
            2.
        film : tensor of shape [Phi]
            FiLM values of the task; by default the buffer `film`.
        mask : tensor of shape [B, H]
            Variational dropout mask of 0 and 1 / (1 - rate). By default it is drawn from PyTorch's
            generator in training mode, and there is none in evaluation mode.
        information : tensor of shape [appended]
            Numbers to append; by default the buffer `information`.

        Returns
        -------
        tensor of shape [B] with one output, else [B, K]
            Logits.

        Raises
        ------
        TypeError
            If an argument is no tensor or of another dtype than the parameters.
        ValueError
            If a shape or device is wrong, `x` is empty or has NaN or infinite values, or a batch of
            one is given in training mode.
        RuntimeError
            If torch.func or forward mode transforms it in training mode.
        """
        x = require_tensor("x", x, ("B", self.steps, self.bands), like=self.input_weight)
        batch = x.shape[0]
        if batch == 0:
            raise ValueError(f"x is empty, of shape {list(x.shape)}: give at least one series")
        if self.training and batch == 1:
            raise ValueError(
                f"x is one series, of shape {list(x.shape)}, which has no batch statistics: give "
                f"at least two in training mode, or call eval()"
            )
        require_finite("x", x)
        if self.appended:
            if information is None:
                information = self.information
            require_tensor("information", information, (self.appended,), like=self.input_weight)
            x = self.append(x, information)
        if film is None:
            film = self.film
        else:
            require_tensor("film", film, (self.film.numel(),), like=self.input_weight)
        if mask is not None:
            require_tensor("mask", mask, (batch, self.hidden), like=self.input_weight)
        elif self.training and self.dropout > 0:
            require_rate("dropout", self.dropout)
            kept = 1 - self.dropout
            mask = torch.bernoulli(x.new_full((batch, self.hidden), kept)) / kept

        logits, batch_mean, batch_variance = operators.network(
            x,
            self.flat_weights(),
            film,
            mask,
            self.running_mean,
            self.running_variance,
            hidden=self.hidden,
            layers=self.layers,
            outputs=self.outputs,
            batch_statistics=self.training,
        )
        if self.training:
            if carries_transform(logits, batch_mean):
                raise RuntimeError(
                    "the classifier is in training mode, where a pass moves its running "
                    "statistics, which transforms of torch.func and forward mode do not allow: "
                    "call .eval(), or timl.nn.operators.network with batch_statistics=True"
                )
            self.update_running_statistics(batch_mean[None], batch_variance[None], [batch])
        return logits

    @torch.no_grad()
    def update_running_statistics(
        self, batch_mean: Tensor, batch_variance: Tensor, batch_sizes: Sequence[int]
    ) -> None:
        """Move the running statistics by K training passes, in order.

        Parameters
        ----------
        batch_mean, batch_variance : tensors of shape [K, L, H]
            Statistics of each pass, with the biased variance (the running one is unbiased).
        batch_sizes
            Numbers of samples of the K passes, each at least 2.
        """
        sizes = batch_mean.new_tensor(batch_sizes)[:, None, None]
        passes = torch.stack([batch_mean, batch_variance * (sizes / (sizes - 1))], dim=1)
        running = torch.stack([self.running_mean, self.running_variance])
        for values in passes.unbind():
            running.lerp_(values, BATCH_NORM_MOMENTUM)
        self.running_mean.copy_(running[0])
        self.running_variance.copy_(running[1])
        self.num_batches_tracked += len(batch_sizes)

    def configuration(self) -> dict[str, Any]:
        """Return the arguments that build a classifier like this one, with its present rate."""
        several = {"outputs": self.outputs} if self.outputs != 1 else {}
        return {
            "bands": self.bands,
            "steps": self.steps,
            "hidden": self.hidden,
            "layers": self.layers,
            "dropout": self.dropout,
            "appended": self.appended,
            **several,
        }

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `config.json` into a folder, which is made where needed.

        They hold the FiLM values and running statistics too: what `from_pretrained` reads is the
        adapted classifier of one task.

        Raises
        ------
        ValueError
            If `normalization` is malformed; nothing is written.
        """
        checkpoint.write(
            folder, "Classifier", self.configuration(), self.state_dict(), self.normalization
        )

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Classifier:
        """Read a classifier that `save_pretrained` wrote, in evaluation mode and on the CPU.

        Raises
        ------
        FileNotFoundError
            If a file is missing.
        ValueError
            If a file is truncated, foreign, or of another kind of model; the message names it.
        """
        return checkpoint.build(cls, "Classifier", checkpoint.read(folder))

    def extra_repr(self) -> str:
        """Return the sizes and the dropout rate as `print` shows them."""
        return (
            f"bands={self.bands}, steps={self.steps}, hidden={self.hidden}, "
            f"layers={self.layers}, dropout={self.dropout}, outputs={self.outputs}"
        )
