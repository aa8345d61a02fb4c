"""Meta-training: epochs over the tasks, forgetting what is learned, keeping the best weights."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timl.data import Episodes, EpisodeSampler, TaskSet
from timl.files import atomic_write
from timl.meta.checkpoints import (
    CHECKPOINT,
    Snapshot,
    State,
    copy_model,
    read_checkpoint,
    take_snapshot,
    write_checkpoint,
)
from timl.meta.checks import require_count, require_rates
from timl.meta.configuration import Options, describe_run, versions
from timl.meta.gradient import Losses, meta_gradient, meta_losses
from timl.meta.history import TrainingHistory
from timl.meta.metric_learning import learn_metric
from timl.meta.normalization import normalization_of
from timl.meta.progress import progress_bar, tensorboard_log
from timl.meta.scores import auc_roc
from timl.nn import TIML, one_thread
from timl.nn.encoder import DrawKey
from timl.parameters import tensor_count

RUN, HISTORY, TENSORBOARD = "run.json", "history.json", "tensorboard"


def meta_train(
    model: TIML,
    tasks: TaskSet,
    *,
    epochs: int = 1000,
    meta_batch: int = 32,
    k: int = 10,
    query: int = 8,
    inner_lr: float | Sequence[float] = 1e-3,
    inner_steps: int = 1,
    first_order: bool = False,
    meta_lr: float = 1e-3,
    min_meta_lr: float = 1e-5,
    validation: float = 0.1,
    forgetting_threshold: float | None = 0.95,
    forgetting_window: int = 20,
    best_window: int = 20,
    seed: int = 0,
    first_batch_of_one: bool = False,
    validation_moves_statistics: bool = False,
    out: str | Path | None = None,
    resume: bool = True,
    checkpoint_every: int = 20,
    tensorboard: bool = False,
    progress: bool = True,
) -> TrainingHistory:
    """Meta-train a model on a set of tasks (TIML, sections 3 and 4).

    In an epoch every training task that is not forgotten is visited once, in random order, in
    meta-batches whose last may be smaller; after each, Adam moves classifier and encoder by the
    meta-gradient. Then the validation tasks are adapted to and scored, in training mode too, and
    leave the model alone. All random numbers come from the seed, the task and the epoch: the same
    seed gives the same bits with any number of threads, and after a resume.

    Parameters
    ----------
    model
        Trained in place. In the end it has the best weights, the data's normalising statistics
        and, for the strong protocol, a metric (see `timl.meta.learn_metric`), and is in evaluation
        mode.
    tasks
        Of `timl.meta_tasks`, with at least these sizes of episodes.
    epochs
        How many there are.
    meta_batch
        Tasks in a meta-batch.
    k, query
        Positives, and negatives, of a support set; samples of a query set.
    inner_lr, inner_steps, first_order
        As of `timl.meta_gradient`; every inner step has a support set of its own. A list of
        `inner_lr` has one step size for each parameter tensor of the classifier, in the order of
        `timl.parameters.weight_shapes`. A model that learns its step sizes uses its own instead.
    meta_lr, min_meta_lr
        The outer learning rate goes from the one to the other along a cosine, once an epoch.
    validation
        Share of the tasks that validate, at least one; with 0 none does.
    forgetting_threshold, forgetting_window
        A task is forgotten once its AUC ROC, on its query sets after adaptation, averages at
        least this over so many epochs; None: none is. Training ends early when all are forgotten.
    best_window
        The best epoch is the one with the smallest validation loss, averaged over the tasks and
        over so many epochs up to and with it; earlier epochs do not count (in a run of fewer
        epochs only the last does), and of equal ones the first does. Where no epoch counts, as
        without validation tasks, the last weights are the best.
    seed
        Of the split into training and validation tasks, and of every draw. The initial weights
        are the model's own.
    first_batch_of_one
        Let the first meta-batch of an epoch hold one task, as in the authors' published code.
    validation_moves_statistics
        Let the passes over the validation tasks move the running statistics of the batch
        normalisation, as in the authors' published code.
    out
        Folder for the checkpoint, and in the end the best model (for `TIML.from_pretrained`);
        `run.json` has the configuration and versions, `history.json` the losses and AUC ROC of
        every task and epoch, and when it was forgotten.
    resume
        Go on from a checkpoint in `out`, if there is one; its options, model and data must be
        the same. The weights given are then of no matter. Otherwise start over.
    checkpoint_every
        Epochs between checkpoints. There is one more when training ends or is interrupted.
    tensorboard
        Log for TensorBoard into `out`.
    progress
        Show a progress bar.

    Returns
    -------
    TrainingHistory
        What is in `history.json`.

    Raises
    ------
    TypeError, ValueError
        An argument is out of range, a task has too few samples, or the checkpoint in `out` is
        of another run, truncated or foreign.
    FloatingPointError
        A loss is no longer finite. The last checkpoint stands.
    ImportError
        TensorBoard is asked for and not installed.
    KeyboardInterrupt
        When interrupted, after the last finished epoch has been written.
    """
    options = Options(
        epochs=epochs,
        meta_batch=meta_batch,
        k=k,
        query=query,
        inner_lr=tuple(inner_lr) if isinstance(inner_lr, Sequence) else inner_lr,
        inner_steps=inner_steps,
        first_order=first_order,
        meta_lr=meta_lr,
        min_meta_lr=min_meta_lr,
        validation=validation,
        forgetting_threshold=forgetting_threshold,
        forgetting_window=forgetting_window,
        best_window=best_window,
        seed=seed,
        first_batch_of_one=first_batch_of_one,
        validation_moves_statistics=validation_moves_statistics,
    )
    require_count("checkpoint_every", checkpoint_every)
    if tensorboard and out is None:
        raise ValueError("tensorboard=True needs a folder: give out")
    model.metric = None  # an earlier training's does not fit the weights to come
    run = _Run(model, tasks, options)
    folder = None if out is None else Path(out)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        if not resume:
            (folder / CHECKPOINT).unlink(missing_ok=True)
        elif (folder / CHECKPOINT).exists():
            read_checkpoint(folder / CHECKPOINT, run.state, run.description)

    history = run.history
    with ExitStack() as stack:
        shows = []
        if progress:
            shows.append(stack.enter_context(progress_bar(history)))
        if folder is not None and tensorboard:
            shows.append(stack.enter_context(tensorboard_log(history, folder / TENSORBOARD)))
        if folder is not None:
            run.write_configuration(folder)
        snapshot: Snapshot | None = None
        try:
            while run.unfinished:
                run.train_epoch()
                if folder is not None:
                    with one_thread():
                        snapshot = take_snapshot(run.state, run.description)
                    if history.epochs % checkpoint_every == 0 or not run.unfinished:
                        _write(folder, snapshot, history)
                for show in shows:
                    show(history)
        except KeyboardInterrupt:
            if folder is None or snapshot is None:
                raise
            write_checkpoint(folder / CHECKPOINT, snapshot)
            raise KeyboardInterrupt(
                f"stopped after {snapshot.header['epochs']} of {epochs} epochs: call meta_train "
                f"again with the same arguments and out={str(out)!r} to go on"
            ) from None
    run.finish()
    if folder is not None:
        model.save_pretrained(folder)
    return history


@dataclass(frozen=True)
class _Part:
    """Training or validation tasks and what draws their episodes."""

    tasks: TaskSet
    sampler: EpisodeSampler


class _Run:
    """One training run: what it is made of, and one epoch of it."""

    def __init__(self, model: TIML, tasks: TaskSet, options: Options) -> None:
        _check(model, tasks)
        require_rates("inner_lr", options.inner_lr, tensor_count(model.classifier.layers))
        learned = model.log_step_sizes
        if learned is not None and len(learned) != options.inner_steps:
            raise ValueError(
                f"the model learns the sizes of {len(learned)} inner steps, inner_steps is "
                f"{options.inner_steps}: give the same"
            )
        parts = (tasks, tasks.subset([]))
        if options.validation > 0:
            parts = tasks.split(options.validation, options.seed)
        self.training, self.validation = (
            _Part(
                part,
                EpisodeSampler(
                    tasks.data,
                    part,
                    options.k,
                    options.query,
                    options.inner_steps,
                    options.seed,
                ),
            )
            for part in parts
        )
        self.model, self.options, self.tasks = model, options, tasks
        parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(parameters, lr=options.meta_lr, fused=True)
        self.history = TrainingHistory(
            [task.id for task in parts[0]], [task.id for task in parts[1]], options.epochs
        )
        self.state = State(model, self.optimizer, self.history, {})
        self.description = describe_run(model, tasks, options)

    @property
    def unfinished(self) -> bool:
        """Whether there is another epoch and a task left for it."""
        return self.history.epochs < self.options.epochs and bool(self.history.remaining.any())

    def train_epoch(self) -> None:
        """Train for one epoch, validate, forget, and keep the weights if they are the best."""
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

    def finish(self) -> None:
        """Give the model the best weights."""
        self.optimizer.zero_grad()
        if self.state.best:
            self.model.load_state_dict(self.state.best)
        else:
            self.history.best_epoch = self.history.epochs - 1
        self.model.normalization = normalization_of(self.tasks.data)
        self.model.eval()
        self.model.metric = learn_metric(self.model, self.tasks)

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


def _check(model: TIML, tasks: TaskSet) -> None:
    """Raise unless the model can be trained on the tasks."""
    if not isinstance(tasks, TaskSet):
        raise TypeError(
            f"tasks is a {type(tasks).__name__}: give the TaskSet of timl.meta_tasks(data)"
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("model has no parameter that requires a gradient: nothing to train")
    if len(tasks) == 0:
        raise ValueError("tasks is empty: there is nothing to train on")
    series = tasks.data.series(tasks.positives[0][:1]).shape[1:]
    sizes = (model.classifier.steps, model.classifier.bands)
    if series != sizes:
        raise ValueError(
            f"the tasks' series have shape {list(series)}, the model takes {list(sizes)}: give "
            f"TIML(steps={series[0]}, bands={series[1]})"
        )
    taken = model.classifier.appended if model.encoder is None else model.encoder.info_size
    if taken not in (0, tasks.info.shape[1]):
        raise ValueError(
            f"the tasks have {tasks.info.shape[1]} numbers, the model's encoder takes {taken}"
        )


def _batches(indices: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def _auc(losses: Losses, episodes: Episodes) -> NDArray[np.float64]:
    return auc_roc(losses.logits.numpy(), np.asarray(episodes.query_y))


def _finite(
    losses: Losses, tasks: TaskSet, chosen: NDArray[np.int64], epoch: int
) -> NDArray[np.float64]:
    """Return the query losses as float64 [N], which must all be finite."""
    values: NDArray[np.float64] = losses.task_loss.numpy().astype(np.float64)
    if not np.isfinite(values).all():
        names = ", ".join(tasks[int(i)].id for i in chosen[~np.isfinite(values)])
        raise FloatingPointError(
            f"the query loss is not finite in epoch {epoch} for {names}: try a smaller inner_lr "
            f"or meta_lr"
        )
    return values


def _write(folder: Path, snapshot: Snapshot, history: TrainingHistory) -> None:
    write_checkpoint(folder / CHECKPOINT, snapshot)
    with atomic_write(folder / HISTORY, "w") as file:
        file.write(history.to_json())
