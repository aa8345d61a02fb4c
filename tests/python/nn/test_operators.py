"""The operators: exact derivatives, errors that name the argument, and PyTorch's own tools."""

from __future__ import annotations

import itertools
import os
from typing import Any

import pytest
import torch
from timl import _core, parameters, reference
from timl.nn import operators
from torch import Tensor

SIZES = {  # batch, steps, bands, hidden, layers, outputs
    "small": (4, 3, 2, 5, 2, 1),
    "one step, one layer": (3, 1, 4, 3, 1, 1),
    "wider than a tile, several chunks": (50, 2, 3, 70, 3, 1),
    "three classes": (4, 3, 2, 5, 2, 3),
    "more classes than lanes, several chunks": (50, 2, 3, 20, 1, 19),
}


def arguments(
    name: str, dtype: torch.dtype = torch.float64, mask: bool = True, seed: int = 0
) -> tuple[dict[str, Tensor | None], dict[str, int]]:
    """Return tensors and sizes of a call of `network`; hidden units vary enough for BatchNorm."""
    batch, steps, bands, hidden, layers, outputs = SIZES[name]
    g = torch.Generator().manual_seed(seed)
    weights = sum(parameters.counts(parameters.weight_shapes(bands, hidden, layers, outputs)))
    film = sum(parameters.counts(parameters.film_shapes(steps, bands, hidden, layers)))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    tensors: dict[str, Tensor | None] = {
        "x": normal(batch, steps, bands),
        "weights": normal(weights) * 0.5,
        "film": normal(film) * 0.3 + 0.7,
        "mask": (torch.rand(batch, hidden, generator=g) < 0.8).to(dtype) / 0.8 if mask else None,
        "running_mean": normal(layers, hidden) * 0.1,
        "running_variance": normal(layers, hidden).exp(),
    }
    return tensors, {"hidden": hidden, "layers": layers, "outputs": outputs}


def raw(tensors: dict[str, Any], sizes: dict[str, int], batch_statistics: bool) -> tuple[Any, ...]:
    """Return the same call as the positional arguments of torch.ops.timl.network."""
    statistics = (
        (None, None) if batch_statistics else (tensors["running_mean"], tensors["running_variance"])
    )
    return (
        tensors["x"],
        tensors["weights"],
        tensors["film"],
        tensors["mask"],
        *statistics,
        sizes["hidden"],
        sizes["layers"],
        sizes["outputs"],
    )


both_modes = pytest.mark.parametrize("batch_statistics", [True, False], ids=["batch", "running"])
with_mask = pytest.mark.parametrize("mask", [True, False], ids=["mask", "no mask"])
every_size = pytest.mark.parametrize("name", SIZES)


@every_size
@both_modes
@with_mask
def test_the_twin_gives_the_same_logits_statistics_and_first_and_second_derivatives(
    name: str, batch_statistics: bool, mask: bool
) -> None:
    tensors, sizes = arguments(name, mask=mask)
    g = torch.Generator().manual_seed(1)
    results = []
    for implementation in (operators.network, reference.network):
        inputs = [tensors[key].clone().requires_grad_() for key in ("x", "weights", "film")]
        logits, mean, variance = implementation(
            *inputs,
            tensors["mask"],
            tensors["running_mean"],
            tensors["running_variance"],
            batch_statistics=batch_statistics,
            **sizes,
        )
        g.manual_seed(1)
        cotangent = torch.randn(logits.shape, generator=g, dtype=logits.dtype, requires_grad=True)
        first = torch.autograd.grad(logits, inputs, cotangent, create_graph=True)
        directions = [torch.randn(d.shape, generator=g, dtype=d.dtype) for d in first]
        along = sum((d * v).sum() for d, v in zip(first, directions, strict=True))
        second = torch.autograd.grad(along, [cotangent, *inputs])
        results.append([logits, mean, variance, *first, *second])
    for ours, theirs in zip(*results, strict=True):
        assert ours.shape == theirs.shape
        error = (ours - theirs).norm() / theirs.norm().clamp_min(1e-300)
        assert theirs.numel() == 0 or error < 1e-11


