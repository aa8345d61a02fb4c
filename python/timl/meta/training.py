"""Meta-training: a run from its options to the files that it leaves, resumable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from timl import defaults
from timl.data import NWayTaskSet, TaskSet
from timl.files import atomic_write, output_folder
from timl.meta.checkpoints import (
    CHECKPOINT,
    Snapshot,
    read_checkpoint,
    restore_snapshot,
    take_snapshot,
    write_checkpoint,
)
from timl.meta.checks import require_count
from timl.meta.configuration import Options
from timl.meta.history import TrainingHistory
from timl.meta.progress import progress_bar, tensorboard_log
from timl.meta.ranks import Ranks
from timl.meta.run import TrainingRun
from timl.meta.strong.learning import RECORD, learn_deep_kernel
from timl.nn import TIML, Device, one_thread
from timl.nn.devices import device_of

HISTORY, TENSORBOARD, KERNEL = "history.json", "tensorboard", "deep-kernel"


def meta_train(
    model: TIML,
    tasks: TaskSet | NWayTaskSet,
    *,
    epochs: int = defaults.EPOCHS,
    meta_batch: int = defaults.META_BATCH,
    k: int = defaults.K,
    query: int = defaults.QUERY,
    inner_lr: float | Sequence[float] = defaults.INNER_LEARNING_RATE,
    inner_steps: int = defaults.INNER_STEPS,
    first_order: bool = False,
    meta_lr: float = defaults.META_LEARNING_RATE,
    min_meta_lr: float = defaults.MIN_META_LEARNING_RATE,
    validation: float = defaults.VALIDATION,
    forgetting_threshold: float | None = defaults.FORGETTING_THRESHOLD,
    forgetting_window: int = defaults.FORGETTING_WINDOW,
    best_window: int = defaults.BEST_WINDOW,
    seed: int = 0,
    device: Device | None = None,
    first_batch_of_one: bool = False,
    validation_moves_statistics: bool = False,
    kernel_steps: int = defaults.KERNEL_STEPS,
    out: str | Path | None = None,
    resume: bool = True,
    checkpoint_every: int = 20,
    tensorboard: bool = False,
    progress: bool = True,
) -> TrainingHistory:
    """Meta-train a model on a set of tasks (TIML, sections 3 and 4).

    In an epoch every training task that is not forgotten is visited once, in random order, in
    meta-batches of which the last may be smaller; after each, Adam moves classifier and encoder by
    the meta-gradient. Then the model is adapted to the validation tasks and scored on them, in
    training mode too, without being changed. All random numbers come from the seed, the task and
    the epoch: the same seed gives the same bits with any number of threads, and after a resume.

    Where torch.distributed's default group is there, its processes share the tasks of every
    meta-batch and get the bits of one process; all must give the same arguments
    (docs/how-to/several-machines.md).

    Parameters
    ----------
    model
        Model that is trained in place. In the end it has the best weights, the normalising
        statistics of the data and, for the strong protocol, a deep kernel (see
        `timl.meta.learn_deep_kernel`), and is in evaluation mode.
    tasks
        Tasks of `timl.meta_tasks`, or of several classes, of `timl.data.nway_tasks`, made for
        episodes of at least these sizes. On tasks of several classes every episode starts from a
        last dense layer of zeros, whatever outputs the model has, and the model's own stays zero:
        `model.for_task(info).with_outputs(K)` is where adapting to K classes starts
        (docs/explanation/meta-step.md).
    epochs
        Number of epochs.
    meta_batch
        Number of tasks in a meta-batch.
    k, query
        Positives, and negatives, of a support set; samples of a query set. Of several classes:
        samples of each class in a support set, and in a query set.
    inner_lr, inner_steps, first_order
        Those of `timl.meta_gradient`; every inner step has a support set of its own. A list as
        `inner_lr` has one step size for each parameter tensor of the classifier, in the order of
        `timl.parameters.weight_shapes`. A model that learns its step sizes uses its own instead.
    meta_lr, min_meta_lr
        Outer learning rate of the first epoch, and the rate that its cosine falls towards.
    validation
        Share of the tasks that validate, at least one; with 0 no task validates.
    forgetting_threshold, forgetting_window
        A task is forgotten once its AUC ROC, on its query sets after adaptation, averages at least
        this over so many epochs; None: no task is forgotten. Training ends early when all are.
    best_window
        The best epoch has the smallest validation loss, averaged over the tasks and over so many
        epochs up to and with it. Earlier epochs do not count (in a run of fewer epochs only the
        last does), and of equal ones the first is the best. Where no epoch counts, as without
        validation tasks, the last weights are the best.
    seed
        Seed of the split into training and validation tasks, and of every draw. The initial
        weights are the model's own.
    device
        Device to train on, such as "cuda"; the model is moved there and stays. None: where it is.
        Draws are the same on every device, results agree to rounding. The deep kernel is learned on
        the CPU.
    first_batch_of_one
        Whether the first meta-batch of an epoch holds one task, as in the authors' published code.
    validation_moves_statistics
        Whether the passes over the validation tasks move the running statistics of the batch
        normalisation, as in the authors' published code.
    kernel_steps
        Steps of learning each network of the deep kernel, after meta-training; with 0 the model
        has none, and is adapted by the paper's protocol alone.
    out
        Folder for the checkpoint, and in the end the best model (for `TIML.from_pretrained`);
        `run.json` has the configuration and versions, `history.json` the losses and AUC ROC of
        every task and epoch, and when it was forgotten.
    resume
        Whether to go on from a checkpoint in `out`, if there is one; its options, model sizes and
        data must be the same, and the weights given are ignored. Otherwise training starts over.
    checkpoint_every
        Number of epochs between checkpoints. One more is written when training ends or is
        interrupted.
    tensorboard
        Whether to log for TensorBoard into `out`.
    progress
        Whether to show a progress bar.

    Returns
    -------
    TrainingHistory
        Losses and AUC ROC, as in `history.json`.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, a task has too few samples, the checkpoint in `out` is of
        another run, truncated or foreign, or there is no such device.
    FloatingPointError
        If a loss is no longer finite. The last checkpoint stays.
    ImportError
        If TensorBoard is asked for and not installed.
    BlockingIOError
        If another process is training into `out`.
    KeyboardInterrupt
        If training is interrupted, after the last finished epoch has been written.
    ConnectionError
        If another process of the group has ended, after the last finished epoch has been written.
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
    require_count("kernel_steps", kernel_steps, least=0)
    if tensorboard and out is None:
        raise ValueError("out is None: give a folder for tensorboard=True")
    model.deep_kernel = None  # the run's state is without it
    ranks = Ranks()
    if device is not None:
        model.to(ranks.device(device))
    ranks.require_exchange(device_of(model))
    run = TrainingRun(model, tasks, options, ranks)
    ranks.require_same("options, models or data", run.description)
    folder = None if out is None or not ranks.first else Path(out)
    history = run.history
    with _writing(folder, run, resume):
        _start_alike(run)
        with ExitStack() as stack:
            shows = []
            if progress and ranks.first:
                shows.append(stack.enter_context(progress_bar(history)))
            if folder is not None and tensorboard:
                shows.append(stack.enter_context(tensorboard_log(history, folder / TENSORBOARD)))
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
            except (KeyboardInterrupt, ConnectionError) as error:
                if folder is None or snapshot is None:
                    raise
                write_checkpoint(folder / CHECKPOINT, snapshot)
                if isinstance(error, ConnectionError):
                    raise
                raise KeyboardInterrupt(
                    f"stopped after {snapshot.header['epochs']} of {epochs} epochs: call "
                    f"meta_train again with the same arguments and out={str(out)!r} to go on"
                ) from None
        run.finish()
        if kernel_steps:
            learned = None if folder is None else folder / KERNEL
            kernel = ranks.of_first(
                lambda: learn_deep_kernel(
                    tasks, steps=kernel_steps, seed=seed, out=learned, progress=progress
                )
            )
            if kernel is not None:
                model.deep_kernel = kernel.to(model.classifier.input_weight)
        if folder is not None:
            model.save_pretrained(folder)
    return history


