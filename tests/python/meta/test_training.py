"""`timl.meta_train`: the same bits always, forgetting, best weights, files and errors."""

from __future__ import annotations

import json
import os
import sys
import types

import numpy as np
import pytest
import torch
from made import made_tasks, same_bits, small_model, state_of
from timl import TIML, meta_train
from timl.meta import TrainingHistory
from timl.meta.run import TrainingRun
from timl.meta.scores import auc_roc

QUICK = {
    "epochs": 6,
    "meta_batch": 3,
    "k": 3,
    "query": 4,
    "validation": 0.3,
    "forgetting_window": 2,
    "best_window": 3,
    "meta_lr": 0.01,
    "kernel_steps": 0,
    "progress": False,
}


def train(tasks, model=None, **options):
    model = small_model() if model is None else model
    return model, meta_train(model, tasks, **{**QUICK, **options})


def histories_agree(one, other):
    return (one.epochs, one.best_epoch) == (other.epochs, other.best_epoch) and all(
        np.array_equal(a, b, equal_nan=True)
        for name, a in one.arrays().items()
        for b in [other.arrays()[name]]
        if name != "seconds"
    )


def interrupt(monkeypatch, error, epoch):
    """Let the run fail in the middle of an epoch."""
    original = TrainingRun._validate

    def fail(self, chosen, current):
        if current == epoch:
            raise error
        original(self, chosen, current)

    monkeypatch.setattr(TrainingRun, "_validate", fail)


def test_the_same_bits_with_any_number_of_threads(tasks):
    runs, before = [], torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        runs.append(train(tasks))
    torch.set_num_threads(before)
    (one, history), (two, other) = runs
    assert same_bits(state_of(one), state_of(two)) and histories_agree(history, other)
    assert not same_bits(state_of(one), state_of(train(tasks, seed=1)[0]))


@pytest.mark.parametrize("error", [RuntimeError("killed"), KeyboardInterrupt()])
def test_the_same_bits_after_a_resume(tasks, tmp_path, monkeypatch, error):
    expected, history = train(tasks)
    with monkeypatch.context() as patch, pytest.raises(type(error)) as caught:
        interrupt(patch, error, epoch=4)
        train(tasks, out=tmp_path, checkpoint_every=3)
    if isinstance(error, KeyboardInterrupt):
        assert "stopped after 4 of 6 epochs" in str(caught.value)
    assert not (tmp_path / "model.safetensors").exists()
    torch.manual_seed(5)  # the weights given to a resumed run are ignored
    model = TIML(hidden=16, encoder_sizes=(16, 32))
    _, resumed = train(tasks, model, out=tmp_path, checkpoint_every=4)
    assert same_bits(state_of(model), state_of(expected)) and histories_agree(resumed, history)


def test_the_folder_of_a_run(tasks, tmp_path):
    model, history = train(tasks, out=tmp_path, inner_steps=2, first_order=True)
    assert not model.training and all(p.grad is None for p in model.parameters())
    loaded = TIML.from_pretrained(tmp_path)
    assert same_bits(state_of(loaded), state_of(model))
    assert loaded.normalization["ndvi"] == "true"
    assert np.array_equal(loaded.normalization["mean"], np.arange(18))
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["run"]["inner_steps"] == 2 and run["versions"]["torch"] == torch.__version__
    stored = json.loads((tmp_path / "history.json").read_text())
    assert [task["id"] for task in stored["tasks"]] == history.task_ids
    assert len(stored["validation_tasks"]) == 2 and len(stored["tasks"][0]["auc"]) == 6
    assert len(history.table()) == 6
    _, again = train(tasks, out=tmp_path, inner_steps=2, first_order=True)
    assert histories_agree(again, history)  # a finished run is not trained on


def test_learned_tasks_are_forgotten():
    tasks = made_tasks(regions=6, easy=2)
    _, history = train(
        tasks, small_model(dropout=0.0), epochs=40, validation=0, forgetting_window=5
    )
    assert (history.forgotten[:2] >= 4).all()
    for task in np.flatnonzero(~history.remaining):
        last = history.forgotten[task]
        assert history.task_auc[last - 4 : last + 1, task].mean() >= 0.95
        assert np.isnan(history.task_auc[last + 1 :, task]).all()
        for epoch in range(4, last):
            assert history.task_auc[epoch - 4 : epoch + 1, task].mean() < 0.95
    assert np.isfinite(history.task_auc[: history.epochs, history.remaining]).all()
    assert history.best_epoch == history.epochs - 1  # nothing validates
    _, kept = train(tasks, epochs=2, forgetting_threshold=None)
    assert kept.remaining.all()


