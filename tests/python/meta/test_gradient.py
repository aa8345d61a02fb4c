"""`timl.meta_gradient` against plain automatic differentiation, and what it does to the model."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from made import same_bits, small_model, state_of
from timl import Episodes, meta_gradient, random, reference
from timl.meta import meta_losses
from timl.parameters import counts, weight_shapes
from timl.random import Purpose
from timl.reference import mean_loss

TASKS, SUPPORT, QUERY = 3, 6, 4
KEY = (7, 5, np.array([4, 0, 9]))


def made_episodes(sets=1, tasks=TASKS, dtype=np.float64, bands=18, seed=0):
    rng = np.random.default_rng(seed)
    return Episodes(
        info=rng.normal(size=(tasks, 13)).astype(dtype),
        support_x=rng.normal(size=(tasks, sets, SUPPORT, 12, bands)).astype(dtype),
        support_y=(np.arange(SUPPORT) % 2 * np.ones((tasks, sets, 1))).astype(dtype),
        query_x=rng.normal(size=(tasks, QUERY, 12, bands)).astype(dtype),
        query_y=(np.arange(QUERY) % 2 * np.ones((tasks, 1))).astype(dtype),
    )


def mask(rate, task, batch, hidden, purpose, step=0):
    seed, epoch, numbers = KEY
    where = {"seed": seed, "epoch": epoch, "task": numbers[task], "step": step}
    return torch.from_numpy(
        random.dropout_mask((batch, hidden), rate, purpose=purpose, **where)
    ).double()


def plain_losses(model, episodes, step_sizes, first_order):
    """Adapt to each task by the twin of the network and autograd; the losses keep their graph."""
    classifier = model.classifier
    hidden, layers, rate = classifier.hidden, classifier.layers, classifier.dropout
    e = episodes.to_torch()
    film = model.encoder(e.info, KEY)
    sizes = torch.tensor(counts(weight_shapes(18, hidden, layers)))

    def loss(x, y, weights, task, *draw):
        logits, *_ = reference.network(
            x,
            weights,
            film[task],
            mask(rate, task, len(x), hidden, *draw) if classifier.training else None,
            *torch.zeros(2, layers, hidden).double(),
            hidden=hidden,
            layers=layers,
            batch_statistics=True,
        )
        return mean_loss(logits, y)

    losses = []
    for task in range(TASKS):
        weights = classifier.flat_weights()
        for step in range(e.support_x.shape[1]):
            x, y = e.support_x[task, step], e.support_y[task, step]
            support = loss(x, y, weights, task, Purpose.SUPPORT_DROPOUT, step)
            (gradient,) = torch.autograd.grad(support, weights, create_graph=not first_order)
            weights = weights - step_sizes[step].repeat_interleave(sizes) * gradient
        losses.append(loss(e.query_x[task], e.query_y[task], weights, task, Purpose.QUERY_DROPOUT))
    return torch.stack(losses)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("inner_lr", [1e-3, 0.1])
@pytest.mark.parametrize("sets", [1, 3])
def test_gradients_are_those_of_plain_autograd(sets, inner_lr, training, first_order):
    model = small_model().double().train(training)
    episodes = made_episodes(sets)
    sizes = torch.full((sets, 6), inner_lr, dtype=torch.float64)
    expected = plain_losses(model, episodes, sizes, first_order)
    gradients = torch.autograd.grad(expected.mean(), list(model.parameters()))

    result = meta_gradient(model, episodes, inner_lr, sets, first_order, key=KEY)

    torch.testing.assert_close(result.task_loss, expected.detach(), rtol=1e-12, atol=0)
    assert float(result) == pytest.approx(expected.mean().item(), rel=1e-12)
    for (name, parameter), gradient in zip(model.named_parameters(), gradients, strict=True):
        error = (parameter.grad - gradient).norm() / gradient.norm()
        assert error < 1e-9, name


def test_step_sizes_can_be_learned():
    model, episodes = small_model().double().train(), made_episodes(sets=2)
    logarithms = torch.linspace(-5, -2, 12).double().reshape(2, 6).requires_grad_()
    loss = plain_losses(model, episodes, logarithms.exp(), first_order=False).mean()
    (expected,) = torch.autograd.grad(loss, logarithms)
    meta_gradient(model, episodes, logarithms.exp(), key=KEY)
    torch.testing.assert_close(logarithms.grad, expected, rtol=1e-9, atol=1e-15)

    one = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    meta_gradient(model, episodes, one, key=KEY)
    nudge = 1e-5
    up, down = (float(meta_losses(model, episodes, 0.1 + d, key=KEY)) for d in (nudge, -nudge))
    assert float(one.grad) == pytest.approx((up - down) / (2 * nudge), rel=1e-6)


def test_it_adds_to_the_gradients_and_leaves_frozen_parameters_alone():
    model, episodes = small_model().double(), made_episodes()
    meta_gradient(model, episodes, key=KEY)
    once = {name: p.grad.clone() for name, p in model.named_parameters()}
    meta_gradient(model, episodes, key=KEY)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, 2 * once[name], rtol=1e-12, atol=1e-15)

    model.zero_grad()
    model.classifier.requires_grad_(False)
    meta_gradient(model, episodes, key=KEY)
    assert all(p.grad is None for p in model.classifier.parameters())
    for name, parameter in model.encoder.named_parameters():
        assert torch.equal(parameter.grad, once[f"encoder.{name}"])
    assert not any(p.requires_grad for p in model.classifier.parameters())


def test_one_support_set_may_serve_every_inner_step():
    model, one = small_model().double().eval(), made_episodes()
    repeated = Episodes(
        one.info,
        np.repeat(one.support_x, 3, axis=1),
        np.repeat(one.support_y, 3, axis=1),
        one.query_x,
        one.query_y,
    )
    shared = meta_losses(model, one, inner_steps=3)
    assert shared.support_loss.shape == (TASKS, 3)
    assert torch.equal(shared.logits, meta_losses(model, repeated).logits)


def test_running_statistics_move_as_by_passes_in_order():
    model, episodes = small_model(dropout=0.0).double(), made_episodes(sets=2)
    model.encoder.eval()
    other = copy.deepcopy(model).classifier
    e = episodes.to_torch()
    for task in range(TASKS):  # with inner steps of 0 the weights stay
        film = model.encoder(e.info[task])
        for x in (*e.support_x[task], e.query_x[task]):
            other(x, film)
    meta_gradient(model, episodes, inner_lr=0.0)
    for name in ("running_mean", "running_variance", "num_batches_tracked"):
        torch.testing.assert_close(getattr(model.classifier, name), getattr(other, name))

    before = state_of(model)
    meta_gradient(model, episodes, update_statistics=False)
    meta_losses(model, episodes)
    model.eval()
    meta_gradient(model, episodes)
    assert same_bits(before, state_of(model))


def test_losses_only_are_the_same_losses():
    model, episodes = small_model().train(), made_episodes(dtype=np.float32)
    with_gradient = meta_gradient(model, episodes, key=KEY)
    model.zero_grad()
    alone = meta_losses(model, episodes, key=KEY)
    assert all(torch.equal(a, b) for a, b in zip(alone, with_gradient, strict=True))
    assert all(p.grad is None for p in model.parameters())


def test_without_a_key_the_draws_follow_torchs_seed():
    model, episodes = small_model().train(), made_episodes(dtype=np.float32)

    def two_draws(seed):
        torch.manual_seed(seed)
        return [meta_losses(model, episodes).logits for _ in range(2)]

    (first, second), again, other = two_draws(1), two_draws(1), two_draws(2)
    assert torch.equal(first, again[0]) and torch.equal(second, again[1])
    assert not torch.equal(first, second) and not torch.equal(first, other[0])
    model.eval()
    assert torch.equal(*two_draws(1))


def test_a_task_does_not_depend_on_its_companions(threads):
    model, episodes = small_model().train(), made_episodes(dtype=np.float32)
    whole = meta_losses(model, episodes, key=KEY)
    fields = ("info", "support_x", "support_y", "query_x", "query_y")
    alone = Episodes(*(getattr(episodes, name)[1:2] for name in fields))
    seed, epoch, numbers = KEY
    single = meta_losses(model, alone, key=(seed, epoch, numbers[1:2]))
    torch.testing.assert_close(single.logits[0], whole.logits[1])


def test_without_an_encoder_every_task_has_the_classifiers_film():
    model, episodes = small_model(encoder=False).double(), made_episodes()
    model.classifier.film.uniform_(0.5, 1.5)
    logits = meta_losses(model.eval(), episodes, inner_lr=0.0).logits
    model.train()
    model.classifier.dropout = 0.0
    torch.testing.assert_close(logits[0], model(torch.from_numpy(episodes.query_x[0])).detach())
    meta_gradient(model, episodes)
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"inner_steps": 2},
            r"inner_steps is 2, .*support_x of shape \[3, 3, 6, 12, 18\] with 3 support",
        ),
        ({"inner_steps": 0}, "inner_steps is 0"),
        ({"inner_lr": float("nan")}, "inner_lr is nan"),
        (
            {"inner_lr": torch.ones(4)},
            r"inner_lr is of shape \[4\]: give one that broadcasts to \[3, 6\]",
        ),
        ({"key": (0, 0, np.arange(2))}, r"shape \[2\]: give the numbers of the 3 tasks"),
        ({"episodes": made_episodes(bands=17)}, r"support_x is .*12, 17\]: give shape .*12, 18\]"),
    ],
)
def test_bad_arguments(arguments, message):
    model = small_model()
    with pytest.raises(ValueError, match=message):
        meta_gradient(model, **{"episodes": made_episodes(sets=3), **arguments})
    assert all(p.grad is None for p in model.parameters())


def test_a_batch_of_one_has_no_statistics():
    e = made_episodes()
    one = Episodes(e.info, e.support_x, e.support_y, e.query_x[:, :1], e.query_y[:, :1])
    with pytest.raises(
        ValueError, match=r"query_x is of shape \[3, 1, 12, 18\], batches of one series"
    ):
        meta_gradient(small_model(), one)
