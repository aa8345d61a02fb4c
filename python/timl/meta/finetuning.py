"""Fine-tuning: a classifier adapted to one evaluation task by gradient descent."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from timl import random
from timl.data import BenchmarkTask
from timl.meta.checks import require_count, require_positive
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
    learning_rate: float = 1e-3,
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
        Of every step.
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
    require_count("steps", steps, least=0)
    require_count("k", k)
    require_positive("learning_rate", learning_rate)
    sizes = [len(benchmark.positives), len(benchmark.negatives)]
    if min(sizes) == 0:
        raise ValueError(
            f"benchmark {benchmark.name!r} has {sizes[0]} positives and {sizes[1]} negatives: "
            f"fine-tuning needs both"
        )
    if min(sizes) < k:
        warnings.warn(
            f"benchmark {benchmark.name!r} has {sizes[0]} positives and {sizes[1]} negatives: "
            f"every step draws {min(sizes)} of each instead of k = {k}",
            stacklevel=2,
        )
        k = min(sizes)

    if isinstance(model, TIML):
        classifier = model.for_task(benchmark.info)
    else:
        classifier = copy.deepcopy(model)
        classifier.zero_grad(set_to_none=True)
    classifier.normalization = normalization_of(benchmark.data, benchmark.task.normalize)
    like = classifier.input_weight
    rate = classifier.dropout
    require_rate("dropout", rate)

    drawn = random.distinct(
        sizes, k, seed=seed, step=np.arange(steps), purpose=Purpose.FINE_TUNING_SAMPLES
    )  # [steps, positive or negative, k]
    drawn[:, 1] += sizes[0]
    indices = torch.from_numpy(drawn.reshape(steps, 2 * k))
    series, labels = benchmark.train_arrays()
    x = torch.as_tensor(series, dtype=like.dtype, device=like.device)  # [n, T, F]
    y = torch.as_tensor(labels, dtype=like.dtype, device=like.device)  # [n]
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

    parameters: list[Tensor] = [p for p in classifier.parameters() if p.requires_grad]
    classifier.train()
    with torch.enable_grad(), one_thread():
        for step, rows in enumerate(indices):
            logits = classifier(x[rows], mask=None if masks is None else masks[step])
            loss = functional.binary_cross_entropy_with_logits(logits, y[rows])
            if not bool(torch.isfinite(loss)):
                raise ValueError(
                    f"the loss is {loss.item()} in fine-tuning step {step} of benchmark "
                    f"{benchmark.name!r}: give a smaller learning_rate than {learning_rate}"
                )
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                torch._foreach_add_(parameters, gradients, alpha=-learning_rate)
    return classifier.eval()
