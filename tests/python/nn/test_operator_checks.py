"""Where PyTorch only works out shapes, calls are refused in the words of the compiled operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import test_operators
import test_strong_operators
import torch
from timl._core import HAS_CUDA
from timl.nn import operators
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

OPS = torch.ops.timl
SMALL, SIZES = test_operators.arguments("small")
RAW = test_operators.raw(SMALL, SIZES, batch_statistics=False)


def calls() -> dict[str, tuple[Any, ...]]:
    """Return arguments with which each operator runs."""
    logits, _, _, tape = OPS.network(*RAW)
    *directions, adjoints = OPS.network_backward(logits, *RAW[:6], tape, *RAW[6:], True)
    meta, sizes = test_operators.meta_batch(2, 1, True, torch.float64)
    step_sizes = torch.full((1, 6), 0.1, dtype=torch.float64)
    strong = test_strong_operators.arguments("odd sizes", batch=4)
    film = torch.ones(2, 3, 2).double()
    lstm = (RAW[0], torch.linspace(-1, 1, 160).double(), film, RAW[3])
    states, lstm_tape = OPS.film_lstm(*lstm, 5, True)
    *along, lstm_adjoints = OPS.film_lstm_backward(states, *lstm, lstm_tape, 5, True, True)
    return {
        "film_lstm": (*lstm, 5, True),
        "film_lstm_backward": (states, *lstm, lstm_tape, 5, True, True),
        "film_lstm_tangent": (*lstm, lstm_tape, lstm_adjoints, *along, 5, True, True),
        "film_lstm_evaluate": (*lstm, 5, True),
        "network": RAW,
        "network_backward": (logits, *RAW[:6], tape, *RAW[6:], True),
        "network_tangent": (*RAW[:6], tape, adjoints, *directions, *RAW[6:], True),
        "network_evaluate": (*RAW[:3], *RAW[4:]),
        "meta_gradient": (*meta, torch.ones(2, 2).double(), step_sizes, *sizes.values(), 2),
        "adapt": (
            *(meta[0][0], meta[1][0], meta[4], meta[5][0], meta[6][0]),
            *(torch.ones(2).double(), step_sizes, *sizes.values()),
        ),
        "describe": tuple(strong[:2]),
        "strong_evaluate": tuple(strong),
    }


CALLS = calls()
ARGUMENTS = [
    (name, position)
    for name, given in CALLS.items()
    for position, value in enumerate(given)
    if isinstance(value, Tensor)
]


def on_meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) else value


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(RuntimeError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("name", CALLS)
def test_on_the_meta_device_results_have_the_shapes_of_the_computed(name: str) -> None:
    operator = getattr(OPS, name)
    computed, worked_out = operator(*CALLS[name]), operator(*map(on_meta, CALLS[name]))
    pairs = [(computed, worked_out)]
    if isinstance(computed, tuple):
        pairs = list(zip(computed, worked_out, strict=True))
    for real, meta in pairs:
        assert meta.is_meta and meta.shape == real.shape and meta.dtype == real.dtype


@pytest.mark.parametrize(("name", "position"), ARGUMENTS)
def test_one_tensor_on_the_meta_device_is_refused(name: str, position: int) -> None:
    given = list(CALLS[name])
    given[position] = on_meta(given[position])
    message = refusal(lambda: getattr(OPS, name)(*given))
    assert message.startswith(f"timl::{name}: ") and " on meta" in message
    assert message.endswith("give all tensors on one device")


@pytest.mark.parametrize("change", ["one dimension more", "too long", "empty", "dtype", "sparse"])
@pytest.mark.parametrize(("name", "position"), ARGUMENTS)
def test_shape_dtype_and_layout_are_refused_in_the_same_words(
    name: str, position: int, change: str
) -> None:
    given = list(CALLS[name])
    tensor = given[position]
    given[position] = {
        "one dimension more": tensor[None],
        "too long": torch.cat([tensor, tensor[:1]]) if tensor.dim() else tensor,
        "empty": tensor[:0],
        "dtype": tensor.to(torch.complex64) if position % 2 else tensor.bool(),
        "sparse": tensor.to_sparse(),
    }[change]
    operator = getattr(OPS, name)
    with FakeTensorMode() as mode:
        faked = [mode.from_tensor(v) if isinstance(v, Tensor) else v for v in given]
    try:
        operator(*given)
    except RuntimeError as error:
        message = str(error)
        if "which are none at node" in message:  # a root twice, seen in values alone
            return
    else:  # any number of series, trees or known points will do
        operator(*faked)
        return
    if change == "sparse":
        assert message.endswith("of another layout than strided: give .to_dense()")
    assert refusal(lambda: operator(*faked)) == message


def fake_on(device: str) -> dict[str, Tensor | None]:
    return {n: torch.empty(t.shape, dtype=t.dtype, device=device) for n, t in SMALL.items()}


def test_values_are_those_of_no_tensor_on_another_device() -> None:
    """No kernel runs for a device that timl does not compute on; the message says what to do."""
    with FakeTensorMode():
        given = fake_on("xpu")
        message = refusal(lambda: operators.network(**given, batch_statistics=True, **SIZES))
    assert message == (
        "timl::network: x is [4, 3, 2] on another device: this build of timl computes on the CPU "
        f"{'and on CUDA only' if HAS_CUDA else 'only'}, so move the model and its inputs with "
        ".cpu()"
    )


@pytest.mark.skipif(HAS_CUDA, reason="this build has the CUDA engine")
def test_a_build_without_the_cuda_engine_refuses_its_tensors() -> None:
    with FakeTensorMode():
        given = fake_on("cuda")
        message = refusal(lambda: operators.network(**given, batch_statistics=True, **SIZES))
    assert "x is [4, 3, 2] on another device" in message


@pytest.mark.skipif(not HAS_CUDA, reason="this build has no CUDA engine")
def test_shapes_on_cuda_are_those_on_the_cpu_and_mixed_devices_are_refused() -> None:
    with FakeTensorMode():
        given = fake_on("cuda")
        logits, mean, _ = operators.network(**given, batch_statistics=True, **SIZES)
        assert (logits.device.type, logits.shape, mean.shape) == ("cuda", (4,), (2, 5))
        mixed = {**given, "weights": torch.empty(SMALL["weights"].shape, dtype=torch.float64)}
        message = refusal(lambda: operators.network(**mixed, batch_statistics=True, **SIZES))
        assert message == (
            "timl::network: weights is [191] on cpu, x on cuda:0: give all tensors on one device"
        )
        x, bands = (torch.empty(*shape, device="cuda") for shape in ((2, 12, 18), (2, 18)))
        described = operators.describe(x, bands)
        assert (described.device.type, described.shape) == ("cuda", (2, 459))


def test_a_tensor_that_is_none_and_a_dtype_that_nobody_knows_are_named() -> None:
    quantised = torch.empty(191, dtype=torch.bits8)
    for name, value, message in (
        ("x", None, "x is None: give a tensor"),
        ("weights", None, "weights is None: give a tensor"),
        ("weights", quantised, "weights is an unsupported dtype of shape [191]: give float64"),
    ):
        call = {**SMALL, name: value, "batch_statistics": True, **SIZES}
        assert message in refusal(lambda call=call: operators.network(**call))  # type: ignore[misc]
