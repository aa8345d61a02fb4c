"""The twin network and its meta-gradient: against torch.nn, central differences and itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timl import reference
from timl.parameters import counts, tensor_count

SIZES = [(3, 4, 8, 2), (1, 5, 8, 1), (2, 3, 16, 3)]  # T, F, H, L


def problem(steps, bands, hidden, layers, batch=6, seed=0):
    draw = torch.Generator().manual_seed(seed)
    total = sum(counts(reference.weight_shapes(bands, hidden, layers)))
    normal = lambda *shape: torch.randn(*shape, generator=draw, dtype=torch.float64)  # noqa: E731
    film = reference.identity_film(steps, bands, hidden, layers, dtype=torch.float64)
    return {
        "x": normal(batch, steps, bands),
        "weights": normal(total) / hidden**0.5,
        "film": film + 0.3 * normal(film.numel()),
        "mask": torch.bernoulli(torch.full((batch, hidden), 0.8).double(), generator=draw) / 0.8,
        "running_mean": 0.1 * normal(layers, hidden),
        "running_variance": normal(layers, hidden).exp(),
    }


def test_the_paper_size_has_these_weights_and_film_values():
    assert sum(counts(reference.weight_shapes(18, 128, 2))) == 91_777
    assert tensor_count(2) == 6
    assert list(reference.weight_shapes(18, 128, 2)) == [
        "input_weight", "hidden_weight", "gate_bias", "dense.0.weight", "dense.1.weight",
        "dense.1.bias",
    ]  # fmt: skip
    film = reference.unflatten_film(reference.identity_film(12, 18, 128, 2), 12, 18, 128, 2)
    assert {name: (tuple(v.shape), v.unique().item()) for name, v in film.items()} == {
        "gamma_0": ((12, 18), 1), "beta_0": ((12, 18), 0), "gamma_1": ((128,), 1),
        "beta_1": ((128,), 0), "gamma_2": ((128,), 1), "beta_2": ((128,), 0),
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"flat is \[91776\]: give \[91777\]"):
        reference.unflatten_weights(torch.zeros(91_776), 18, 128, 2)


@pytest.mark.parametrize("batch_statistics", [True, False])
def test_is_torch_lstm_batch_norm_and_linear(batch_statistics):
    steps, bands, hidden, layers = 4, 5, 8, 2
    case = problem(steps, bands, hidden, layers)
    case["mask"] = None
    w = reference.unflatten_weights(case["weights"], bands, hidden, layers)
    phi = reference.unflatten_film(case["film"], steps, bands, hidden, layers)
    lstm = torch.nn.LSTM(bands, hidden, batch_first=True).double()
    lstm.load_state_dict(
        {
            "weight_ih_l0": w["input_weight"],
            "weight_hh_l0": w["hidden_weight"],
            "bias_ih_l0": w["gate_bias"],
            "bias_hh_l0": torch.zeros(4 * hidden),
        }
    )
    norms = []
    for layer in range(layers):
        norms.append(torch.nn.BatchNorm1d(hidden, affine=False).double().train(batch_statistics))
        norms[layer].running_mean[:] = case["running_mean"][layer]
        norms[layer].running_var[:] = case["running_variance"][layer]
    h = lstm(case["x"] * phi["gamma_0"] + phi["beta_0"])[1][0][0]
    z1 = (norms[0](h) * phi["gamma_1"] + phi["beta_1"]) @ w["dense.0.weight"].T
    z1 = torch.nn.GELU()(z1)
    z2 = norms[1](z1) * phi["gamma_2"] + phi["beta_2"]
    expected = (z2 @ w["dense.1.weight"].T + w["dense.1.bias"])[:, 0]
    logits, mean, variance = reference.network(
        **case, hidden=hidden, layers=layers, batch_statistics=batch_statistics
    )
    torch.testing.assert_close(logits, expected, rtol=1e-12, atol=1e-12)
    if batch_statistics:
        torch.testing.assert_close(mean, torch.stack([h.mean(0), z1.mean(0)]).detach())
        torch.testing.assert_close(variance[1], z1.var(0, unbiased=False).detach())
    else:
        assert mean.shape == variance.shape == (0,)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("batch_statistics", [True, False])
def test_first_and_second_derivatives(size, batch_statistics):
    hidden, layers = size[2:]
    case = problem(*size, batch=4)

    def logits(x, weights, film):
        return reference.network(
            x, weights, film, case["mask"], case["running_mean"], case["running_variance"],
            hidden=hidden, layers=layers, batch_statistics=batch_statistics,
        )[0]  # fmt: skip

    inputs = [case[name].requires_grad_() for name in ("x", "weights", "film")]
    assert torch.autograd.gradcheck(logits, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(logits, inputs, fast_mode=True)


@settings(max_examples=15)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 9), st.integers(1, 3)),
    st.integers(2, 5),
)
def test_dropped_units_leave_no_trace(size, batch):
    _, _, hidden, layers = size
    case = problem(*size, batch=batch)
    case["mask"][:] = 0
    logits, mean, _ = reference.network(**case, hidden=hidden, layers=layers, batch_statistics=True)
    torch.testing.assert_close(logits, logits[:1].expand(batch))
    assert logits.shape == (batch,) and not mean[0].any()


def episodes(size, tasks=3, inner_steps=2, support=4, query=6, seed=1):
    steps, bands, hidden, layers = size
    case = problem(*size)
    draw = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=draw, dtype=torch.float64)  # noqa: E731
    film = reference.identity_film(steps, bands, hidden, layers, dtype=torch.float64)
    return {
        "support_x": normal(tasks, inner_steps, support, steps, bands),
        "support_y": (normal(tasks, inner_steps, support) > 0).double(),
        "query_x": normal(tasks, query, steps, bands),
        "query_y": (normal(tasks, query) > 0).double(),
        "weights": case["weights"],
        "film": film + 0.3 * normal(tasks, film.numel()),
        "support_mask": (normal(tasks, inner_steps, support, hidden) > -1) / 0.8,
        "query_mask": (normal(tasks, query, hidden) > -1) / 0.8,
        "step_sizes": 0.05
        + 0.1 * torch.rand(inner_steps, tensor_count(layers), generator=draw).double(),
    }


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("inner_steps", [1, 3])
def test_meta_gradient_against_central_differences(size, inner_steps):
    case = episodes(size, inner_steps=inner_steps)
    rest = {"hidden": size[2], "layers": size[3]}
    exact = reference.meta_gradient(**case, **rest, order=2)
    gradients = {
        "weights": exact.weights_gradient,
        "film": exact.film_gradient,
        "step_sizes": exact.step_size_gradient,
    }
    for seed, (name, gradient) in enumerate(gradients.items()):
        draw = torch.Generator().manual_seed(seed)
        direction = torch.randn(case[name].shape, generator=draw, dtype=torch.float64)
        sides = [
            reference.meta_gradient(
                **{**case, name: case[name] + h * direction}, **rest, order=0
            ).loss.mean()
            for h in (1e-7, -1e-7)
        ]
        difference = (sides[0] - sides[1]) / 2e-7
        torch.testing.assert_close(
            (gradient * direction).sum(), difference, rtol=1e-6, atol=1e-8, msg=name
        )


def test_orders_agree_on_the_losses_and_differ_in_the_gradient():
    size = SIZES[0]
    case = episodes(size)
    rest = {"hidden": size[2], "layers": size[3]}
    losses, first, second = (reference.meta_gradient(**case, **rest, order=o) for o in range(3))
    for name in ("loss", "logits", "support_loss", "batch_mean", "batch_variance"):
        torch.testing.assert_close(getattr(losses, name), getattr(second, name))
        torch.testing.assert_close(getattr(first, name), getattr(second, name))
    assert losses.weights_gradient.shape == (0,)
    # the last inner step's size enters the query loss directly: both orders see it alike
    torch.testing.assert_close(first.step_size_gradient[-1], second.step_size_gradient[-1])
    assert not torch.allclose(first.weights_gradient, second.weights_gradient)
    assert not torch.allclose(first.film_gradient, second.film_gradient)


def test_first_order_is_the_query_gradient_at_the_adapted_weights():
    size = SIZES[0]
    case = episodes(size, tasks=1, inner_steps=1)
    rest = {"hidden": size[2], "layers": size[3]}
    result = reference.meta_gradient(**case, **rest, order=1)
    unused = torch.zeros(size[3], size[2])

    def loss(x, y, weights, film, mask):
        logits, mean, _ = reference.network(
            x, weights, film, mask, unused, unused, **rest, batch_statistics=True
        )
        return reference.mean_loss(logits, y), logits, mean

    weights = case["weights"].requires_grad_()
    film = case["film"][0].requires_grad_()
    support_loss, _, support_mean = loss(
        case["support_x"][0, 0], case["support_y"][0, 0], weights, film, case["support_mask"][0, 0]
    )
    (gradient,) = torch.autograd.grad(support_loss, weights)
    numbers = counts(reference.weight_shapes(size[1], size[2], size[3]))
    rates = torch.cat([a.expand(n) for a, n in zip(case["step_sizes"][0], numbers, strict=True)])
    adapted = (weights - rates * gradient).detach().requires_grad_()
    query_loss, logits, query_mean = loss(
        case["query_x"][0], case["query_y"][0], adapted, film, case["query_mask"][0]
    )
    expected = torch.autograd.grad(query_loss, (adapted, film))
    torch.testing.assert_close(result.loss[0], query_loss.detach())
    torch.testing.assert_close(result.support_loss[0, 0], support_loss.detach())
    torch.testing.assert_close(result.logits[0], logits.detach())
    torch.testing.assert_close(result.weights_gradient, expected[0])
    torch.testing.assert_close(result.film_gradient[0], expected[1])
    torch.testing.assert_close(result.batch_mean[0], torch.stack([support_mean, query_mean]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda():
    size = SIZES[0]
    case = episodes(size)
    rest = {"hidden": size[2], "layers": size[3], "order": 2}
    there = reference.meta_gradient(**{k: v.cuda() for k, v in case.items()}, **rest)
    for here, tensor in zip(reference.meta_gradient(**case, **rest), there, strict=True):
        torch.testing.assert_close(here, tensor.cpu(), rtol=1e-9, atol=1e-12)
