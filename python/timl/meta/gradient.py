"""Meta-gradient of a model on a meta-batch: the engine's meta-step, from and to modules."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from timl import random
from timl.data import Episodes
from timl.meta.ranks import Ranks
from timl.nn import TIML, Classifier, one_thread, operators
from timl.nn.checks import require_rate, require_tensor
from timl.nn.encoder import DrawKey, draw_noise
from timl.parameters import MetaGradient, tensor_count
from timl.random import Purpose


class Losses(NamedTuple):
    """Losses of a meta-batch, all detached: N tasks, S inner steps, Q query samples."""

    loss: Tensor
    """Mean over the tasks of their query losses after adaptation, []."""
    task_loss: Tensor
    """Query loss of each task, [N]."""
    logits: Tensor
    """Query logits after adaptation, [N, Q] with one output, else [N, Q, K]."""
    support_loss: Tensor
    """Support loss before each inner step, [N, S]."""

    def __float__(self) -> float:
        """Return the mean query loss."""
        return float(self.loss)


def meta_gradient(
    model: TIML,
    episodes: Episodes,
    inner_lr: float | Tensor = 1e-3,
    inner_steps: int | None = None,
    first_order: bool = False,
    *,
    key: DrawKey | None = None,
    update_statistics: bool = True,
    fresh_head: bool = False,
    ranks: Ranks | None = None,
) -> Losses:
    """Adapt to each task and add the gradient of the mean query loss to `.grad` (TIML, section 3).

    It adds to the `.grad` of the classifier's and the encoder's parameters as `loss.backward()`
    would; parameters that require no gradient stay untouched. The gradient is exact to second
    order: it goes through the inner steps, and through the FiLM values into the encoder
    (docs/explanation/meta-step.md).

    The classifier always normalises with its batches' own statistics. Its dropout is on where
    `model.classifier.training`, the encoder's dropout and noise where `model.encoder.training`,
    each at its module's own rate.

    Parameters
    ----------
    model
        Model to adapt. Without an encoder every task has the FiLM values of
        `model.classifier.film`.
    episodes
        Arrays or tensors; they are converted to the model's dtype and device.
    inner_lr
        Size of the inner steps: a number, or a tensor that broadcasts to [S, L + 4] (one for each
        inner step and parameter tensor, in the order of `timl.parameters.weight_shapes`). A
        gradient flows back into such a tensor if it requires one.
    inner_steps
        Number S of inner steps; by default one for each support set of the episodes. Episodes of
        one support set may be used for any number of steps, which then share it.
    first_order
        Whether the inner gradients count as constants (FOMAML).
    key
        Seed, epoch and number of each task, an int64 array [N]: it alone then fixes all noise and
        dropout. Without it a seed is drawn from PyTorch's generator.
    update_statistics
        Whether every pass moves the classifier's running statistics, if it is in training mode:
        tasks in their order, support sets before the query set.
    fresh_head
        Whether every task starts from a last dense layer of zeros, with as many outputs as the
        episodes have. The model's own last layer then takes no part and gets no gradient: for
        classes whose numbers differ from episode to episode (docs/explanation/meta-step.md).
    ranks
        Processes that call this with the same arguments and share the tasks; None: this one alone.

    Returns
    -------
    Losses
        Losses of the meta-batch; `float()` of it is the mean query loss.

    Raises
    ------
    TypeError, ValueError
        If the sizes or outputs of episodes and model differ, a batch has one series only, or
        `inner_lr`, `inner_steps` or `key` do not fit.
    """
    classifier = model.classifier
    with torch.enable_grad(), one_thread():
        batch = _prepare(model, episodes, inner_lr, inner_steps, key, fresh_head)
    engine = _run(classifier, batch, 1 if first_order else 2, ranks)
    results = (batch.weights, batch.film, batch.step_sizes)
    gradients = (engine.weights_gradient, engine.film_gradient, engine.step_size_gradient)
    wanted = [pair for pair in zip(results, gradients, strict=True) if pair[0].requires_grad]
    if wanted:
        with one_thread():
            torch.autograd.backward([r for r, _ in wanted], [g for _, g in wanted])
    if update_statistics and classifier.training:
        _move_statistics(classifier, batch, engine)
    return _losses(engine)


@torch.no_grad()
def meta_losses(
    model: TIML,
    episodes: Episodes,
    inner_lr: float | Tensor = 1e-3,
    inner_steps: int | None = None,
    *,
    key: DrawKey | None = None,
    update_statistics: bool = False,
    fresh_head: bool = False,
    ranks: Ranks | None = None,
) -> Losses:
    """Adapt to each task and return the query losses without a gradient, as for validation.

    Running statistics move only where `update_statistics` is true. Parameters, result and errors
    are otherwise those of `meta_gradient`.
    """
    classifier = model.classifier
    with one_thread():
        batch = _prepare(model, episodes, inner_lr, inner_steps, key, fresh_head)
    engine = _run(classifier, batch, 0, ranks)
    if update_statistics and classifier.training:
        _move_statistics(classifier, batch, engine)
    return _losses(engine)


class _Batch(NamedTuple):
    """Arguments of the engine's meta-step; weights, film and step sizes with their graphs."""

    support_x: Tensor  # [N, S, B, T, F]
    support_y: Tensor  # [N, S, B]
    query_x: Tensor  # [N, Q, T, F]
    query_y: Tensor  # [N, Q]
    weights: Tensor  # [P]
    film: Tensor  # [N, Phi]
    support_mask: Tensor | None  # [N, S, B, H]
    query_mask: Tensor | None  # [N, Q, H]
    step_sizes: Tensor  # [S, L + 4]
    class_weights: Tensor | None  # [N, 2] or [N, K]
    outputs: int  # K

    def of_task(self, number: int) -> _Batch:
        """Return the arguments for one task alone."""
        own: dict[str, Any] = {
            name: value[number : number + 1]
            for name, value in self._asdict().items()
            if isinstance(value, Tensor) and name not in ("weights", "step_sizes")
        }
        return self._replace(**own)


