"""Learning of the deep kernel: networks are trained through the head that will use them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from timl import random
from timl.crop_classes import CROP
from timl.data import NWayTaskSet, TaskSet
from timl.defaults import KERNEL_STEPS
from timl.files import atomic_write, output_folder, read_json
from timl.meta.checks import require_count
from timl.meta.configuration import checksum
from timl.meta.progress import steps_bar
from timl.meta.strong.augmentation import Augmentation
from timl.meta.strong.constants import (
    AXES_RATE,
    GRADIENT_NORM,
    HEAD_RATE,
    LAST_RATE,
    LEARNING_RATE,
    LENGTH,
    METRIC_TRAINED,
    POINT_WEIGHTS,
    REFERENCES,
    RIDGE,
    SCALE,
    WARM_UP,
    WEIGHT_DECAY,
    WIDTH,
    constants,
)
from timl.meta.strong.metric import Metric, learn_metric
from timl.meta.strong.random_tasks import Batch, RandomTasks
from timl.meta.strong.reference_points import draw_reference
from timl.meta.strong.regions import regions_of
from timl.nn import DeepKernel, one_thread
from timl.nn.strong.deep_kernel import KernelNetwork, fit_ridge, ridge_logits
from timl.normalization import normalization_of
from timl.random import Purpose

RECORD = "learning.json"
"""File that says what was learned, beside the kernel: written when learning is finished."""


def learn_deep_kernel(
    tasks: TaskSet | NWayTaskSet,
    *,
    steps: int = KERNEL_STEPS,
    seed: int = 0,
    out: str | Path | None = None,
    progress: bool = False,
) -> DeepKernel | None:
    """Learn the strong protocol's metric and prior mean from meta-training tasks.

    The same seed gives the same bits, with any number of threads.

    Parameters
    ----------
    tasks
        Meta-training tasks; their series must be normalised. Of each region the samples of its
        tasks count, with their label names, FAO classes and places.
    steps
        Number of training steps of each network, at least 1.
    seed
        Seed of initial weights, random tasks, and changes of their series.
    out
        Folder for the kernel. One that was learned there with the same arguments, from the same
        samples, is read instead.
    progress
        Whether to show a progress bar.

    Returns
    -------
    DeepKernel or None
        Deep kernel with `normalization` of the tasks' data. None where no region has two labels
        of at least 5 samples.

    Raises
    ------
    TypeError, ValueError
        If the steps are out of range.
    BlockingIOError
        If another process is learning into `out`.
    """
    require_count("steps", steps)
    folder = None if out is None else Path(out)
    run = {"steps": steps, "seed": seed, "samples": checksum(tasks), "constants": constants()}
    run = json.loads(json.dumps(run))
    if folder is not None and (folder / RECORD).is_file():
        record = read_json(folder / RECORD, "remove it to learn anew")
        if isinstance(record, dict) and record.get("run") == run:
            with suppress(BlockingIOError), output_folder(folder):
                pass  # what a process left that was killed after it had learned is removed
            return DeepKernel.from_pretrained(folder)
    with nullcontext() if folder is None else output_folder(folder):
        if folder is not None:
            (folder / RECORD).unlink(missing_ok=True)
        start = time.perf_counter()
        kernel = _learn(tasks, steps, seed, progress)
        if kernel is not None and folder is not None:
            kernel.save_pretrained(folder)
            with atomic_write(folder / RECORD, "w") as file:
                seconds = round(time.perf_counter() - start, 3)
                file.write(json.dumps({"run": run, "seconds": seconds}, indent=2) + "\n")
    return kernel


def _learn(
    tasks: TaskSet | NWayTaskSet, steps: int, seed: int, progress: bool
) -> DeepKernel | None:
    from threadpoolctl import threadpool_limits

    regions = regions_of(tasks)
    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(1))
        stack.enter_context(one_thread())
        stack.enter_context(torch.enable_grad())
        metric = learn_metric(regions)
        if metric is None:
            return None
        found = {name for region in regions for name in region.labels if name}
        names = (CROP, *sorted(found - {CROP}))
        months = tasks.data.series(tasks.samples(0)[0][:1]).shape[1]
        dimensions, samples = metric.axes.shape[1], sum(len(r.described) for r in regions)
        kernel = DeepKernel(
            months, len(METRIC_TRAINED), dimensions, WIDTH, names, min(REFERENCES, samples)
        )
        kernel.mean.copy_(torch.from_numpy(metric.mean))
        kernel.scale.copy_(torch.from_numpy(metric.scale))
        kernel.covariance.copy_(torch.from_numpy(metric.covariance))
        kernel.normalization = normalization_of(tasks.data)
        described = [kernel.standardize(region.described) for region in regions]
        draw_reference(kernel, described, metric.axes, seed)
        x, random_tasks = torch.cat(described).float(), RandomTasks(regions, names)
        total = steps * len(METRIC_TRAINED)
        show = stack.enter_context(steps_bar("deep kernel", total)) if progress else _silent
        for number, network in enumerate(kernel.members):
            initialize(network, metric, seed, number)
            augmentation = Augmentation(kernel, seed, number)
            for step in _training(network, steps):
                batch = random_tasks.batch(seed, number, step)
                if batch is not None:
                    rows = torch.cat([batch.support, batch.query], dim=1)
                    inputs = augmentation(x[rows], batch.described, step)
                    loss = query_loss(network, inputs, batch)
                    loss.backward()  # type: ignore[no-untyped-call]
                show()
    return kernel.requires_grad_(False).eval()


def initialize(network: KernelNetwork, metric: Metric, seed: int, number: int) -> None:
    """Give a network its weights before training, and say which of them are trained.

    Those of the hidden layer are uniform as PyTorch's linear layers draw them; the prior mean
    is 0.
    """
    trained, bound = METRIC_TRAINED[number], 1 / math.sqrt(len(metric.mean))
    width, features = network.hidden_weight.shape
    drawn = random.uniform(
        (width, features + 1), seed=seed, epoch=number, purpose=Purpose.KERNEL_WEIGHTS
    )
    weights = torch.from_numpy((2 * drawn - 1) * np.float32(bound))
    deviation = POINT_WEIGHTS / math.sqrt(network.point_weight.numel())
    shifts = random.normal(
        tuple(network.point_weight.shape),
        seed=seed,
        epoch=number,
        purpose=Purpose.KERNEL_POINT_WEIGHTS,
    )
    with torch.no_grad():
        network.axes.copy_(torch.from_numpy(metric.axes))
        network.hidden_weight.copy_(weights[:, :-1])
        network.hidden_bias.copy_(weights[:, -1])
        network.log_head.copy_(torch.tensor([LENGTH, RIDGE, SCALE]).log())
        if trained:
            network.point_weight.copy_(torch.from_numpy(shifts) * deviation)
    network.requires_grad_(True)
    network.axes.requires_grad_(trained)
    network.point_weight.requires_grad_(trained)


def query_loss(
    network: KernelNetwork, inputs: tuple[Tensor, Tensor, Tensor], batch: Batch
) -> Tensor:
    """Return the mean over tasks of the query's loss, after the head was fitted to the support.

    It is the cross-entropy with equal weight for both classes.

    Parameters
    ----------
    network
        Network to be trained.
    inputs
        Standardised descriptions [B, S + Q, D], numbers of the tasks [B, O] and dropout mask
        [B, S + Q, W].
    batch
        Random tasks that the inputs are of.
    """
    points, prior = network(*inputs)
    count, head = batch.support.shape[1], network.head
    coefficients, level = fit_ridge(
        points[:, :count], prior[:, :count], batch.support_targets, head
    )
    logits = ridge_logits(
        points[:, count:], prior[:, count:], points[:, :count], coefficients, level, head
    )
    losses, targets = functional.softplus(-batch.query_targets * logits), batch.query_targets
    positive, negative = (
        (losses * side).sum(1) / side.sum(1) for side in (targets > 0, targets < 0)
    )
    return ((positive + negative) / 2).mean()


def _training(network: KernelNetwork, steps: int) -> Iterator[int]:
    """Yield the number of each step; after it, move the network by the gradients that it left."""
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    rates = dict.fromkeys(parameters, LEARNING_RATE) | {"axes": AXES_RATE, "log_head": HEAD_RATE}
    groups = [
        {
            "params": [parameter],
            "weight_decay": WEIGHT_DECAY if rates[name] == LEARNING_RATE else 0.0,
        }
        for name, parameter in parameters.items()
    ]
    optimizer = torch.optim.AdamW(groups)
    for step in range(steps):
        optimizer.zero_grad()
        yield step
        cosine = (1 + math.cos(math.pi * step / steps)) / 2
        height = min(1.0, (step + 1) / WARM_UP) * (LAST_RATE + (1 - LAST_RATE) * cosine)
        for group, name in zip(optimizer.param_groups, parameters, strict=True):
            group["lr"] = rates[name] * height
        clip_grad_norm_(list(parameters.values()), GRADIENT_NORM)
        optimizer.step()


def _silent() -> None:
    """Show nothing."""