def test_training_ends_when_all_tasks_are_forgotten():
    _, history = train(made_tasks(regions=3, easy=3), epochs=60, inner_lr=0.1, validation=0)
    assert history.epochs < 60 and not history.remaining.any()


def test_the_best_weights_are_those_of_the_smallest_mean_validation_loss(tasks, monkeypatch):
    states = []
    original = TrainingRun._keep_best

    def keep_best(self, epoch):
        states.append(state_of(self.model))
        original(self, epoch)

    monkeypatch.setattr(TrainingRun, "_keep_best", keep_best)
    model, history = train(tasks, epochs=9, best_window=3)
    means = history.validation_loss.mean(axis=1)
    windows = [means[epoch - 2 : epoch + 1].mean() for epoch in range(2, 9)]
    assert history.best_epoch == 2 + int(np.argmin(windows))
    assert same_bits(state_of(model), states[history.best_epoch])
    _, short = train(tasks, epochs=2, best_window=20)
    assert short.best_epoch == 1


def test_validation_leaves_the_model_alone(tasks):
    with_validation = train(tasks, epochs=1)[0]
    subset = tasks.split(QUICK["validation"], 0)[0]
    alone = train(subset, epochs=1, validation=0)[0]
    assert same_bits(state_of(with_validation), state_of(alone))


def test_validation_moves_the_running_statistics_alone_where_asked(tasks):
    left, moved = (
        state_of(train(tasks, epochs=1, validation_moves_statistics=option)[0])
        for option in (False, True)
    )
    different = {name for name in left if not torch.equal(left[name], moved[name])}
    assert different and all("running" in name or "tracked" in name for name in different)


def test_a_checkpoint_of_another_run_is_refused(tasks, tmp_path):
    train(tasks, out=tmp_path, epochs=2)
    with pytest.raises(ValueError, match=r"k = 3 \(now 4\), seed = 0 \(now 1\): give the same"):
        train(tasks, out=tmp_path, epochs=2, seed=1, k=4)
    with pytest.raises(ValueError, match=r"a run with tasks = 7 \(now 6\), data = "):
        train(tasks[:6], out=tmp_path, epochs=2)
    model, _ = train(tasks, out=tmp_path, epochs=2, seed=1, resume=False)
    assert same_bits(state_of(model), state_of(train(tasks, epochs=2, seed=1)[0]))


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"{}" * 40])
def test_a_damaged_checkpoint_is_refused(tasks, tmp_path, damage):
    train(tasks, out=tmp_path, epochs=2)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="truncated or not a checkpoint"):
        train(tasks, out=tmp_path, epochs=2)