def _prepare(
    model: TIML,
    episodes: Episodes,
    inner_lr: float | Tensor,
    inner_steps: int | None,
    key: DrawKey | None,
    fresh_head: bool,
) -> _Batch:
    """Return the checked arguments of the engine's meta-step."""
    classifier, encoder = model.classifier, model.encoder
    like = classifier.input_weight
    outputs = episodes.outputs
    if outputs != classifier.outputs and not fresh_head:
        raise ValueError(
            f"episodes is of {outputs} outputs: give a model of as many, TIML(outputs={outputs}), "
            f"or fresh_head=True"
        )
    info, support_x, support_y, query_x, query_y = (
        torch.as_tensor(value, dtype=like.dtype, device=like.device)
        for value in (
            episodes.info,
            episodes.support_x,
            episodes.support_y,
            episodes.query_x,
            episodes.query_y,
        )
    )
    series = (classifier.steps, classifier.bands)
    require_tensor("episodes.support_x", support_x, ("N", "S", "B", *series), like)
    require_tensor("episodes.query_x", query_x, ("N", "Q", *series), like)
    for name, x in (("support_x", support_x), ("query_x", query_x)):
        if x.shape[-3] == 1:
            raise ValueError(
                f"episodes.{name} is of shape {list(x.shape)}, batches of one series, which have "
                f"no batch statistics: give at least two"
            )
    sets = support_x.shape[1]
    steps = sets if inner_steps is None else inner_steps
    if steps < 1 or sets not in (1, steps):
        raise ValueError(
            f"inner_steps is {steps}, episodes.support_x of shape {list(support_x.shape)} with "
            f"{sets} support sets: give {sets} inner steps"
            + (" or more" if sets == 1 else ", or episodes of one support set that all steps share")
        )
    if steps != sets:
        support_x = support_x.expand(-1, steps, -1, -1, -1)
        support_y = support_y.expand(-1, steps, -1)

    tasks = len(episodes)
    if key is None and (classifier.training or (encoder is not None and encoder.training)):
        key = (int(torch.randint(2**63 - 1, ())), 0, np.arange(tasks))
    if key is not None and np.shape(key[2]) != (tasks,):
        raise ValueError(
            f"key is of tasks of shape {list(np.shape(key[2]))}: give the numbers of the {tasks} "
            f"tasks of the episodes, [{tasks}]"
        )
    film = classifier.film.expand(tasks, -1) if encoder is None else encoder(info, key)
    if classifier.appended:
        require_tensor("episodes.info", info, ("N", classifier.appended), like)
        if classifier.training and key is not None:
            noise = draw_noise(key, classifier.appended)  # as an encoder's information has it
            info = info + model.noise * torch.from_numpy(noise).to(info)
        support_x = classifier.append(support_x, info[:, None, None])
        query_x = classifier.append(query_x, info[:, None])
    return _Batch(
        support_x,
        support_y,
        query_x,
        query_y,
        _with_fresh_head(classifier, outputs) if fresh_head else classifier.flat_weights(),
        film,
        *_masks(classifier, support_x, query_x, key),
        _step_sizes(inner_lr, (steps, tensor_count(classifier.layers)), like),
        None
        if episodes.class_weights is None
        else torch.as_tensor(episodes.class_weights, dtype=like.dtype, device=like.device),
        outputs,
    )


