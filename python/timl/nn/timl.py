"""TIML: a classifier whose initial weights are meta-learned, and a task encoder."""

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
from timl.nn.devices import one_thread
from timl.nn.encoder import TaskEncoder
from timl.nn.strong.deep_kernel import DeepKernel
from timl.normalization import HasStatistics, Normalization
from timl.parameters import tensor_count

_FIRST_STEP_SIZE = 1e-3
"""Learned step sizes before any training."""


class TIML(nn.Module):
    """Model of task-informed meta-learning (TIML, section 4): `.classifier` and `.encoder`.

    Parameters
    ----------
    bands, steps, hidden, layers, dropout, outputs
        Those of the classifier, see `timl.nn.Classifier`.
    encoder
        Whether there is a task encoder; without one this is the model of plain MAML.
    append_information
        Whether the task information is appended to the bands of each step, the paper's ablation
        without encoder; it excludes an encoder. In training mode the information has the encoder's
        noise.
    learned_steps
        Number S of inner steps whose sizes are learned too, one for each step and parameter tensor;
        with 0 the sizes are those that the meta-gradient is given.
    info_size, encoder_sizes, channels_per_group, encoder_dropout, noise
        Those of the encoder, see `timl.nn.TaskEncoder`.
    deep_kernel
        Arguments of the deep kernel, see `timl.nn.DeepKernel`; None: there is none, as before
        meta-training.

    Attributes
    ----------
    classifier : Classifier
        Classifier with the initial weights of every task.
    encoder : TaskEncoder or None
        Encoder that gives the FiLM values of a task.
    deep_kernel : DeepKernel or None
        Deep kernel that `timl.meta_train` learned for the strong protocol.
    log_step_sizes : parameter of shape [S, L + 4], or None
        Natural logarithms of the learned step sizes; at first of 1e-3.

    Raises
    ------
    ValueError
        If a size or rate is out of range, or both an encoder and appended information are asked
        for.
    """

    classifier: Classifier
    encoder: TaskEncoder | None
    deep_kernel: DeepKernel | None

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
        outputs: int = 1,
        deep_kernel: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if encoder and append_information:
            raise ValueError(
                "append_information is True, for a model without encoder: give encoder=False"
            )
        appended = info_size if append_information else 0
        self.classifier = Classifier(
            bands, steps, hidden, layers, dropout, appended=appended, outputs=outputs
        )
        self.noise = noise
        self.log_step_sizes: nn.Parameter | None = None
        if learned_steps:
            require_sizes(learned_steps=learned_steps)
            self.log_step_sizes = nn.Parameter(
                torch.full((learned_steps, tensor_count(layers)), math.log(_FIRST_STEP_SIZE))
            )
        self.deep_kernel = None if deep_kernel is None else DeepKernel(**deep_kernel)
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
        """Preparation of the inputs, or None: the classifier's."""
        return self.classifier.normalization

    @normalization.setter
    def normalization(self, normalization: Normalization | None) -> None:
        self.classifier.normalization = normalization

    def forward(self, x: Tensor, info: Tensor | npt.ArrayLike | None = None) -> Tensor:
        """Compute the logits of one task's series.

        Parameters
        ----------
        x : tensor of shape [n, T, bands]
            Normalised series.
        info : tensor or array of shape [info_size]
            Task information; it may be left out only where the model takes none.

        Returns
        -------
        tensor of shape [n] with one output, else [n, K]
            Logits.

        Raises
        ------
        TypeError
            If a tensor has another dtype than the model.
        ValueError
            If a shape or device is wrong, `x` is empty or has NaN or infinite values, or `info` is
            missing.
        """
        logits: Tensor = self.classifier(x, self._film(info), information=self._appended(info))
        return logits

    def for_task(self, info: Tensor | npt.ArrayLike | None = None) -> Classifier:
        """Return a copy of the classifier with one task's FiLM values fixed.

        The encoder computes them in evaluation mode. The copy is in the classifier's mode, has no
        gradients and shares nothing with this model.

        Parameters
        ----------
        info : tensor or array of shape [info_size]
            Task information; it may be left out only where the model takes none.

        Raises
        ------
        TypeError, ValueError
            If `info` is missing or does not fit, as in `forward`.
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
            raise ValueError(
                f"info is None: give the task's {size} numbers, which this model appends"
            )
        return require_tensor(
            "info", torch.as_tensor(info, dtype=like.dtype, device=like.device), (size,), like
        )

    def _film(self, info: Tensor | npt.ArrayLike | None) -> Tensor:
        """Return the FiLM values of one task, [Phi]."""
        if self.encoder is None:
            return self.classifier.film
        if info is None:
            raise ValueError(
                f"info is None: give the task's {self.encoder.info_size} numbers, which this "
                f"model's encoder takes"
            )
        film: Tensor = self.encoder(info)
        if film.ndim != 1:
            raise ValueError(
                f"info is of shape {list(torch.as_tensor(info).shape)}: give "
                f"[{self.encoder.info_size}], one task"
            )
        return film

    def configuration(self) -> dict[str, Any]:
        """Return the arguments that build a model like this one, with its present rates."""
        classifier, encoder = self.classifier, self.encoder
        arguments = {**classifier.configuration(), "encoder": encoder is not None}
        appended = arguments.pop("appended")
        if appended:
            arguments |= {"append_information": True, "info_size": appended, "noise": self.noise}
        if self.deep_kernel is not None:
            arguments["deep_kernel"] = self.deep_kernel.configuration()
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
        """Write `model.safetensors` and `config.json` into a folder, which is made where needed.

        Raises
        ------
        ValueError
            If `normalization` is malformed; nothing is written.
        """
        checkpoint.write(
            folder, "TIML", self.configuration(), self.state_dict(), self.normalization
        )

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, statistics: HasStatistics | None = None
    ) -> TIML:
        """Read a model, in evaluation mode and on the CPU.

        Parameters
        ----------
        folder
            Folder with `model.safetensors` and `config.json`; the name of a model that
            `timl.make_model` made, such as "default"; or a folder with the authors' published
            `state_dict.pth` and, if the model has an encoder, `encoder_state_dict.pth`. No pickled
            code is executed. The authors' models do not tell how their series were prepared: copy
            the record's `normalizing_dict.h5` beside them, or give `statistics`.
        statistics
            Data set whose mean, standard deviations and NDVI the model's series have, where the
            folder does not tell: the record, for the authors' models.

        Raises
        ------
        FileNotFoundError
            If a file is missing.
        ValueError
            If a file is truncated, foreign, or of another kind of model, where the message names it
            and the key, or statistics are given for a model that has its own.
        """
        return checkpoint.build(cls, "TIML", checkpoint.read(folder, statistics))

    def authors_state_dicts(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return copies of the model's tensors under the names of the authors' code.

        Returns
        -------
        classifier, encoder : state dicts
            Empty for the encoder of a model without one.
        """
        state = {n: t for n, t in self.state_dict().items() if not n.startswith("deep_kernel.")}
        if self.classifier.appended:  # the authors' code takes the appended numbers as bands
            bands = self.classifier.bands + self.classifier.appended
            return authors.to_authors(state, {**self.configuration(), "bands": bands})
        return authors.to_authors(state, self.configuration())
