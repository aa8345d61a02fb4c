"""Fine-tuning: adapt a model to labelled series, by the strong protocol or the paper's."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, overload

import numpy as np
import torch
from numpy.typing import ArrayLike

from timl import defaults, random
from timl.arrays import labelled_series
from timl.data import BenchmarkTask, CropTypeTask
from timl.meta.checks import require_count, require_rates
from timl.meta.strong.fitting import fit_strong, fit_strong_classes
from timl.nn import (
    TIML,
    Classifier,
    DeepKernel,
    Device,
    StrongClassifier,
    checked_device,
    load_pretrained,
    operators,
)
from timl.nn.checks import require_finite, require_rate, require_tensor
from timl.nn.devices import device_of
from timl.normalization import Normalization, normalization_of
from timl.parameters import tensor_count, unflatten
from timl.random import Purpose
from timl.reference import mean_loss

Protocol: TypeAlias = Literal["paper", "strong"]

_STEPS_AT_ONCE = 64
"""Steps of gradient descent in one call of the engine, whose draws are in memory together."""


@overload
def finetune(
    model: TIML | Classifier | DeepKernel | str | Path,
    benchmark: BenchmarkTask | CropTypeTask,
    *,
    protocol: Literal["paper"],
    steps: int | None = None,
    k: int | None = None,
    learning_rate: float | Sequence[float] | None = None,
    seed: int = 0,
    device: Device | None = None,
) -> Classifier: ...
@overload
def finetune(
    model: TIML | Classifier | DeepKernel | str | Path,
    benchmark: BenchmarkTask | CropTypeTask,
    *,
    protocol: Protocol | None = None,
    steps: int | None = None,
    k: int | None = None,
    learning_rate: float | Sequence[float] | None = None,
    seed: int = 0,
    device: Device | None = None,
) -> Classifier | StrongClassifier: ...
def finetune(
    model: TIML | Classifier | DeepKernel | str | Path,
    benchmark: BenchmarkTask | CropTypeTask,
    *,
    protocol: Protocol | None = None,
    steps: int | None = None,
    k: int | None = None,
    learning_rate: float | Sequence[float] | None = None,
    seed: int = 0,
    device: Device | None = None,
) -> Classifier | StrongClassifier:
    """Adapt a model to an evaluation task.

    The strong protocol fits a `StrongClassifier` to the labels, see `timl.meta.fit_strong`. Series
    may hold NaN there: the deep kernel completes them.

    The paper's (TIML, section 4) is plain gradient descent on the classifier's parameters, with a
    new draw of k positives and k negatives in every step, or of k samples of each of several
    classes, in training mode: batch statistics, dropout at the classifier's rate, moving running
    statistics. The FiLM values stay as the encoder, in evaluation mode, gives them for the task.
    Where there are several classes the last layer starts from zero, with an output for each.

    The same seed gives the same bits on one kind of device, with any number of threads.

    Parameters
    ----------
    model
        A model, the classifier of one task with its FiLM values fixed, or a deep kernel alone. It
        stays as it is. Or the folder of one, or the name of one that `timl.make_model` made, such
        as "default".
    benchmark
        Evaluation task, or one of several classes. In the paper's protocol step i trains on
        `benchmark.sample(k, seed, i)`.
    protocol
        Strong or the paper's. None: strong where the model has a deep kernel, as every model that
        `timl.meta_train` made; else the paper's.
    steps, k, learning_rate
        Options of the paper's protocol, which must be asked for where the model has a deep kernel:
        number of steps, 0 or more (by default 250); positives, and negatives, of each draw (10);
        learning rate of every step (1e-3), or a list of one for each parameter tensor of the
        classifier, in the order of `timl.parameters.weight_shapes`.
    seed
        Seed of draws, dropout masks and trees, in [0, 2**64).
    device
        Device of the classifier, on which the paper's protocol trains it too, such as "cuda"; the
        strong one fits on the CPU. None: where the model is. Draws are the same on every device,
        results agree to rounding.

    Returns
    -------
    Classifier or StrongClassifier
        Classifier in evaluation mode, normalised as the benchmark's data are; a StrongClassifier
        where the protocol was the strong one. It shares nothing with the model.

    Raises
    ------
    FileNotFoundError
        If there is no model of that folder or name.
    ValueError
        If an argument is out of range or does not belong to the protocol, the task has no positives
        or no negatives, its series do not fit the model, the loss is no longer finite, or there is
        no such device.

    Warns
    -----
    UserWarning
        In the paper's protocol, if the task has fewer than k positives or negatives, or samples of
        a class: then as many as the rarest class has are drawn of each.
    """
    if isinstance(model, str | Path):
        model = _read_model(model)
    kernel = chosen_kernel(
        model, protocol, {"steps": steps, "k": k, "learning_rate": learning_rate}
    )
    place = device_of(model) if device is None else checked_device(device)
    several = isinstance(benchmark, CropTypeTask)
    name = f"{'task' if several else 'benchmark'} {benchmark.name!r}"
    normalization = normalization_of(benchmark.data, benchmark.normalize)
    if kernel is not None:
        return _fit_strong(kernel, benchmark, normalization, seed, name).to(place)
    assert not isinstance(model, DeepKernel)  # chosen_kernel would have raised
    if isinstance(model, TIML):
        classifier = model.for_task(benchmark.info)
    else:
        classifier = copy.deepcopy(model)
        classifier.zero_grad(set_to_none=True)
    if isinstance(benchmark, CropTypeTask):
        classifier = classifier.with_outputs(len(benchmark.classes))
    classifier.normalization = normalization
    return descend(
        classifier.to(place),
        *benchmark.train_arrays(),
        steps=steps,
        k=k,
        learning_rate=learning_rate,
        seed=seed,
        name=name,
    )


def _fit_strong(
    kernel: DeepKernel,
    benchmark: BenchmarkTask | CropTypeTask,
    normalization: Normalization,
    seed: int,
    name: str,
) -> StrongClassifier:
    """Return the strong protocol's classifier of a task of two classes or several."""
    x, y = benchmark.train_arrays()
    if isinstance(benchmark, CropTypeTask):
        return fit_strong_classes(
            kernel,
            x,
            y,
            benchmark.classes,
            normalization=normalization,
            classification_labels=benchmark.classification_labels,
            seed=seed,
            name=name,
        )
    return fit_strong(
        kernel,
        x,
        y,
        normalization=normalization,
        classification_label=benchmark.task.classification_label,
        target_label=benchmark.task.target_label,
        seed=seed,
        name=name,
    )


