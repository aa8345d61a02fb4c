"""`timl.nn.TaskEncoder`: the paper's formulas, reproducible draws, the same bits always."""

import numpy as np
import pytest
import torch
from timl.nn import TaskEncoder, one_thread
from timl.parameters import counts, film_shapes, unflatten
from timl.random import Purpose, dropout_mask, normal
from torch.nn import functional

SIZES = {"steps": 3, "bands": 4, "hidden": 8, "layers": 2}
SHAPES = film_shapes(**SIZES)


def small(**arguments):
    torch.manual_seed(0)
    return TaskEncoder(info_size=5, sizes=(16, 32), **SIZES, **arguments).double()


def by_formula(encoder, info, masks):
    z = info
    for block in range(2):
        z = functional.gelu(encoder.linears[block](z))
        grouped = z.reshape(-1, 16)
        grouped = (grouped - grouped.mean(1, keepdim=True)) / (
            grouped.var(1, keepdim=True, unbiased=False) + 1e-5
        ).sqrt()
        norm = encoder.norms[block]
        z = (grouped.reshape(z.shape) * norm.weight + norm.bias) * masks[block]
    values = unflatten(encoder.head(z), SHAPES)
    values["gamma_0"] = 1 + torch.sigmoid(values["gamma_0"])
    values["beta_0"] = torch.sigmoid(values["beta_0"])
    for name in ("gamma_1", "beta_1", "gamma_2", "beta_2"):
        values[name] = functional.gelu(values[name])
    return torch.cat([value.flatten() for value in values.values()]) * masks[2]


def test_evaluation_is_the_formula_for_one_task_or_many():
    encoder = small().eval()
    for norm in encoder.norms:
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    info = torch.randn(3, 5, dtype=torch.float64)
    films = encoder(info)
    assert films.shape == (3, sum(counts(SHAPES))) and encoder(info[0]).shape == films[0].shape
    for one, film in zip(info, films, strict=True):
        torch.testing.assert_close(film, by_formula(encoder, one, (1, 1, 1)))
        torch.testing.assert_close(encoder(one), film)
        torch.testing.assert_close(encoder(one.numpy().astype(np.float32)), film, atol=1e-5, rtol=0)


def test_training_is_the_formula_with_philox_draws():
    encoder = small(dropout=0.3, noise=0.5).train()
    info = torch.randn(3, 5, dtype=torch.float64)
    tasks = np.array([7, 2, 9])
    films = encoder(info, key=(11, 4, tasks))
    for one, task, film in zip(info, tasks, films, strict=True):
        key = {"seed": 11, "epoch": 4, "task": task}
        noise = torch.from_numpy(normal((5,), **key, purpose=Purpose.TASK_NOISE))
        units = 16 + 32 + sum(counts(SHAPES))
        mask = dropout_mask((units,), 0.3, **key, purpose=Purpose.ENCODER_DROPOUT)
        masks = torch.from_numpy(mask).double().split([16, 32, sum(counts(SHAPES))])
        torch.testing.assert_close(film, by_formula(encoder, one + 0.5 * noise, masks))
        torch.testing.assert_close(encoder(one, key=(11, 4, int(task))), film)
    assert 0.15 < (films == 0).double().mean() < 0.45


def test_without_a_key_torchs_generator_draws():
    encoder = small().train()
    info = torch.randn(3, 5, dtype=torch.float64)
    torch.manual_seed(1)
    first, second = encoder(info), encoder(info)
    torch.manual_seed(1)
    assert torch.equal(encoder(info), first) and not torch.equal(first, second)
    encoder.dropout = encoder.noise = 0.0
    assert torch.equal(encoder(info), encoder.eval()(info))
    encoder.train().noise = 0.1
    assert not torch.equal(encoder(info), encoder.eval()(info))


@pytest.mark.parametrize("tasks", [7, 32])
def test_same_bits_with_any_number_of_threads(tasks):
    torch.manual_seed(0)
    encoder = TaskEncoder().train()
    info, direction = torch.randn(tasks, 13), torch.randn(tasks, 944)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            with one_thread():
                film = encoder(info, key=(0, 1, np.arange(tasks)))
                gradients = torch.autograd.grad(film, list(encoder.parameters()), direction)
            assert torch.get_num_threads() == threads
            results.append([film, *gradients])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize(
    ("info", "error", "message"),
    [
        (torch.zeros(3, 6), ValueError, r"info is a tensor of shape \[3, 6\]: give shape \[N, 5\]"),
        (torch.zeros(6), ValueError, r"info is a tensor of shape \[6\]: give shape \[5\]"),
        (torch.zeros(1, 1, 5), ValueError, r"\[1, 1, 5\]: give shape \[N, 5\]"),
        (torch.zeros(0, 5), ValueError, r"info is empty, of shape \[0, 5\]"),
        (torch.zeros(3, 5).double(), TypeError, "float64.*float32"),
        (torch.full((3, 5), torch.nan), ValueError, r"info is of shape \[3, 5\] with 15 NaN"),
    ],
)
def test_wrong_info(info, error, message):
    with pytest.raises(error, match=message):
        small().float()(info)


def test_wrong_key_and_sizes():
    with pytest.raises(ValueError, match=r"tasks of shape \[2\]: .* shape \[3\]"):
        small().train()(torch.zeros(3, 5).double(), key=(0, 0, np.arange(2)))
    with pytest.raises(
        ValueError, match=r"sizes is \[24\]: give multiples of channels_per_group = 16"
    ):
        TaskEncoder(sizes=(24,))
    with pytest.raises(ValueError, match="noise is -1: give"):
        TaskEncoder(noise=-1)