@contextmanager
def _writing(folder: Path | None, run: TrainingRun, resume: bool) -> Iterator[None]:
    """Restore a run from its folder, and keep other processes from writing there meanwhile.

    A run that is finished is not kept from them: many processes may read what one has trained.
    """
    if folder is None:
        yield
        return
    if resume and _restore(folder, run):
        _complete(folder, run.history)
        yield
        return
    with output_folder(folder):
        if not resume:
            (folder / CHECKPOINT).unlink(missing_ok=True)
            (folder / KERNEL / RECORD).unlink(missing_ok=True)
        else:
            _restore(folder, run)  # again: another process may have gone on
        run.write_configuration(folder)
        yield


def _start_alike(run: TrainingRun) -> None:
    """Give the run the weights and the state of training of its first process."""
    if run.ranks.count == 1:
        return
    snapshot = run.ranks.of_first(lambda: take_snapshot(run.state, run.description))
    if not run.ranks.first:
        restore_snapshot(run.state, snapshot)


def _complete(folder: Path, history: TrainingHistory) -> None:
    """Write what a process could not that was killed after its last epoch, and tidy its folder."""
    with suppress(BlockingIOError), output_folder(folder):
        path = folder / HISTORY
        if not path.exists() or path.read_bytes() != history.to_json().encode():
            _write_history(folder, history)


def _restore(folder: Path, run: TrainingRun) -> bool:
    """Restore a run from its checkpoint, if there is one; return whether no epoch is left."""
    if not (folder / CHECKPOINT).exists():
        return False
    read_checkpoint(folder / CHECKPOINT, run.state, run.description)
    return not run.unfinished


def _write(folder: Path, snapshot: Snapshot, history: TrainingHistory) -> None:
    write_checkpoint(folder / CHECKPOINT, snapshot)
    _write_history(folder, history)


def _write_history(folder: Path, history: TrainingHistory) -> None:
    with atomic_write(folder / HISTORY, "w") as file:
        file.write(history.to_json())