def _with_fresh_head(classifier: Classifier, outputs: int) -> Tensor:
    """Return the weights [P] with a last dense layer of zeros for so many outputs."""
    last = classifier.outputs * (classifier.hidden + 1)  # weight and bias, the last of all
    weights = classifier.flat_weights()
    return torch.cat([weights[:-last], weights.new_zeros(outputs * (classifier.hidden + 1))])


def _masks(
    classifier: Classifier, support_x: Tensor, query_x: Tensor, key: DrawKey | None
) -> tuple[Tensor | None, Tensor | None]:
    """Draw the dropout masks of the support sets [N, S, B, H] and the query sets [N, Q, H]."""
    rate = classifier.dropout
    require_rate("dropout", rate)
    if key is None or not classifier.training or rate == 0:
        return None, None
    seed, epoch, numbers = key
    numbers = np.asarray(numbers)
    support = random.dropout_mask(
        (support_x.shape[2], classifier.hidden),
        rate,
        seed=seed,
        epoch=epoch,
        task=numbers[:, None],
        step=np.arange(support_x.shape[1]),
        purpose=Purpose.SUPPORT_DROPOUT,
    )
    query = random.dropout_mask(
        (query_x.shape[1], classifier.hidden),
        rate,
        seed=seed,
        epoch=epoch,
        task=numbers,
        purpose=Purpose.QUERY_DROPOUT,
    )
    return torch.from_numpy(support).to(support_x), torch.from_numpy(query).to(query_x)


def _step_sizes(inner_lr: float | Tensor, shape: tuple[int, int], like: Tensor) -> Tensor:
    """Return the inner step sizes [S, L + 4], attached to `inner_lr` if that is a tensor."""
    if not isinstance(inner_lr, Tensor):
        if not math.isfinite(inner_lr):
            raise ValueError(f"inner_lr is {inner_lr}: give a finite number")
        return torch.full(shape, float(inner_lr), dtype=like.dtype, device=like.device)
    try:
        return inner_lr.to(like).broadcast_to(shape)
    except RuntimeError as error:
        raise ValueError(
            f"inner_lr is of shape {list(inner_lr.shape)}: give one that broadcasts to "
            f"{list(shape)}, a step size for each inner step and parameter tensor"
        ) from error


def _run(classifier: Classifier, batch: _Batch, order: int, ranks: Ranks | None) -> MetaGradient:
    """Call the engine; order 0 gives losses only."""

    def step(part: _Batch) -> MetaGradient:
        return operators.meta_gradient(
            *part[:9],
            hidden=classifier.hidden,
            layers=classifier.layers,
            outputs=part.outputs,
            order=order,
            class_weights=part.class_weights,
        )

    if ranks is None or ranks.count == 1:
        return step(batch)
    with torch.no_grad():
        return ranks.meta_gradient(lambda task: step(batch.of_task(task)), len(batch.support_x))


def _move_statistics(classifier: Classifier, batch: _Batch, engine: MetaGradient) -> None:
    """Move the running statistics by each task's support passes, then its query pass."""
    tasks, steps, samples = batch.support_y.shape
    classifier.update_running_statistics(
        engine.batch_mean.flatten(0, 1),
        engine.batch_variance.flatten(0, 1),
        ([samples] * steps + [batch.query_y.shape[1]]) * tasks,
    )


def _losses(engine: MetaGradient) -> Losses:
    with one_thread():
        mean = engine.loss.mean()
    return Losses(mean, engine.loss, engine.logits, engine.support_loss)