def test_a_model_is_no_checkpoint(tasks, tmp_path):
    small_model().save_pretrained(tmp_path)
    os.rename(tmp_path / "model.safetensors", tmp_path / "checkpoint.safetensors")
    with pytest.raises(ValueError, match="not a checkpoint of a training run"):
        train(tasks, out=tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run(tasks, tmp_path):
    with pytest.raises(FloatingPointError, match=r"not finite in epoch 0 for region \d_crop"):
        train(tasks, out=tmp_path, inner_lr=1e38)
    assert {file.name for file in tmp_path.iterdir()} == {"run.json"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"meta_lr": -1.0}, "meta_lr is -1"),
        ({"min_meta_lr": 1.0}, "min_meta_lr is 1.0: give a number from 0 to meta_lr = 0.01"),
        ({"validation": 1.0}, "validation is 1.0"),
        ({"forgetting_threshold": 1.5}, "forgetting_threshold is 1.5"),
        ({"seed": 2**64}, "seed is"),
        ({"k": 30}, "has 24 positives and 24 negatives; k=30"),
        ({"tensorboard": True}, "out is None: give a folder"),
    ],
)
def test_bad_arguments(tasks, options, message):
    with pytest.raises(ValueError, match=message):
        train(tasks, **options)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            small_model(bands=31),
            r"model is of series of shape \[12, 31\]: give TIML\(steps=12, bands=18\)",
        ),
        (small_model(info_size=5), r"model is of tasks of 5 numbers: give TIML\(info_size=13\)"),
        (small_model().requires_grad_(False), "model is frozen"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_anything_is_written(
    tasks, tmp_path, model, message
):
    with pytest.raises(ValueError, match=message):
        train(tasks, model, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_tasks_must_be_a_task_set(tasks):
    with pytest.raises(TypeError, match="tasks is a list"):
        train(list(tasks))


def test_progress_and_tensorboard(tasks, tmp_path, monkeypatch, capsys):
    logged = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            assert folder == tmp_path / "tensorboard" and purge_step == 0

        def add_scalar(self, name, value, epoch):
            logged.append((name, value, epoch))

        def close(self):
            logged.append("closed")

    module = types.ModuleType("tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    _, history = train(tasks, out=tmp_path, tensorboard=True, progress=True)
    losses = [entry[1] for entry in logged if entry[0] == "validation loss"]
    assert losses == pytest.approx(history.validation_loss.mean(axis=1))
    assert logged[-2:] == [("tasks left", history.remaining.sum(), 5), "closed"]
    assert "6/6" in capsys.readouterr().err

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install 'timl\[tensorboard\]'"):
        train(tasks, out=tmp_path, tensorboard=True)


def test_the_learning_rate_falls_along_a_cosine(tasks):
    _, history = train(tasks, epochs=4, meta_lr=0.01, min_meta_lr=0.002)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([parameter], lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4, eta_min=0.002)
    for rate in history.learning_rate:
        assert rate == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    constant, falling = (train(tasks, epochs=2, min_meta_lr=rate)[0] for rate in (0.01, 0.0))
    assert not same_bits(state_of(constant), state_of(falling))


def test_auc_roc_is_scikit_learns():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    scores = rng.integers(0, 5, (50, 8)).astype(np.float32)
    labels = (rng.permuted(np.tile(np.arange(8), (50, 1)), axis=1) < 3).astype(np.float32)
    expected = [roc_auc_score(y, s) for y, s in zip(labels, scores, strict=True)]
    np.testing.assert_allclose(auc_roc(scores, labels), expected)


def test_a_history_counts_only_full_windows_for_forgetting():
    history = TrainingHistory(["a", "b"], [], 5)
    history.task_auc[:3] = [[1.0, 1.0], [1.0, 0.9], [0.9, 1.0]]
    history.epochs = 1
    assert history.forget(0.95, window=2).size == 0
    history.epochs = 2
    assert history.forget(0.95, window=2).tolist() == [0, 1]


def test_appended_numbers_learned_steps_and_a_first_batch_of_one_resume_to_the_same_bits(
    tasks, tmp_path
):
    def train(epochs_before_stop=None):
        model = small_model(encoder=False, append_information=True, learned_steps=1)
        options = {
            "epochs": 4,
            "first_batch_of_one": True,
            "kernel_steps": 0,
            "progress": False,
        }
        folder = tmp_path / f"stop-{epochs_before_stop}"
        if epochs_before_stop:
            with pytest.MonkeyPatch.context() as patch:
                validate = TrainingRun._validate

                def stop(run, chosen, epoch):
                    if epoch == epochs_before_stop:
                        raise KeyboardInterrupt
                    validate(run, chosen, epoch)

                patch.setattr(TrainingRun, "_validate", stop)
                with pytest.raises(KeyboardInterrupt):
                    meta_train(model, tasks, out=folder, **options)
        meta_train(model, tasks, out=folder, **options)
        return model

    whole, resumed = train(), train(epochs_before_stop=2)
    assert same_bits(state_of(whole), state_of(resumed))
    fresh = small_model(encoder=False, append_information=True, learned_steps=1)
    for name in ("log_step_sizes", "classifier.input_weight"):
        assert not torch.equal(whole.get_parameter(name), fresh.get_parameter(name))
    read = type(whole).from_pretrained(tmp_path / "stop-None")
    assert read.configuration() == whole.configuration()
