"""Pre-training: a classifier trained on the pooled labels of all tasks, as in transfer learning."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from timl import random
from timl.arrays import class_labels
from timl.data import TaskSet
from timl.meta.checks import require_count, require_positive
from timl.nn import Classifier, one_thread
from timl.random import Purpose
from timl.reference import mean_loss


def pooled_crops(tasks: TaskSet) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Pool the samples of all tasks as one problem, crop versus non-crop.

    The training samples of the data set's benchmarks are left out: a task of another label in a
    benchmark's region has them too, and pooled they would give away the benchmark's labels.

    Returns
    -------
    x : float32 array of shape [n, T, bands]
        Normalised series, each sample once.
    y : int8 array of shape [n]
        1 for crops, 0 for others.
    """
    positions = np.unique(np.concatenate([*tasks.positives, *tasks.negatives]))
    for benchmark in tasks.data.benchmarks:
        positions = np.setdiff1d(positions, [*benchmark.positives, *benchmark.negatives])
    labels = tasks.data.labels
    crops = labels.loc[labels["is_crop"] == 1, "position"].to_numpy()
    return tasks.data.series(positions), np.isin(positions, crops).astype(np.int8)


def pretrain(
    classifier: Classifier,
    x: ArrayLike,
    y: ArrayLike,
    *,
    learning_rate: float = 1e-3,
    batch: int = 64,
    patience: int = 10,
    epochs: int = 1000,
    validation: float = 0.1,
    seed: int = 0,
) -> list[float]:
    """Train a classifier in place on pooled labels, stopping early (TIML, section 5).

    Adam trains on shuffled batches in training mode; after each epoch the held-out series are
    scored in evaluation mode. Training ends when `patience` epochs in a row have not improved on
    the least validation loss; the classifier then has the weights of that loss. The same seed gives
    the same bits.

    Parameters
    ----------
    classifier
        Classifier to train; its FiLM values stay.
    x : array of shape [n, T, bands]
        Normalised series.
    y : array of shape [n]
        Labels: 0 and 1 with one output, else 0 to K - 1.
    learning_rate
        Learning rate of Adam.
    batch
        Number of series in a batch, at least 2.
    patience
        Number of epochs without improvement after which training ends.
    epochs
        Greatest number of epochs.
    validation
        Share of the series that are held out, in (0, 1).
    seed
        Seed of the split, the order and the dropout masks.

    Returns
    -------
    list of float
        Validation loss of each epoch.

    Raises
    ------
    ValueError
        If an argument is out of range, a label is of no class, or there are too few series.
    FloatingPointError
        If a validation loss is not finite.
    """
    require_positive("learning_rate", learning_rate)
    require_count("batch", batch, least=2)
    require_count("patience", patience)
    require_count("epochs", epochs)
    if not 0 < validation < 1:
        raise ValueError(f"validation is {validation}: give a share in (0, 1)")
    like = classifier.input_weight
    series = torch.as_tensor(np.asarray(x), dtype=like.dtype, device=like.device)
    given = class_labels(y, "y", max(2, classifier.outputs))
    labels = torch.as_tensor(given, dtype=like.dtype, device=like.device)
    held_out = max(round(len(labels) * validation), 1)
    if labels.shape != series.shape[:1] or len(labels) < held_out + 2:
        raise ValueError(
            f"x is of shape {list(series.shape)}, y of shape {list(labels.shape)}: give one length "
            f"of at least 3"
        )
    order = random.permutation(len(labels), seed=seed, purpose=Purpose.PRE_TRAINING_SPLIT)
    trained = np.sort(order[held_out:])
    validating = torch.from_numpy(np.sort(order[:held_out]))
    parameters = [p for p in classifier.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=learning_rate, fused=True)
    losses: list[float] = []
    best: dict[str, Tensor] = {}
    with torch.enable_grad(), one_thread():
        while len(losses) < epochs and len(losses) - _best(losses) < patience:
            epoch = len(losses)
            order = random.permutation(
                len(trained), seed=seed, epoch=epoch, purpose=Purpose.PRE_TRAINING_ORDER
            )
            classifier.train()
            for step, start in enumerate(range(0, len(trained) - 1, batch)):
                rows = torch.from_numpy(trained[order[start : start + batch]])
                optimizer.zero_grad()
                logits = classifier(
                    series[rows], mask=_mask(classifier, len(rows), seed, epoch, step)
                )
                mean_loss(logits, labels[rows]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            losses.append(_loss(classifier, series[validating], labels[validating]))
            if not np.isfinite(losses[-1]):
                raise FloatingPointError(
                    f"the validation loss is {losses[-1]} in epoch {epoch}: give a smaller "
                    f"learning_rate than {learning_rate}"
                )
            if _best(losses) == len(losses):
                best = {n: t.detach().clone() for n, t in classifier.state_dict().items()}
    classifier.zero_grad(set_to_none=True)
    classifier.load_state_dict(best)
    classifier.eval()
    return losses


def _best(losses: list[float]) -> int:
    """Return the number, from 1, of the first epoch with the least loss; 0 before any."""
    return losses.index(min(losses)) + 1 if losses else 0


def _mask(classifier: Classifier, rows: int, seed: int, epoch: int, step: int) -> Tensor | None:
    """Draw the dropout mask of a batch, [rows, H]; None at a rate of 0."""
    if classifier.dropout == 0:
        return None
    mask = random.dropout_mask(
        (rows, classifier.hidden),
        classifier.dropout,
        seed=seed,
        epoch=epoch,
        step=step,
        purpose=Purpose.PRE_TRAINING_DROPOUT,
    )
    return torch.from_numpy(mask).to(classifier.input_weight)


@torch.no_grad()
def _loss(classifier: Classifier, x: Tensor, y: Tensor) -> float:
    """Return the mean loss in evaluation mode."""
    classifier.eval()
    logits = classifier(x)
    return float(mean_loss(logits.double(), y.double()))
