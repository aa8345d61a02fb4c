"""TIML: a classifier whose start is meta-learned, and a task encoder that modulates it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from timl.nn import authors, checkpoint
from timl.nn.classifier import Classifier, Normalization
from timl.nn.encoder import TaskEncoder
from timl.nn.threads import one_thread


class TIML(nn.Module):
    """Task-informed meta-learning's model (paper, section 4): `.classifier` and `.encoder`.

    Parameters
    ----------
    bands, steps, hidden, layers, dropout
        Of the classifier, see `timl.nn.Classifier`.
    encoder
        Whether there is a task encoder; without one this is the model of plain MAML.
    info_size, encoder_sizes, channels_per_group, encoder_dropout, noise
        Of the encoder, see `timl.nn.TaskEncoder`.

    Attributes
    ----------
    classifier : Classifier
    encoder : TaskEncoder or None
    """

    classifier: Classifier
    encoder: TaskEncoder | None

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
    ) -> None:
        super().__init__()
        self.classifier = Classifier(bands, steps, hidden, layers, dropout)
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
        logits: Tensor = self.classifier(x, self._film(info))
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
        return classifier

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
        return authors.to_authors(self.state_dict(), self.configuration())
