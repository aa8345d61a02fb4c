"""Fine-tuning: a classifier adapted to labelled series by gradient descent."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from timl import random
from timl.data import BenchmarkTask
from timl.meta.checks import require_count, require_rates
from timl.meta.normalization import normalization_of
from timl.nn import TIML, Classifier, one_thread
from timl.nn.checks import require_rate
from timl.random import Purpose


def finetune(
    model: TIML | Classifier,
    benchmark: BenchmarkTask,
    *,
    steps: int = 250,
    k: int = 10,
    learning_rate: float | Sequence[float] = 1e-3,
    seed: int = 0,
) -> Classifier:
    """Adapt a classifier to an evaluation task (TIML, section 4).

    Plain gradient descent on the classifier's parameters, a new draw of k positives and k
    negatives in every step, in training mode: batch statistics, dropout at the classifier's rate,
    moving running statistics. The FiLM values stay as the encoder, in evaluation mode, gives them
    for the task. The same seed gives the same bits, with any number of threads.

    Parameters
    ----------
    model
        A model, or the classifier of one task with its FiLM values fixed. It is left as it is.
    benchmark
        The task; step i trains on `benchmark.sample(k, seed, i)`.
    steps
        Number of steps, 0 or more.
    k
        Positives, and negatives, of each draw.
    learning_rate
        Of every step; or a list of one for each parameter tensor of the classifier, in the order
        of `timl.layout.weight_shapes`.
    seed
        Of the draws and the dropout masks, in [0, 2**64).

    Returns
    -------
    Classifier
        In evaluation mode, normalised as the benchmark's data are; it shares nothing with the
        model.

    Raises
    ------
    ValueError
        An argument is out of range, the task has no positives or no negatives, its series do not
        fit the model, or the loss is no longer finite.

    Warns
    -----
    UserWarning
        The task has fewer than k positives or negatives: as many as there are of the rarer ones
        are drawn of both.
    """
    if isinstance(model, TIML):
        classifier = model.for_task(benchmark.info)
    else:
        classifier = copy.deepcopy(model)
        classifier.zero_grad(set_to_none=True)
    classifier.normalization = normalization_of(benchmark.data, benchmark.task.normalize)
    return descend(
        classifier,
        *benchmark.train_arrays(),
        steps=steps,
        k=k,
        learning_rate=learning_rate,
        seed=seed,
        name=f"benchmark {benchmark.name!r}",
    )


def descend(
    classifier: Classifier,
    x: ArrayLike,
    y: ArrayLike,
    *,
    steps: int,
    k: int,
    learning_rate: float | Sequence[float],
    seed: int,
    name: str = "y",
) -> Classifier:
    """Train a classifier in place on labelled series: the descent of `finetune`.

    Parameters
    ----------
    classifier
        Its FiLM values and `normalization` stay.
    x : array, shape [n, T, F]
        Normalised series.
    y : array, shape [n]
        Labels, 0 and 1.
    steps, k, learning_rate, seed
        As of `finetune`.
    name
        What the labels are, for messages.

    Returns
    -------
    Classifier
        The same, in evaluation mode.

    Raises
    ------
    ValueError, UserWarning
        As of `finetune`.
    """
    require_count("steps", steps, least=0)
    require_count("k", k)
    require_rates("learning_rate", learning_rate, classifier.layers + 4)
    labels = np.asarray(y)
    members = [np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)]
    sizes = [len(rows) for rows in members]
    if min(sizes) == 0:
        raise ValueError(
            f"{name} has {sizes[0]} positives and {sizes[1]} negatives: fine-tuning needs both"
        )
    if min(sizes) < k:
        warnings.warn(
            f"{name} has {sizes[0]} positives and {sizes[1]} negatives: every step draws "
            f"{min(sizes)} of each instead of k = {k}",
            stacklevel=3,
        )
        k = min(sizes)
    like = classifier.input_weight
    rate = classifier.dropout
    require_rate("dropout", rate)

    drawn = random.distinct(
        sizes, k, seed=seed, step=np.arange(steps), purpose=Purpose.FINE_TUNING_SAMPLES
    )  # [steps, positive or negative, k]
    indices = torch.from_numpy(
        np.concatenate([rows[drawn[:, i]] for i, rows in enumerate(members)], axis=1)
    )  # [steps, 2 k]
    series = torch.as_tensor(np.asarray(x), dtype=like.dtype, device=like.device)  # [n, T, F]
    targets = torch.as_tensor(labels, dtype=like.dtype, device=like.device)  # [n]
    masks = None
    if rate > 0:
        masks = torch.from_numpy(
            random.dropout_mask(
                (2 * k, classifier.hidden),
                rate,
                seed=seed,
                step=np.arange(steps),
                purpose=Purpose.FINE_TUNING_DROPOUT,
            )
        ).to(like)  # [steps, 2 k, H]

    named = [(p, i) for i, p in enumerate(classifier.parameters()) if p.requires_grad]
    parameters: list[Tensor] = [p for p, _ in named]
    common = None if isinstance(learning_rate, Sequence) else -learning_rate
    rates = []
    if isinstance(learning_rate, Sequence):
        rates = [float(learning_rate[i]) for _, i in named]
    classifier.train()
    with torch.enable_grad(), one_thread():
        for step, rows in enumerate(indices):
            logits = classifier(series[rows], mask=None if masks is None else masks[step])
            loss = functional.binary_cross_entropy_with_logits(logits, targets[rows])
            if not bool(torch.isfinite(loss)):
                raise ValueError(
                    f"the loss is {loss.item()} in fine-tuning step {step} of {name}: give a "
                    f"smaller learning_rate than {learning_rate}"
                )
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                if common is None:
                    torch._foreach_sub_(parameters, torch._foreach_mul(gradients, rates))
                else:
                    torch._foreach_add_(parameters, gradients, alpha=common)
    return classifier.eval()
