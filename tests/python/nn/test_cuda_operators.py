"""The operators give on a GPU what they give on the CPU, in both precisions and in a CUDA graph."""

from __future__ import annotations

from typing import Any

import pytest
import test_operator_checks
import torch
from timl._core import HAS_CUDA
from timl.nn import Classifier
from torch import Tensor

pytestmark = pytest.mark.skipif(
    not (HAS_CUDA and torch.cuda.is_available()),
    reason="no GPU here, or no CUDA in this build: tests/cpp runs the kernels in an emulator",
)

CALLS = test_operator_checks.CALLS
BOUNDS = {torch.float64: 1e-10, torch.float32: 1e-3}
OPAQUE = {"network": (3,), "network_backward": (3,), "film_lstm": (1,), "film_lstm_backward": (3,)}
"""Places of tapes and adjoints among results: their layouts are each device's own."""


def moved(values: Any, place: torch.dtype | str) -> Any:
    """Return tensors of real numbers in a dtype, or all tensors on a device."""
    real = isinstance(place, torch.dtype)
    return tuple(
        v.to(place) if isinstance(v, Tensor) and (not real or v.is_floating_point()) else v
        for v in values
    )


def results(name: str, given: tuple[Any, ...]) -> tuple[Tensor, ...]:
    found = getattr(torch.ops.timl, name)(*given)
    return (found,) if isinstance(found, Tensor) else tuple(found)


def require_close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert found.shape == expected.shape
    error = (found.cpu() - expected).norm() / expected.norm().clamp_min(1e-30)
    assert expected.numel() == 0 or error < BOUNDS[dtype]


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize(
    "name",
    [
        *("network", "network_evaluate", "meta_gradient", "adapt", "describe"),
        *("strong_evaluate", "film_lstm", "film_lstm_evaluate"),
    ],
)
def test_results_are_those_of_the_cpu(name: str, dtype: torch.dtype) -> None:
    given = moved(CALLS[name], dtype)
    here, there = results(name, given), results(name, moved(given, "cuda"))
    for place, (expected, found) in enumerate(zip(here, there, strict=True)):
        if place not in OPAQUE.get(name, ()):
            require_close(found, expected, dtype)


@pytest.mark.parametrize("dtype", BOUNDS)
def test_first_and_second_derivatives_are_those_of_the_cpu(dtype: torch.dtype) -> None:
    found: dict[str, list[Tensor]] = {}
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        classifier = Classifier(3, 4, 8, dropout=0.0).to(dtype)
        x = torch.randn(6, 4, 3, dtype=dtype)
        classifier, x = classifier.to(device), x.to(device).requires_grad_()
        parameters = [x, *classifier.parameters()]
        first = torch.autograd.grad(classifier(x).square().sum(), parameters, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), parameters)
        found[device] = [*first, *second]
    for expected, other in zip(found["cpu"], found["cuda"], strict=True):
        require_close(other.detach(), expected.detach(), dtype)


@pytest.mark.parametrize(
    "name",
    ["network_evaluate", "meta_gradient", "adapt", "strong_evaluate", "film_lstm_evaluate"],
)
def test_a_call_is_captured_and_replayed_on_new_numbers(name: str) -> None:
    given = moved(moved(CALLS[name], torch.float32), "cuda")
    with torch.cuda.stream(torch.cuda.Stream()):
        results(name, given)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = results(name, given)
    given[0].mul_(0.5)
    graph.replay()
    torch.cuda.synchronize()
    for replayed, called in zip(found, results(name, given), strict=True):
        assert torch.equal(replayed, called)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_makes_results_that_are_not(bad: float) -> None:
    classifier = Classifier(3, 4, 8).eval().cuda()
    x = torch.zeros(2, 4, 3, device="cuda")
    x[1, 2, 1] = bad
    assert classifier(x).isfinite().tolist() == [True, False]
