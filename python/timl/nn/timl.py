"""TIML: a classifier whose start is meta-learned, and a task encoder that modulates it."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from timl.nn import authors, checkpoint
from timl.nn.checks import require_sizes, require_tensor
from timl.nn.classifier import Classifier
from timl.nn.encoder import TaskEncoder
from timl.nn.metric import Metric
from timl.nn.threads import one_thread
from timl.normalization import Normalization
from timl.parameters import tensor_count

_FIRST_STEP_SIZE = 1e-3


class TIML(nn.Module):
    """Task-informed meta-learning's model (paper, section 4): `.classifier` and `.encoder`.

    Parameters
    ----------
    bands, steps, hidden, layers, dropout
        Of the classifier, see `timl.nn.Classifier`.
    encoder
        Whether there is a task encoder; without one this is the model of plain MAML.
    append_information
        Append the task information to the bands of each step, the paper's ablation without
        encoder; it excludes an encoder. In training the information has the encoder's noise.
    learned_steps
        Inner steps S whose sizes are learned too, one for each step and parameter tensor; 0: the
        sizes are those that the meta-gradient is given.
    info_size, encoder_sizes, channels_per_group, encoder_dropout, noise
        Of the encoder, see `timl.nn.TaskEncoder`.
    metric
        Sizes of a metric, see `timl.nn.Metric`; None: there is none, as before meta-training.

    Attributes
    ----------
    classifier : Classifier
    encoder : TaskEncoder or None
    metric : Metric or None
        What `timl.meta_train` learned for the strong protocol.
    log_step_sizes : torch.nn.Parameter or None
        Natural logarithms of the learned step sizes, [S, L + 4]; at first of 1e-3.
    """

    classifier: Classifier
    encoder: TaskEncoder | None
    metric: Metric | None

    def __init__(
        self,
        bands: int = 18,
        steps: int = 12,
        hidden: int = 128,
        layers: int = 2,
        dropout: float = 0.2,
        encoder: bool = True,
        *,
        info_size: int = 13,
        encoder_sizes: Sequence[int] = (32, 64, 128),
        channels_per_group: int = 16,
        encoder_dropout: float = 0.2,
        noise: float = 0.1,
        append_information: bool = False,
        learned_steps: int = 0,
        metric: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if encoder and append_information:
            raise ValueError(
                "append_information=True is for a model without encoder: give encoder=False"
            )
        appended = info_size if append_information else 0
        self.classifier = Classifier(bands, steps, hidden, layers, dropout, appended=appended)
        self.noise = noise
        self.log_step_sizes: nn.Parameter | None = None
        if learned_steps:
            require_sizes(learned_steps=learned_steps)
            self.log_step_sizes = nn.Parameter(
                torch.full((learned_steps, tensor_count(layers)), math.log(_FIRST_STEP_SIZE))
            )
        self.metric = None if metric is None else Metric(*metric)
        self.encoder = None
        if encoder:
            self.encoder = TaskEncoder(
                info_size,
                encoder_sizes,
                channels_per_group,
                encoder_dropout,
                noise,
                steps=steps,
                bands=bands,
                hidden=hidden,
                layers=layers,
            )

    @property
    def normalization(self) -> Normalization | None:
        """How inputs are prepared, or None: the classifier's, shared with its copies."""
        return self.classifier.normalization

    @normalization.setter
    def normalization(self, normalization: Normalization | None) -> None:
        self.classifier.normalization = normalization

    def forward(self, x: Tensor, info: Tensor | npt.ArrayLike | None = None) -> Tensor:
        """Compute the logits of one task's series.

        Parameters
        ----------
        x
            Normalised series, [n, T, F].
        info
            Task information, [info_size]; only without an encoder it may be left out.

        Returns
        -------
        torch.Tensor
            Logits, [n].

        Raises
        ------
        TypeError, ValueError
            As the classifier's and the encoder's `forward`.
        """
        logits: Tensor = self.classifier(x, self._film(info), information=self._appended(info))
        return logits

    def for_task(self, info: Tensor | npt.ArrayLike | None = None) -> Classifier:
        """Return a copy of the classifier with one task's FiLM values fixed.

        The encoder computes them in evaluation mode. The copy is in the classifier's mode, holds
        no gradients and shares nothing with this model.

        Parameters
        ----------
        info
            Task information, [info_size]; only without an encoder it may be left out.
        """
        classifier = copy.deepcopy(self.classifier)
        classifier.zero_grad(set_to_none=True)
        if self.encoder is not None:
            training = self.encoder.training
            self.encoder.eval()
            try:
                with torch.no_grad(), one_thread():
                    film = self._film(info)
            finally:
                self.encoder.train(training)
            classifier.film.copy_(film)
        appended = self._appended(info)
        if appended is not None:
            classifier.information.copy_(appended)
        return classifier

    def _appended(self, info: Tensor | npt.ArrayLike | None) -> Tensor | None:
        """Return the numbers to append, [info_size], or None where none are."""
        size, like = self.classifier.appended, self.classifier.input_weight
        if size == 0:
            return None
        if info is None:
            raise ValueError(f"info is missing: this model appends the task's {size} numbers")
        return require_tensor(
            "info", torch.as_tensor(info, dtype=like.dtype, device=like.device), (size,), like
        )

    def _film(self, info: Tensor | npt.ArrayLike | None) -> Tensor:
        """Return the FiLM values of one task, [Phi]."""
        if self.encoder is None:
            return self.classifier.film
        if info is None:
            raise ValueError(
                f"info is missing: this model's encoder needs the task's "
                f"{self.encoder.info_size} numbers"
            )
        film: Tensor = self.encoder(info)
        if film.ndim != 1:
            raise ValueError(
                f"info must have shape [{self.encoder.info_size}] (one task), "
                f"but has {list(torch.as_tensor(info).shape)}"
            )
        return film

    def configuration(self) -> dict[str, Any]:
        """Return the arguments that build a model like this one, with its present rates."""
        classifier, encoder = self.classifier, self.encoder
        arguments = {**classifier.configuration(), "encoder": encoder is not None}
        appended = arguments.pop("appended", 0)
        if appended:
            arguments |= {"append_information": True, "info_size": appended, "noise": self.noise}
        if self.metric is not None:
            arguments["metric"] = list(self.metric.projection.shape)
        if self.log_step_sizes is not None:
            arguments["learned_steps"] = len(self.log_step_sizes)
        if encoder is not None:
            arguments |= {
                "info_size": encoder.info_size,
                "encoder_sizes": list(encoder.sizes),
                "channels_per_group": encoder.channels_per_group,
                "encoder_dropout": encoder.dropout,
                "noise": encoder.noise,
            }
        return arguments

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `config.json` into a folder, made where needed.

        Raises
        ------
        ValueError
            `normalization` is malformed; nothing is written.
        """
        checkpoint.write(
            folder, "TIML", self.configuration(), self.state_dict(), self.normalization
        )

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> TIML:
        """Read a model, in evaluation mode and on the CPU.

        Parameters
        ----------
        folder
            Holds `model.safetensors` and `config.json`, or the authors' published
            `state_dict.pth` and, if the model has an encoder, `encoder_state_dict.pth`. No
            pickled code is executed.

        Raises
        ------
        FileNotFoundError
            A file is missing.
        ValueError
            A file is truncated or foreign, or a single classifier's; the message names it and
            the key.
        """
        return checkpoint.build(cls, "TIML", checkpoint.read(folder))

    def authors_state_dicts(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return classifier's and encoder's tensors under the names of the authors' code.

        The second is empty for a model without an encoder. The tensors are copies.
        """
        state = {n: t for n, t in self.state_dict().items() if not n.startswith("metric.")}
        if self.classifier.appended:  # theirs takes the appended numbers as bands
            bands = self.classifier.bands + self.classifier.appended
            return authors.to_authors(state, {**self.configuration(), "bands": bands})
        return authors.to_authors(state, self.configuration())