@both_modes
@pytest.mark.parametrize("name", ["small", "three classes"])
def test_gradcheck_and_gradgradcheck(name: str, batch_statistics: bool) -> None:
    tensors, sizes = arguments(name)

    def logits(x: Tensor, weights: Tensor, film: Tensor) -> Tensor:
        return operators.network(
            x,
            weights,
            film,
            tensors["mask"],
            tensors["running_mean"],
            tensors["running_variance"],
            batch_statistics=batch_statistics,
            **sizes,
        )[0]

    inputs = tuple(tensors[key].clone().requires_grad_() for key in ("x", "weights", "film"))
    assert torch.autograd.gradcheck(logits, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(logits, inputs, fast_mode=True)


@every_size
def test_float32_stays_close_to_float64(name: str) -> None:
    gradients = []
    for dtype in (torch.float32, torch.float64):
        tensors, sizes = arguments(name, torch.float32)
        inputs = [tensors[key].to(dtype).requires_grad_() for key in ("x", "weights", "film")]
        logits = operators.network(
            *inputs,
            tensors["mask"].to(dtype),
            tensors["running_mean"].to(dtype),
            tensors["running_variance"].to(dtype),
            batch_statistics=True,
            **sizes,
        )[0]
        gradients.append([logits, *torch.autograd.grad(logits.square().sum(), inputs)])
    for single, double in zip(*gradients, strict=True):
        assert (single - double).norm() / double.norm() < 1e-4


@pytest.mark.parametrize(
    ("name", "batch_statistics", "mask", "dtype"),
    [
        ("small", True, True, torch.float64),
        ("small", True, False, torch.float32),
        ("small", False, False, torch.float32),
        ("three classes", True, True, torch.float64),
    ],
)
def test_opcheck_of_every_operator(
    name: str, batch_statistics: bool, mask: bool, dtype: torch.dtype
) -> None:
    tensors, sizes = arguments(name, dtype, mask)
    call = raw(tensors, sizes, batch_statistics)
    ops = torch.ops.timl
    logits, _, _, tape = ops.network(*call)
    dx, dw, df, adjoints = ops.network_backward(logits, *call[:6], tape, *call[6:], True)
    needing = [t.clone().requires_grad_() for t in call[:3]]
    # The tape and the adjoints are opaque: parts of them are never written, so they are compared
    # by no test; the tests of shapes, aliasing and autograd registration cover them.
    tools = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(ops.network.default, (*needing, *call[3:]), test_utils=tools)
    torch.library.opcheck(
        ops.network_backward.default,
        (logits.clone().requires_grad_(), *needing, *call[3:6], tape, *call[6:], True),
        test_utils=tools,
    )
    torch.library.opcheck(
        ops.network_tangent.default,
        (*needing, *call[3:6], tape, adjoints, dx, dw, df, *call[6:], True),
        test_utils=tools,
    )
    running = (tensors["running_mean"], tensors["running_variance"])
    torch.library.opcheck(
        ops.network_evaluate.default, (*call[:3], *running, *call[6:]), test_utils=tools
    )
    x = call[0][None].clone()
    labels = (torch.arange(len(call[0])) % 2).to(dtype)
    torch.library.opcheck(
        ops.meta_gradient.default,
        (
            x[:, None],
            labels[None, None],
            x,
            labels[None],
            call[1],
            call[2][None],
            None,
            None,
            None,
            torch.full((1, parameters.tensor_count(sizes["layers"])), 0.1, dtype=dtype),
            *call[6:],
            2,
        ),
        test_utils=tools,
    )
    step_sizes = torch.full((2, parameters.tensor_count(sizes["layers"])), 0.1, dtype=dtype)
    steps = (torch.stack([call[0]] * 2), torch.stack([labels] * 2))
    torch.library.opcheck(
        ops.adapt.default,
        (*steps, call[1], call[2], None, None, step_sizes, *call[6:]),
        test_utils=tools,
    )


def test_a_compiled_function_gives_the_same_gradients_for_any_batch() -> None:
    def loss(x: Tensor, weights: Tensor, film: Tensor, running: Tensor) -> Tensor:
        logits, _, _ = operators.network(
            x, weights, film, None, running, running, hidden=5, layers=2, batch_statistics=True
        )
        return logits.sigmoid().square().mean()

    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    tensors, _ = arguments("small", torch.float32)
    for batch in (4, 7, 60):
        x = torch.randn(batch, 3, 2)
        gradients = []
        for function in (loss, compiled):
            weights = tensors["weights"].clone().requires_grad_()
            function(x, weights, tensors["film"], tensors["running_mean"]).backward()
            gradients.append(weights.grad)
        assert torch.equal(*gradients)


def test_evaluation_without_a_graph_equals_evaluation_with_one() -> None:
    tensors, sizes = arguments("wider than a tile, several chunks", torch.float32, mask=False)
    call = dict(tensors, batch_statistics=False, **sizes)
    plain = operators.network(**call)[0]
    call["weights"] = tensors["weights"].clone().requires_grad_()
    assert torch.equal(plain, operators.network(**call)[0].detach())


def test_a_third_derivative_and_a_gradient_by_the_mask_raise() -> None:
    tensors, sizes = arguments("small")
    rest = (tensors["mask"], tensors["running_mean"], tensors["running_variance"])

    def loss(weights: Tensor) -> Tensor:
        logits, _, _ = operators.network(
            tensors["x"], weights, tensors["film"], *rest, batch_statistics=True, **sizes
        )
        return logits.pow(3).sum()

    weights = tensors["weights"].clone().requires_grad_()
    (first,) = torch.autograd.grad(loss(weights), weights, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), weights, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable twice"):
        torch.autograd.grad(second.sum(), weights)

    with pytest.raises(RuntimeError, match="constant"):
        operators.network(
            tensors["x"],
            tensors["weights"],
            tensors["film"],
            tensors["mask"].clone().requires_grad_(),
            *rest[1:],
            batch_statistics=True,
            **sizes,
        )


@both_modes
def test_vmap_of_the_logits_equals_one_call_after_the_other(batch_statistics: bool) -> None:
    tensors, sizes = arguments("small", mask=False)
    stacked = torch.stack([tensors["weights"], 2 * tensors["weights"]])

    def logits(weights: Tensor) -> Tensor:
        return operators.network(
            **{**tensors, "weights": weights}, batch_statistics=batch_statistics, **sizes
        )[0]

    assert torch.equal(torch.func.vmap(logits)(stacked), torch.stack([*map(logits, stacked)]))


BAD = {
    "x of three bands": ({"x": torch.zeros(4, 3, 3).double()}, r"weights is \[191\]: give \[211\]"),
    "x of two dimensions": ({"x": torch.zeros(4, 6).double()}, r"x is \[4, 6\]: give 3 dimensions"),
    "an empty batch": (
        {"x": torch.zeros(0, 3, 2).double()},
        r"x is \[0, 3, 2\]: give \[at least 1, 3, 2\]",
    ),
    "a batch of one": (
        {"x": torch.zeros(1, 3, 2).double(), "mask": None},
        r"x is \[1, 3, 2\]: give at least 2 samples",
    ),
    "another dtype": (
        {"x": torch.zeros(4, 3, 2)},
        r"weights is float64 of shape \[191\]: give float32",
    ),
    "whole numbers": (
        {"x": torch.zeros(4, 3, 2).long()},
        r"x is int64 of shape \[4, 3, 2\]: give float32 or float64",
    ),
    "NaN": (
        {"x": torch.full((4, 3, 2), torch.nan).double()},
        r"x is \[4, 3, 2\] with 24 NaN or infinite values",
    ),
    "infinity": (
        {"x": torch.full((4, 3, 2), -torch.inf).double()},
        r"x is \[4, 3, 2\] with 24 NaN or infinite values",
    ),
    "a short film": ({"film": torch.zeros(3).double()}, r"film is \[3\]: give \[32\]"),
    "a mask of one row": ({"mask": torch.zeros(1, 5).double()}, r"mask is \[1, 5\]: give \[4, 5\]"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named_with_its_shape(name: str) -> None:
    tensors, sizes = arguments("small")
    changed, message = BAD[name]
    with pytest.raises(RuntimeError, match=message):
        operators.network(**{**tensors, **changed}, batch_statistics=True, **sizes)


def test_a_strided_input_is_read_as_it_looks() -> None:
    tensors, sizes = arguments("small")
    straight = operators.network(**tensors, batch_statistics=True, **sizes)[0]
    tensors["x"] = tensors["x"].permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert not tensors["x"].is_contiguous()
    assert torch.equal(operators.network(**tensors, batch_statistics=True, **sizes)[0], straight)


def meta_batch(
    tasks: int, steps: int, mask: bool, dtype: torch.dtype, outputs: int = 1
) -> tuple[list[Tensor | None], dict[str, int]]:
    """Return a meta-batch of 6 support and 4 query samples, T=3, F=2, H=20, L=2."""
    g = torch.Generator().manual_seed(5)
    sizes = {"hidden": 20, "layers": 2, "outputs": outputs}
    weights = sum(parameters.counts(parameters.weight_shapes(2, 20, 2, outputs)))
    film = sum(parameters.counts(parameters.film_shapes(3, 2, 20, 2)))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    def bits(*shape: int) -> Tensor:
        return (torch.rand(*shape, generator=g) < 0.5).to(dtype)

    def labels(*shape: int) -> Tensor:
        if outputs == 1:
            return bits(*shape)
        return torch.randint(outputs, shape, generator=g).to(dtype)

    tensors = [
        normal(tasks, steps, 6, 3, 2),
        labels(tasks, steps, 6),
        normal(tasks, 4, 3, 2),
        labels(tasks, 4),
        normal(weights) * 0.3,
        normal(tasks, film) * 0.3 + 0.8,
        bits(tasks, steps, 6, 20) / 0.8 if mask else None,
        bits(tasks, 4, 20) / 0.8 if mask else None,
    ]
    return tensors, sizes


@pytest.mark.parametrize(
    ("steps", "inner_lr", "mask", "order", "outputs"),
    [
        *itertools.product([1, 3], [1e-3, 0.1], [False, True], [1, 2], [1]),
        *itertools.product([1, 3], [0.1], [True], [1, 2], [2, 5, 13]),
    ],
)
@pytest.mark.parametrize("weighted", [False, True], ids=["", "class weights, ignored labels"])
def test_the_meta_gradient_is_the_twins(
    steps: int, inner_lr: float, mask: bool, order: int, outputs: int, weighted: bool
) -> None:
    tensors, sizes = meta_batch(3, steps, mask, torch.float64, outputs)
    weights = {}
    if weighted:
        tensors[1][:, :, 1] = tensors[3][:, 2] = -1
        weights["class_weights"] = torch.rand(3, max(outputs, 2), dtype=torch.float64) + 0.1
    step_sizes = inner_lr * torch.linspace(0.5, 1.5, steps * 6, dtype=torch.float64).view(steps, 6)
    ours = operators.meta_gradient(*tensors, step_sizes, order=order, **sizes, **weights)
    theirs = reference.meta_gradient(*tensors, step_sizes, order=order, **sizes, **weights)
    blocks = parameters.weight_shapes(2, 20, 2, outputs)
    pairs = list(zip(ours, theirs, strict=True)) + list(
        zip(
            parameters.unflatten(ours.weights_gradient, blocks).values(),
            parameters.unflatten(theirs.weights_gradient, blocks).values(),
            strict=True,
        )
    )
    for mine, twins in pairs:
        assert mine.shape == twins.shape
        assert (mine - twins).norm() / twins.norm() < 1e-9
    if weighted:
        return
    singles = [None if t is None else t.float() for t in tensors]
    single = operators.meta_gradient(*singles, step_sizes.float(), order=order, **sizes)
    doubles = [None if t is None else t.double() for t in singles]
    double = operators.meta_gradient(*doubles, step_sizes.float().double(), order=order, **sizes)
    for mine, exact in zip(single, double, strict=True):
        assert (mine - exact).norm() / exact.norm() < 1e-4


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("outputs", [1, 5])
def test_the_inner_steps_alone_are_the_twins_and_the_meta_gradients(
    outputs: int, mask: bool
) -> None:
    tensors, sizes = meta_batch(2, 3, mask, torch.float64, outputs)
    tensors[1][:, :, 1] = -1
    class_weights = torch.linspace(0.5, 1.5, 2 * max(outputs, 2), dtype=torch.float64).view(2, -1)
    step_sizes = torch.linspace(0.05, 0.15, 18, dtype=torch.float64).view(3, 6)
    whole = operators.meta_gradient(
        *tensors, step_sizes, order=0, class_weights=class_weights, **sizes
    )
    for task in range(2):
        one = [None if t is None else t[task] for t in (*tensors[:2], tensors[5], tensors[6])]
        arguments = (*one[:2], tensors[4], *one[2:], step_sizes)
        weighted = {**sizes, "class_weights": class_weights[task]}
        ours = operators.adapt(*arguments, **weighted)
        for mine, twins in zip(ours, reference.adapt(*arguments, **weighted), strict=True):
            assert mine.shape == twins.shape
            assert (mine - twins).norm() / twins.norm() < 1e-9
        assert torch.equal(ours.support_loss, whole.support_loss[task])
        assert torch.equal(ours.batch_mean, whole.batch_mean[task, :3])
        assert torch.equal(ours.batch_variance, whole.batch_variance[task, :3])
        singles = [None if t is None else t.float() for t in arguments]
        weighted["class_weights"] = class_weights[task].float()
        single = operators.adapt(*singles, **weighted)
        assert (single.weights - ours.weights).norm() / ours.weights.norm() < 1e-4


@pytest.mark.parametrize("outputs", [1, 4])
def test_central_differences_agree_with_the_meta_gradient(outputs: int) -> None:
    tensors, sizes = meta_batch(2, 2, True, torch.float64, outputs)
    step_sizes = torch.full((2, 6), 0.1, dtype=torch.float64)
    exact = operators.meta_gradient(*tensors, step_sizes, order=2, **sizes)
    g = torch.Generator().manual_seed(7)
    for position, gradient in (
        (4, exact.weights_gradient),
        (5, exact.film_gradient),
        (8, exact.step_size_gradient),
    ):
        every = [*tensors, step_sizes]
        direction = torch.randn(gradient.shape, generator=g, dtype=torch.float64)
        losses = []
        for h in (-1e-5, 1e-5):
            moved = list(every)
            moved[position] = every[position] + h * direction
            losses.append(operators.meta_gradient(*moved, order=0, **sizes).loss.mean())
        slope = (losses[1] - losses[0]) / 2e-5
        torch.testing.assert_close(slope, (gradient * direction).sum(), rtol=1e-6, atol=1e-10)


def test_losses_alone_equal_those_beside_gradients_and_the_gradients_are_empty() -> None:
    tensors, sizes = meta_batch(3, 2, True, torch.float32)
    step_sizes = torch.full((2, 6), 0.1)
    alone = operators.meta_gradient(*tensors, step_sizes, order=0, **sizes)
    beside = operators.meta_gradient(*tensors, step_sizes, order=2, **sizes)
    for name in ("loss", "logits", "support_loss", "batch_mean", "batch_variance"):
        assert torch.equal(getattr(alone, name), getattr(beside, name))
    assert [t.shape for t in alone[3:6]] == [(0,)] * 3


def test_the_bits_do_not_depend_on_threads_or_on_the_other_tasks() -> None:
    tensors, sizes = meta_batch(5, 2, True, torch.float32)
    step_sizes = torch.full((2, 6), 0.1)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(operators.meta_gradient(*tensors, step_sizes, order=2, **sizes))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    one = [t if i == 4 else t[3:4] for i, t in enumerate(tensors)]
    alone = operators.meta_gradient(*one, step_sizes, order=2, **sizes)
    assert torch.equal(alone.loss, results[0].loss[3:4])
    torch.testing.assert_close(alone.film_gradient[0], 5 * results[0].film_gradient[3])


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (
            1,
            torch.full((2, 1, 6), 0.5),
            r"support_y is \[2, 1, 6\] with the label 0.5\d* at flat index 0: give classes 0 to 1",
        ),
        (3, torch.full((2, 4), torch.nan), r"query_y is \[2, 4\] with the label -?nan"),
        (3, torch.full((2, 4), 2.0), r"query_y is \[2, 4\] with the label 2.0*"),
        (3, torch.full((2, 4), -2.0), r"query_y is \[2, 4\] with the label -2.0*"),
        (
            3,
            torch.tensor([[0.0, 1, 0, -1], [-1, -1, -1, -1]]),
            r"query_y is \[2, 4\] with a batch of -1 alone, the one that ends at flat index 7",
        ),
        (
            0,
            torch.full((2, 1, 6, 3, 2), torch.inf),
            r"support_x is \[2, 1, 6, 3, 2\] with 72 NaN or infinite values",
        ),
        (2, torch.zeros(2, 1, 3, 2), r"query_x \[2, 1, 3, 2\]: give at least 2 samples"),
        (2, torch.zeros(3, 4, 3, 2), r"query_x is \[3, 4, 3, 2\]: give \[2,"),
        (5, torch.zeros(1, 92), r"film is \[1, 92\]: give \[2, 92\]"),
    ],
)
def test_bad_episodes_are_named(position: int, value: Tensor, message: str) -> None:
    tensors, sizes = meta_batch(2, 1, False, torch.float32)
    tensors[position] = value
    with pytest.raises(RuntimeError, match=message):
        operators.meta_gradient(*tensors, torch.full((1, 6), 0.1), order=2, **sizes)


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, torch.zeros(1, 1, 3, 2), r"support_x is \[1, 1, 3, 2\]: give at least 2 samples"),
        (0, torch.full((1, 6, 3, 2), torch.nan), r"support_x is \[1, 6, 3, 2\] with 36 NaN"),
        (1, torch.full((1, 6), 2.0), r"timl::adapt: support_y is \[1, 6\] with the label 2.0*"),
        (1, torch.full((1, 6), -1.0), r"support_y is \[1, 6\] with a batch of -1 alone"),
        (3, torch.zeros(1, 92), r"film is \[1, 92\]: give \[92\]"),
        (5, torch.zeros(2, 6), r"step_sizes is \[2, 6\]: give \[1, 6\]"),
    ],
)
def test_bad_support_sets_of_the_inner_steps_alone_are_named(
    position: int, value: Tensor, message: str
) -> None:
    (x, y, _, _, weights, film, *_), sizes = meta_batch(1, 1, False, torch.float32)
    given = [x[0], y[0], weights, film[0], None, torch.full((1, 6), 0.1)]
    given[position] = value
    with pytest.raises(RuntimeError, match=message):
        operators.adapt(*given, **sizes)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(2, 3), r"class_weights is \[2, 3\]: give \[2, 4\]"),
        (torch.zeros(2, 4), r"class_weights is \[2, 4\] with the weight 0.0* at flat index 0"),
        (torch.full((2, 4), torch.nan), r"class_weights is \[2, 4\] with the weight -?nan"),
    ],
)
def test_bad_class_weights_are_named(value: Tensor, message: str) -> None:
    tensors, sizes = meta_batch(2, 1, False, torch.float32, 4)
    with pytest.raises(RuntimeError, match=message):
        operators.meta_gradient(
            *tensors, torch.full((1, 6), 0.1), order=2, class_weights=value, **sizes
        )