def _read_model(folder: str | Path) -> TIML | Classifier | DeepKernel:
    """Return the model of a folder or name, which is not adapted yet."""
    model = load_pretrained(folder)
    if isinstance(model, StrongClassifier):
        raise ValueError(f"model is {folder}, an adapted classifier: give a meta-trained model")
    return model


def chosen_kernel(
    model: object, protocol: str | None, options: Mapping[str, object]
) -> DeepKernel | None:
    """Return the deep kernel to adapt a model by, or None for the paper's protocol.

    Parameters
    ----------
    model
        Model of any kind.
    protocol
        Protocol as the user gave it, see `finetune`.
    options
        Options of the paper's gradient descent by name, None where not given.

    Raises
    ------
    ValueError
        If the protocol is unknown, is strong for a model without deep kernel or with such an
        option, or is the paper's for a deep kernel alone.
    """
    if protocol not in (None, "paper", "strong"):
        raise ValueError(f"protocol is {protocol!r}: give 'strong' or 'paper'")
    if protocol == "paper":
        if isinstance(model, DeepKernel):
            raise ValueError(
                "protocol is 'paper' for a DeepKernel, which has no weights to descend from: "
                "give a TIML or Classifier, or leave protocol out"
            )
        return None
    kernel = model.deep_kernel if isinstance(model, TIML) else None
    if isinstance(model, DeepKernel):
        kernel = model
    if protocol == "strong" and kernel is None:
        raise ValueError(
            f"protocol is 'strong' for a {type(model).__name__} without deep kernel: give a model "
            f"that timl.meta_train made, or set model.deep_kernel = "
            f"timl.meta.learn_deep_kernel(tasks), or give protocol='paper'"
        )
    given = [f"{name} is {value}" for name, value in options.items() if value is not None]
    if kernel is not None and given:
        raise ValueError(
            f"{', '.join(given)}, which only the paper's protocol has: give protocol='paper' too, "
            f"or leave out {', '.join(options)} for the strong protocol"
        )
    return kernel


