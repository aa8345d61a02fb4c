"""`timl.finetune`: plain gradient descent on draws of the benchmark."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from made import same_bits, small_model, state_of
from timl import finetune, random
from timl.random import Purpose
from timl.reference import mean_loss


@pytest.mark.parametrize(
    ("dtype", "bounds"),
    [(torch.float32, {}), (torch.float64, {"rtol": 1e-11, "atol": 1e-13})],
)
def test_it_is_gradient_descent_on_the_benchmarks_draws(benchmark_task, threads, dtype, bounds):
    model = small_model().to(dtype).train()
    before = state_of(model)
    adapted = finetune(model, benchmark_task, steps=5, k=4, learning_rate=0.1, seed=3)

    expected = model.for_task(benchmark_task.info).train()
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1)
    for step in range(5):
        x, y = benchmark_task.sample(4, seed=3, step=step)
        purpose = Purpose.FINE_TUNING_DROPOUT
        mask = random.dropout_mask((8, 16), 0.2, seed=3, step=step, purpose=purpose)
        logits = expected(torch.from_numpy(x).to(dtype), mask=torch.from_numpy(mask).to(dtype))
        optimizer.zero_grad()
        mean_loss(logits, torch.from_numpy(y).to(dtype)).backward()
        optimizer.step()

    for (name, tensor), other in zip(
        adapted.state_dict().items(), expected.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(tensor, other, msg=name, **bounds)
    assert not adapted.training and all(p.grad is None for p in adapted.parameters())
    assert torch.equal(adapted.film, expected.film)
    assert np.array_equal(adapted.normalization["mean"], benchmark_task.data.mean)
    assert same_bits(before, state_of(model)) and model.training
    assert model.normalization is None


def test_the_same_bits_with_any_number_of_threads(benchmark_task):
    states, before = [], torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        states.append(state_of(finetune(small_model(), benchmark_task, steps=20)))
    torch.set_num_threads(before)
    assert same_bits(*states)
    other = finetune(small_model(), benchmark_task, steps=20, seed=1)
    assert not same_bits(states[0], state_of(other))


def test_it_learns(benchmark_task):
    series, labels = benchmark_task.train_arrays()
    x, y = torch.from_numpy(series), torch.from_numpy(labels).float()
    model = small_model()
    losses = [
        mean_loss(finetune(model, benchmark_task, steps=steps, learning_rate=0.1)(x), y).item()
        for steps in (0, 60)
    ]
    assert losses[1] < 0.5 * losses[0]


def test_a_classifier_keeps_its_film(benchmark_task):
    classifier = small_model().for_task(benchmark_task.info)
    before = copy.deepcopy(classifier)
    adapted = finetune(classifier, benchmark_task, steps=3)
    assert torch.equal(adapted.film, classifier.film)
    assert same_bits(state_of(before), state_of(classifier))
    from_model = finetune(small_model(), benchmark_task, steps=3)
    assert same_bits(state_of(adapted), state_of(from_model))


def test_few_samples(benchmark_task):
    benchmark_task.positives = benchmark_task.positives[:3]
    with pytest.warns(UserWarning, match=r"3 positives and 24 negatives: .* 3 of each"):
        few = finetune(small_model(), benchmark_task, steps=3)
    assert same_bits(state_of(few), state_of(finetune(small_model(), benchmark_task, steps=3, k=3)))
    benchmark_task.positives = benchmark_task.positives[:0]
    with pytest.raises(ValueError, match="0 positives and 24 negatives: give some of both"):
        finetune(small_model(), benchmark_task)


def test_bad_arguments(benchmark_task):
    with pytest.raises(ValueError, match="steps is -1"):
        finetune(small_model(), benchmark_task, steps=-1)
    with pytest.raises(ValueError, match="learning_rate is 0"):
        finetune(small_model(), benchmark_task, learning_rate=0)
    with pytest.raises(ValueError, match=r"x is a tensor .*: give shape \[B, 12, 31\]"):
        finetune(small_model(bands=31), benchmark_task)
    model = small_model()
    with torch.no_grad():
        model.classifier.dense[1].weight.fill_(torch.inf)
    with pytest.raises(ValueError, match="the loss is nan after 0 fine-tuning steps"):
        finetune(model, benchmark_task)


def test_the_bits_do_not_depend_on_how_many_steps_the_engine_takes_at_once(
    benchmark_task, monkeypatch
):
    together = finetune(small_model(), benchmark_task, steps=5)
    monkeypatch.setattr("timl.meta.finetuning._STEPS_AT_ONCE", 2)
    assert same_bits(state_of(together), state_of(finetune(small_model(), benchmark_task, steps=5)))


def test_frozen_parameters_stay(benchmark_task):
    classifier = small_model().for_task(benchmark_task.info)
    classifier.input_weight.requires_grad_(False)
    adapted = finetune(classifier, benchmark_task, steps=3, learning_rate=0.1)
    assert torch.equal(adapted.input_weight, classifier.input_weight)
    assert not torch.equal(adapted.hidden_weight, classifier.hidden_weight)


def test_a_rate_for_each_tensor(benchmark_task):
    options = {"steps": 3, "seed": 1}
    one = finetune(small_model(), benchmark_task, learning_rate=0.1, **options)
    six = finetune(small_model(), benchmark_task, learning_rate=[0.1] * 6, **options)
    for (name, tensor), other in zip(six.named_parameters(), one.parameters(), strict=True):
        torch.testing.assert_close(tensor, other, msg=name)
    with pytest.raises(ValueError, match=r"learning_rate is \[0.1, 0.1\]: .* or 6 finite numbers"):
        finetune(small_model(), benchmark_task, learning_rate=[0.1, 0.1])
