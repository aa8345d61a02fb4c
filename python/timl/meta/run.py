"""One training run: its tasks, its model, and what an epoch does."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timl.data import Episodes, EpisodeSampler, NWaySampler, NWayTaskSet, TaskSet
from timl.files import atomic_write
from timl.meta.checkpoints import State, copy_model
from timl.meta.checks import require_rates
from timl.meta.configuration import Options, describe_run, versions
from timl.meta.gradient import Losses, meta_gradient, meta_losses
from timl.meta.history import TrainingHistory
from timl.meta.ranks import Ranks
from timl.meta.scores import auc_roc
from timl.nn import TIML, one_thread
from timl.nn.encoder import DrawKey
from timl.normalization import normalization_of
from timl.parameters import tensor_count

RUN = "run.json"


@dataclass(frozen=True)
class _Part:
    """Training or validation tasks, with the sampler of their episodes."""

    tasks: TaskSet | NWayTaskSet
    sampler: EpisodeSampler | NWaySampler


class TrainingRun:
    """One training run between its first and last epoch.

    Parameters
    ----------
    model
        Model that is trained in place.
    tasks
        All tasks, to be split into training and validation tasks.
    options
        Options of the run.
    ranks
        The processes that share its tasks.

    Raises
    ------
    TypeError, ValueError
        If the model cannot be trained on the tasks with these options.
    """

    def __init__(
        self, model: TIML, tasks: TaskSet | NWayTaskSet, options: Options, ranks: Ranks
    ) -> None:
        _check(model, tasks)
        require_rates("inner_lr", options.inner_lr, tensor_count(model.classifier.layers))
        learned = model.log_step_sizes
        if learned is not None and len(learned) != options.inner_steps:
            raise ValueError(
                f"inner_steps is {options.inner_steps}: give {len(learned)}, the inner steps whose "
                f"sizes the model learns"
            )
        parts: Sequence[TaskSet | NWayTaskSet] = (tasks, tasks.subset([]))
        if options.validation > 0:
            parts = tasks.split(options.validation, options.seed)
        self.training, self.validation = (_Part(part, _sampler(part, options)) for part in parts)
        if self.training.sampler.fresh_head:  # what the model has of one is never trained
            with torch.no_grad():
                for parameter in model.classifier.dense[-1].parameters():
                    parameter.zero_()
        self.model, self.options, self.tasks = model, options, tasks
        parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(parameters, lr=options.meta_lr, fused=True)
        self.history = TrainingHistory(
            [task.id for task in parts[0]], [task.id for task in parts[1]], options.epochs
        )
        self.state = State(model, self.optimizer, self.history, {})
        self.description = describe_run(model, tasks, options)
        self.ranks = ranks

    @property
    def unfinished(self) -> bool:
        """Whether there is another epoch and a task left for it."""
        return self.history.epochs < self.options.epochs and bool(self.history.remaining.any())

    def train_epoch(self) -> None:
        """Train for one epoch, validate, keep the weights if they are the best, and forget."""
        options, history = self.options, self.history
        start, epoch = time.perf_counter(), history.epochs
        self.model.train()
        history.learning_rate[epoch] = options.learning_rate(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = options.learning_rate(epoch)
        order = self.training.sampler.order(epoch)
        visited = order[history.remaining[order]]
        alone = 1 if options.first_batch_of_one else 0
        for chosen in [
            *_batches(visited[:alone], 1),
            *_batches(visited[alone:], options.meta_batch),
        ]:
            self._train(chosen, epoch)
        for chosen in _batches(np.arange(len(self.validation.tasks)), options.meta_batch):
            self._validate(chosen, epoch)
        history.epochs += 1
        self._keep_best(epoch)
        if options.forgetting_threshold is not None:
            history.forget(options.forgetting_threshold, options.forgetting_window)
        history.seconds[epoch] = time.perf_counter() - start
        self.ranks.require_same_bits(self.model.state_dict())

    def finish(self) -> None:
        """Give the model the best weights and its normalising statistics."""
        self.optimizer.zero_grad()
        if self.state.best:
            self.model.load_state_dict(self.state.best)
        else:
            self.history.best_epoch = self.history.epochs - 1
        self.model.normalization = normalization_of(self.tasks.data)
        self.model.eval()

    def write_configuration(self, folder: Path) -> None:
        """Write the run's options, its model's sizes, its data's checksum and the versions."""
        document = {"run": self.description, "versions": versions()}
        with atomic_write(folder / RUN, "w") as file:
            file.write(json.dumps(document, indent=2) + "\n")

    def _train(self, chosen: NDArray[np.int64], epoch: int) -> None:
        options, history = self.options, self.history
        self.optimizer.zero_grad()
        episodes = self.training.sampler.batch(chosen, epoch)
        losses = meta_gradient(
            self.model,
            episodes,
            self._step_sizes(),
            first_order=options.first_order,
            key=self._key(self.training, chosen, epoch),
            fresh_head=self.training.sampler.fresh_head,
            ranks=self.ranks,
        )
        history.task_loss[epoch, chosen] = _finite(losses, self.training.tasks, chosen, epoch)
        history.task_auc[epoch, chosen] = _auc(losses, episodes)
        with one_thread():
            self.optimizer.step()

    def _validate(self, chosen: NDArray[np.int64], epoch: int) -> None:
        history = self.history
        episodes = self.validation.sampler.batch(chosen, epoch)
        key = self._key(self.validation, chosen, epoch)
        losses = meta_losses(
            self.model,
            episodes,
            self._step_sizes(),
            key=key,
            update_statistics=self.options.validation_moves_statistics,
            fresh_head=self.validation.sampler.fresh_head,
            ranks=self.ranks,
        )
        history.validation_loss[epoch, chosen] = _finite(
            losses, self.validation.tasks, chosen, epoch
        )
        history.validation_auc[epoch, chosen] = _auc(losses, episodes)

    def _step_sizes(self) -> float | Tensor:
        given, learned = self.options.inner_lr, self.model.log_step_sizes
        if learned is not None:
            return learned.exp()
        return torch.tensor(given) if isinstance(given, tuple) else given

    def _key(self, part: _Part, chosen: NDArray[np.int64], epoch: int) -> DrawKey:
        return self.options.seed, epoch, part.tasks.numbers[chosen]

    def _keep_best(self, epoch: int) -> None:
        history, window = self.history, self.options.best_window
        if not len(self.validation.tasks) or epoch + 1 < min(window, self.options.epochs):
            return
        score = history.validation_score(epoch, window)
        if history.best_epoch < 0 or score < history.validation_score(history.best_epoch, window):
            history.best_epoch = epoch
            with one_thread():
                self.state.best = copy_model(self.model)