def descend(
    classifier: Classifier,
    x: ArrayLike,
    y: ArrayLike,
    *,
    steps: int | None,
    k: int | None,
    learning_rate: float | Sequence[float] | None,
    seed: int,
    name: str = "y",
) -> Classifier:
    """Train a classifier in place on labelled series: the gradient descent of `finetune`.

    Parameters
    ----------
    classifier
        Classifier to train; its FiLM values and `normalization` stay.
    x : array of shape [n, T, bands]
        Normalised series.
    y : array of shape [n]
        Labels: 0 and 1 with one output, else 0 to K - 1.
    steps, k, learning_rate, seed
        Those of `finetune`.
    name
        Name of the labels in messages.

    Returns
    -------
    Classifier
        The same classifier, in evaluation mode.

    Raises
    ------
    ValueError
        If an argument is out of range, a class has no labels, or the loss is no longer finite.

    Warns
    -----
    UserWarning
        If a class has fewer than k labels.
    """
    steps = defaults.FINE_TUNING_STEPS if steps is None else steps
    k = defaults.FINE_TUNING_K if k is None else k
    if learning_rate is None:
        learning_rate = defaults.FINE_TUNING_LEARNING_RATE
    require_count("steps", steps, least=0)
    require_count("k", k)
    require_rates("learning_rate", learning_rate, tensor_count(classifier.layers))
    series_given, labels = labelled_series(x, y, name, max(2, classifier.outputs))
    binary = classifier.outputs == 1
    classes = (1, 0) if binary else range(classifier.outputs)
    members = [np.flatnonzero(labels == number) for number in classes]
    sizes = [len(rows) for rows in members]
    found = f"{sizes[0]} positives and {sizes[1]} negatives" if binary else f"{sizes} of each class"
    if min(sizes) == 0:
        raise ValueError(f"{name} is of {found}: give some of {'both' if binary else 'each'}")
    if min(sizes) < k:
        warnings.warn(
            f"{name} is of {found}: every step draws {min(sizes)} of each instead of k = {k}",
            stacklevel=3,
        )
        k = min(sizes)
    like = classifier.input_weight
    rate = classifier.dropout
    require_rate("dropout", rate)

    drawn = random.distinct(
        sizes, k, seed=seed, step=np.arange(steps), purpose=Purpose.FINE_TUNING_SAMPLES
    )  # [steps, classes, k]
    indices = torch.from_numpy(
        np.concatenate([rows[drawn[:, i]] for i, rows in enumerate(members)], axis=1)
    )  # [steps, B = classes * k]
    series = torch.as_tensor(series_given, dtype=like.dtype, device=like.device)  # [n, T, F]
    require_tensor("x", series, ("B", classifier.steps, classifier.bands), like=like)
    require_finite("x", series)
    targets = torch.as_tensor(labels, dtype=like.dtype, device=like.device)  # [n]
    masks = None
    if rate > 0:
        masks = torch.from_numpy(
            random.dropout_mask(
                (len(sizes) * k, classifier.hidden),
                rate,
                seed=seed,
                step=np.arange(steps),
                purpose=Purpose.FINE_TUNING_DROPOUT,
            )
        ).to(like)  # [steps, B, H]

    parameters = list(classifier.parameters())
    given = (
        learning_rate if isinstance(learning_rate, Sequence) else [learning_rate] * len(parameters)
    )
    rates = [float(r) if p.requires_grad else 0.0 for p, r in zip(parameters, given, strict=True)]
    step_sizes = like.new_tensor(rates).expand(steps, -1)  # [steps, L + 4]
    with torch.no_grad():
        inputs = series
        if classifier.appended:
            inputs = classifier.append(series, classifier.information)
        weights = classifier.flat_weights()
        for first in range(0, steps, _STEPS_AT_ONCE):
            these = slice(first, first + _STEPS_AT_ONCE)
            adapted = operators.adapt(
                inputs[indices[these]],
                targets[indices[these]],
                weights,
                classifier.film,
                None if masks is None else masks[these],
                step_sizes[these],
                hidden=classifier.hidden,
                layers=classifier.layers,
                outputs=classifier.outputs,
            )
            for step, loss in enumerate(adapted.support_loss.tolist(), first):
                _require_finite_loss(loss, step, name, learning_rate)
            weights = adapted.weights
            passes = [indices.shape[1]] * len(adapted.support_loss)
            classifier.update_running_statistics(adapted.batch_mean, adapted.batch_variance, passes)
        shapes = {n: tuple(p.shape) for n, p in classifier.named_parameters()}
        for parameter, value in unflatten(weights, shapes).items():
            classifier.get_parameter(parameter).copy_(value)
    classifier.eval()
    if steps > 0:  # the last step may have been the one that went too far
        with torch.no_grad():
            loss = mean_loss(classifier(series[indices[-1]]), targets[indices[-1]])
        _require_finite_loss(loss.item(), steps, name, learning_rate)
    return classifier


def _require_finite_loss(
    loss: float, step: int, name: str, learning_rate: float | Sequence[float]
) -> None:
    """Raise ValueError unless the loss that the steps before this one gave is finite."""
    if not math.isfinite(loss):
        raise ValueError(
            f"the loss is {loss} after {step} fine-tuning steps on {name}: give a smaller "
            f"learning_rate than {learning_rate}"
        )