def test_two_outputs_of_which_the_first_stays_zero_are_the_binary_network() -> None:
    # softmax of (0, z) is the sigmoid of z: one inner step on the second row alone, as step sizes
    # are by tensor, is not possible, so the comparison is of losses and of gradients by film.
    binary, sizes = meta_batch(3, 1, True, torch.float64)
    shapes = parameters.weight_shapes(2, 20, 2)
    named = parameters.unflatten(binary[4], shapes)
    named["dense.1.weight"] = torch.cat([torch.zeros(1, 20).double(), named["dense.1.weight"]])
    named["dense.1.bias"] = torch.cat([torch.zeros(1).double(), named["dense.1.bias"]])
    two = list(binary)
    two[4] = parameters.flatten(named.values())
    still = torch.zeros(1, 6, dtype=torch.float64)  # no inner step moves anything
    one = operators.meta_gradient(*binary, still, order=1, **sizes)
    other = operators.meta_gradient(*two, still, order=1, **{**sizes, "outputs": 2})
    torch.testing.assert_close(one.loss, other.loss)
    torch.testing.assert_close(one.support_loss, other.support_loss)
    torch.testing.assert_close(one.film_gradient, other.film_gradient)
    torch.testing.assert_close(one.logits, other.logits[:, :, 1])


def test_the_best_instruction_set_is_in_use_unless_forced() -> None:
    forced = os.environ.get("TIML_FORCE_ISA")
    assert _core.instruction_set() == (forced or _core.usable_instruction_sets()[0])