def _sampler(tasks: TaskSet | NWayTaskSet, options: Options) -> EpisodeSampler | NWaySampler:
    """Return the sampler of episodes of the tasks' kind."""
    sizes = (options.k, options.query, options.inner_steps, options.seed)
    if isinstance(tasks, NWayTaskSet):
        return NWaySampler(tasks.data, tasks, *sizes)
    return EpisodeSampler(tasks.data, tasks, *sizes)


def _check(model: TIML, tasks: TaskSet | NWayTaskSet) -> None:
    """Raise TypeError or ValueError unless the model can be trained on the tasks."""
    if not isinstance(tasks, TaskSet | NWayTaskSet):
        raise TypeError(
            f"tasks is a {type(tasks).__name__}: give the TaskSet of timl.meta_tasks(data), or "
            f"the NWayTaskSet of timl.data.nway_tasks(data)"
        )
    if isinstance(tasks, TaskSet) and model.classifier.outputs > 1:
        raise ValueError(
            f"model has {model.classifier.outputs} outputs, for tasks of two classes: give "
            f"TIML(outputs=1), or the tasks of timl.data.nway_tasks(data)"
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("model is frozen: give one with a parameter that requires a gradient")
    if len(tasks) == 0:
        raise ValueError("tasks is empty: give at least one task")
    series = tasks.data.series(tasks.samples(0)[0][:1]).shape[1:]
    sizes = (model.classifier.steps, model.classifier.bands)
    if series != sizes:
        raise ValueError(
            f"model is of series of shape {list(sizes)}: give TIML(steps={series[0]}, "
            f"bands={series[1]}) for those of the tasks, of shape {list(series)}"
        )
    taken = model.classifier.appended if model.encoder is None else model.encoder.info_size
    if taken not in (0, tasks.info.shape[1]):
        raise ValueError(
            f"model is of tasks of {taken} numbers: give TIML(info_size={tasks.info.shape[1]}) "
            f"for these tasks"
        )


def _batches(indices: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Return the indices in parts of at most this size, in order."""
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def _auc(losses: Losses, episodes: Episodes) -> NDArray[np.float64]:
    """Return the AUC ROC of each task's query set, [N]."""
    return auc_roc(losses.logits.cpu().numpy(), np.asarray(episodes.query_y))


def _finite(
    losses: Losses, tasks: TaskSet | NWayTaskSet, chosen: NDArray[np.int64], epoch: int
) -> NDArray[np.float64]:
    """Return the query losses as float64 [N], which must all be finite."""
    values: NDArray[np.float64] = losses.task_loss.cpu().numpy().astype(np.float64)
    if not np.isfinite(values).all():
        names = ", ".join(tasks[int(i)].id for i in chosen[~np.isfinite(values)])
        raise FloatingPointError(
            f"the query loss is not finite in epoch {epoch} for {names}: give a smaller inner_lr "
            f"or meta_lr"
        )
    return values
