"""Meta-gradients and meta-training of several classes, with shared and with fresh heads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made import MadeData, made_tasks, same_bits, small_model, state_of
from test_training import histories_agree, interrupt
from timl import Episodes, meta_gradient, meta_train, reference
from timl.data import BBox, NWayTask, NWayTaskSet
from timl.meta import meta_losses
from timl.meta.scores import auc_roc
from timl.reference import mean_loss

TASKS, WAYS = 2, 3
QUICK = {
    "epochs": 6, "meta_batch": 2, "k": 3, "query": 3, "validation": 0.4, "best_window": 3,
    "inner_lr": 0.3, "meta_lr": 0.01, "kernel_steps": 0, "progress": False,
    "forgetting_threshold": None,
}  # fmt: skip


def made_episodes(ways=WAYS, sets=1, weights=True, seed=0):
    rng = np.random.default_rng(seed)
    support = np.tile(np.arange(2 * ways) % ways, (TASKS, sets, 1)).astype(float)
    support[:, :, 0] = -1
    return Episodes(
        info=rng.normal(size=(TASKS, 13)),
        support_x=rng.normal(size=(TASKS, sets, 2 * ways, 12, 18)),
        support_y=support,
        query_x=rng.normal(size=(TASKS, ways + 1, 12, 18)),
        query_y=np.tile(np.arange(ways + 1) % ways, (TASKS, 1)).astype(float),
        outputs=ways,
        class_weights=rng.uniform(0.5, 2, (TASKS, ways)) if weights else None,
    )


def plain_losses(model, e, step, weights_of):
    """Adapt by the twin and autograd, without dropout, from `weights_of` of the classifier."""
    classifier, film = model.classifier, model.encoder(e.info)
    losses = []
    for task in range(TASKS):
        counted = None if e.class_weights is None else e.class_weights[task]

        def loss(x, y, weights, film=film[task], counted=counted):
            logits, *_ = reference.network(
                x, weights, film, None, *torch.zeros(2, classifier.layers, classifier.hidden),
                hidden=classifier.hidden, layers=classifier.layers, outputs=e.outputs,
                batch_statistics=True,
            )  # fmt: skip
            return mean_loss(logits, y, counted)

        weights = weights_of(classifier)
        for x, y in zip(e.support_x[task], e.support_y[task], strict=True):
            support = loss(x, y, weights)
            (gradient,) = torch.autograd.grad(support, weights, create_graph=True)
            weights = weights - step * gradient
        losses.append(loss(e.query_x[task], e.query_y[task], weights))
    return torch.stack(losses)


@pytest.mark.parametrize("ways", [2, 5])
@pytest.mark.parametrize("sets", [1, 2])
@pytest.mark.parametrize("fresh", [False, True])
def test_gradients_are_those_of_plain_autograd(ways, sets, fresh):
    model = small_model(outputs=1 if fresh else ways).double().eval()
    e = made_episodes(ways, sets).to_torch()

    def weights_of(classifier):
        weights = classifier.flat_weights()
        if not fresh:
            return weights
        head = torch.zeros(ways * (classifier.hidden + 1), dtype=torch.float64)
        return torch.cat([weights[: -(classifier.hidden + 1)], head])

    torch.set_default_dtype(torch.float64)
    try:
        expected = plain_losses(model, e, 0.1, weights_of)
    finally:
        torch.set_default_dtype(torch.float32)
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(
        expected.mean(), list(parameters.values()), allow_unused=True, materialize_grads=True
    )
    result = meta_gradient(model, e, 0.1, fresh_head=fresh)
    torch.testing.assert_close(result.task_loss, expected.detach(), rtol=1e-12, atol=0)
    assert result.logits.shape == (TASKS, ways + 1, ways)
    for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        found = parameter.grad
        if fresh and name.startswith("classifier.dense.1"):
            assert found is None or not found.any()
        else:
            assert (found - gradient).norm() < 1e-9 * gradient.norm() + 1e-14, name


def test_one_row_that_all_classes_share_gives_what_zeros_give():
    model = small_model(outputs=WAYS, dropout=0.0).double().eval()
    e = made_episodes()
    last = model.classifier.dense[-1]
    with torch.no_grad():
        last.weight[:] = last.weight[0].clone()
        last.bias[:] = last.bias[0].clone()
    shared = meta_losses(model, e, 0.1)
    fresh = meta_losses(model, e, 0.1, fresh_head=True)
    torch.testing.assert_close(shared.task_loss, fresh.task_loss, rtol=1e-10, atol=0)


def test_a_model_of_other_outputs_is_refused():
    with pytest.raises(ValueError, match=r"episodes is of 3 outputs: give a model of as many"):
        meta_gradient(small_model(), made_episodes())
    with pytest.raises(ValueError, match="model has 3 outputs, for tasks of two classes"):
        meta_train(small_model(outputs=3), made_tasks(), progress=False)


def test_the_area_of_several_classes_is_the_mean_of_each_against_the_rest():
    scores = np.array([[[2.0, 0, 0], [0, 2, 0], [0, 0, 2], [3, 0, 0]]])
    labels = np.array([[0.0, 1, 2, -1]])
    assert auc_roc(scores, labels) == 1
    assert auc_roc(-scores, labels) == 0
    assert np.isnan(auc_roc(scores, np.zeros((1, 4))))


@pytest.fixture
def tasks():
    """Five tasks of four classes, 12 samples each; class c is larger in band c."""
    data = MadeData(5, easy=0)
    position = np.arange(len(data)).reshape(5, 4, 12)
    for number in range(4):
        data.x[position[:, number].ravel(), :, number] += 3
    names = ("maize", "wheat", "potato", "grapes")
    kinds = ("cereals", "cereals", "root_tuber", "fruits_nuts")
    return NWayTaskSet(
        data,
        tuple(NWayTask(BBox(i, i + 1.0, 0, 1, f"region {i}"), names, kinds) for i in range(5)),
        tuple(tuple(of_region) for of_region in position),
        np.arange(5),
        WAYS,
    )


def test_meta_training_learns_to_tell_new_classes_apart(tasks):
    model = small_model(dropout=0.0)
    history = meta_train(model, tasks, **{**QUICK, "epochs": 40})
    assert not any(p.any() for p in model.classifier.dense[-1].parameters())
    assert history.task_auc[-10:].mean() > history.task_auc[:5].mean() + 0.1
    assert np.log(WAYS) - history.task_loss[-10:].mean() > 0.2
    classifier = model.for_task(tasks[0].info).with_outputs(4)
    assert classifier(torch.from_numpy(tasks.data.x[:5])).shape == (5, 4)


def test_the_same_bits_after_a_resume(tasks, tmp_path, monkeypatch):
    expected = small_model()
    history = meta_train(expected, tasks, **QUICK)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        interrupt(patch, RuntimeError("killed"), epoch=4)
        meta_train(small_model(), tasks, out=tmp_path, checkpoint_every=3, **QUICK)
    model = small_model()
    resumed = meta_train(model, tasks, out=tmp_path, checkpoint_every=3, **QUICK)
    assert same_bits(state_of(model), state_of(expected)) and histories_agree(resumed, history)
    with pytest.raises(ValueError, match="ways = 3"):
        other = NWayTaskSet(tasks.data, tasks.tasks, tasks.class_samples, tasks.numbers, 4)
        meta_train(small_model(), other, out=tmp_path, **QUICK)
