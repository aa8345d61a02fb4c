"""The LSTM layer: exact second derivatives, a place beside torch.nn.LSTM, MAML by any library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pretended_gpu import to_cpu
from test_operator_checks import refusal
from test_transforms import TRANSFORMS
from timl import reference
from timl._core import HAS_CUDA
from timl.nn import FiLMLSTM, decompositions, operators
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, grad, jvp, vmap

SIZES = {  # batch, steps, bands, hidden
    "small": (4, 3, 2, 5),
    "one series of one step": (1, 1, 4, 3),
    "wider than a tile, several chunks": (50, 2, 40, 70),
}
TENSORS = ("x", "weights", "film")
REAL = torch.cuda.is_available()


def arguments(name: str, dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """Return the arguments of `film_lstm`, which differ in every entry."""
    batch, steps, bands, hidden = SIZES[name]
    g = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    return {
        "x": normal(batch, steps, bands),
        "weights": normal(4 * hidden * (bands + hidden + 1)) * 0.5,
        "film": normal(2, steps, bands) * 0.3 + 0.7,
        "mask": (torch.rand(batch, hidden, generator=g) < 0.8).to(dtype) / 0.8,
        "hidden": hidden,
    }


def through_the_twin(call: Callable[[], Any]) -> Any:
    """Return what a call gives where layers compute by the twin, unrolled in Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("timl.nn.operators.film_lstm", reference.film_lstm)
        return call()


def assert_same(ours: Any, twins: Any) -> None:
    torch.testing.assert_close(ours, twins, rtol=1e-9, atol=1e-10)


every_step = pytest.mark.parametrize("every_step", [True, False], ids=["every step", "last"])


@every_step
@pytest.mark.parametrize("left_out", [(), ("film",), ("mask",), ("film", "mask")])
@pytest.mark.parametrize("name", SIZES)
def test_the_twin_gives_the_same_states_and_first_and_second_derivatives(
    name: str, left_out: tuple[str, ...], every_step: bool
) -> None:
    given = arguments(name) | dict.fromkeys(left_out)
    results = []
    for implementation in (operators.film_lstm, reference.film_lstm):
        call = {n: t.clone().requires_grad_() if n in TENSORS and t is not None else t
                for n, t in given.items()}  # fmt: skip
        inputs = [call[n] for n in TENSORS if call[n] is not None]
        states = implementation(**call, every_step=every_step)
        g = torch.Generator().manual_seed(1)
        cotangent = torch.randn(states.shape, generator=g).double().requires_grad_()
        first = torch.autograd.grad(states, inputs, cotangent, create_graph=True)
        directions = [torch.randn(d.shape, generator=g, dtype=d.dtype) for d in first]
        along = sum((d * v).sum() for d, v in zip(first, directions, strict=True))
        results.append([states, *first, *torch.autograd.grad(along, [cotangent, *inputs])])
    for ours, theirs in zip(*results, strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).norm() / theirs.norm().clamp_min(1e-300) < 1e-11


@every_step
def test_gradcheck_and_gradgradcheck_of_two_layers(every_step: bool) -> None:
    given = arguments("small")
    layer = FiLMLSTM(2, 5, 2, return_sequences=every_step, dtype=torch.float64)
    mask = torch.stack([given["mask"], given["mask"].flip(0)])

    def states(x: Tensor, film: Tensor, *weights: Tensor) -> Tensor:
        named = dict(zip(dict(layer.named_parameters()), weights, strict=True))
        return functional_call(layer, named, (x, film, mask))

    inputs = [t.detach().clone().requires_grad_() for t in (given["x"], given["film"])]
    inputs += [p.detach().clone().requires_grad_() for p in layer.parameters()]
    assert torch.autograd.gradcheck(states, inputs, fast_mode=True, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(states, inputs, fast_mode=True)


@every_step
@pytest.mark.parametrize("left_out", [(), ("film", "mask")])
def test_opcheck_of_every_operator(every_step: bool, left_out: tuple[str, ...]) -> None:
    given = arguments("small", torch.float32) | dict.fromkeys(left_out)
    ops, sizes = torch.ops.timl, (given["hidden"], every_step)
    mask = given["mask"]
    plain = [given[n] for n in TENSORS]
    needing = [None if t is None else t.clone().requires_grad_() for t in plain]
    states, tape = ops.film_lstm(*plain, mask, *sizes)
    *gradients, adjoints = ops.film_lstm_backward(states, *plain, mask, tape, *sizes, True)
    along = [None if t is None else v for t, v in zip(plain, gradients, strict=True)]
    cotangent = states.clone().requires_grad_()
    # The tape and the adjoints are opaque: parts of them are never written, so none are compared.
    for operator, call in {
        ops.film_lstm: (*needing, mask, *sizes),
        ops.film_lstm_backward: (cotangent, *needing, mask, tape, *sizes, True),
        ops.film_lstm_tangent: (*needing, mask, tape, adjoints, *along, *sizes, True),
        ops.film_lstm_evaluate: (*plain, mask, *sizes),
    }.items():
        torch.library.opcheck(
            operator.default,
            call,
            test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
        )


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_of_torch_func_are_the_twins(transform: str) -> None:
    given = arguments("small")

    def loss_of(function: Callable[..., Tensor], mask: Tensor | None) -> Callable[..., Tensor]:
        def loss(x: Tensor, weights: Tensor, film: Tensor) -> Tensor:
            states = function(x, weights, film, mask, hidden=5)
            return (states.sigmoid() * torch.linspace(-1, 1, 5).double()).sum()

        return loss

    for mask in (given["mask"], None):
        ours, twins = (
            TRANSFORMS[transform](loss_of(f, mask))(*(given[n] for n in TENSORS))
            for f in (operators.film_lstm, reference.film_lstm)
        )
        assert_same(ours, twins)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_torchs_lstm_to_the_second_derivative(
    dtype: torch.dtype, bound: float, bias: bool
) -> None:
    torch.manual_seed(3)
    theirs = nn.LSTM(4, 20, 2, bias, batch_first=True, dtype=dtype)
    torch.manual_seed(3)
    ours = FiLMLSTM(4, 20, 2, bias, dtype=dtype)
    for name, values in theirs.state_dict().items():  # the same draws under the same names
        assert torch.equal(ours.state_dict()[name], values)
    theirs.load_state_dict(ours.state_dict())
    x, found = torch.randn(6, 5, 4, dtype=dtype), []
    for module, states in ((theirs, theirs(x)[0]), (ours, ours(x))):
        first = torch.autograd.grad(states.square().sum(), module.parameters(), create_graph=True)
        norm = sum(g.square().sum() for g in first)
        found.append([states, *first, *torch.autograd.grad(norm, module.parameters())])
    for mine, other in zip(*reversed(found), strict=True):
        assert (mine - other).norm() / other.norm() < bound
    with torch.no_grad():
        ours.return_sequences = False
        assert (ours(x) - found[0][0][:, -1]).norm() < bound
        assert torch.equal(ours(x), found[1][0][:, -1])  # with a tape or without


def maml_loss(layer: FiLMLSTM, head: nn.Linear) -> Callable[..., Tensor]:
    """Return the query loss of one task after two inner steps of all parameters and of its FiLM."""

    def loss(parameters: tuple[Any, Any, Tensor], x: Tensor, y: Tensor) -> Tensor:
        lstm, linear, film = parameters
        states = functional_call(layer, lstm, (x, film))
        return (functional_call(head, linear, (states,))[:, 0] - y).square().mean()

    def query_loss(
        lstm: Any, linear: Any, film: Tensor, x: Tensor, y: Tensor, x_new: Tensor, y_new: Tensor
    ) -> Tensor:
        parameters: Any = (lstm, linear, film)
        for _ in range(2):
            inner = grad(loss)(parameters, x, y)
            parameters = torch.utils._pytree.tree_map(lambda p, g: p - 0.3 * g, parameters, inner)
        return loss(parameters, x_new, y_new)

    return query_loss


def test_maml_by_torch_func_over_tasks_is_that_of_the_unrolled_layer() -> None:
    torch.manual_seed(0)
    layer = FiLMLSTM(3, 6, 2, return_sequences=False, dtype=torch.float64)
    head = nn.Linear(6, 1, dtype=torch.float64)
    shared = [{n: p.detach() for n, p in m.named_parameters()} for m in (layer, head)]
    tasks = [torch.randn(3, *shape).double() for shape in ((5, 4, 3), (5,), (7, 4, 3), (7,))]
    films = torch.randn(3, 2, 4, 3).double()

    def meta_gradient() -> Any:
        def mean_loss(lstm: Any, linear: Any, films: Tensor) -> Tensor:
            losses = vmap(maml_loss(layer, head), in_dims=(None, None, *[0] * 5))
            return losses(lstm, linear, films, *tasks).mean()

        return grad(mean_loss, argnums=(0, 1, 2))(*shared, films)

    ours, unrolled = meta_gradient(), through_the_twin(meta_gradient)
    assert_same(ours, unrolled)
    assert all(g.abs().max() > 1e-5 for g in (*ours[0].values(), ours[2]))


def test_maml_by_higher_is_that_of_the_unrolled_layer() -> None:
    higher = pytest.importorskip("higher", reason="higher is not installed")
    torch.manual_seed(0)
    model = nn.Sequential(FiLMLSTM(3, 6, 2, return_sequences=False), nn.Linear(6, 1)).double()
    x, y, x_new = torch.randn(5, 4, 3).double(), torch.randn(5, 1).double(), torch.randn(5, 4, 3)

    def meta_gradient() -> list[Tensor]:
        inner = torch.optim.SGD(model.parameters(), lr=0.3)
        with higher.innerloop_ctx(model, inner, copy_initial_weights=False) as (fast, step):
            for _ in range(2):
                step.step((fast(x) - y).square().mean())
            loss = (fast(x_new.double()) - y).square().mean()
            return list(torch.autograd.grad(loss, model.parameters()))

    assert_same(meta_gradient(), through_the_twin(meta_gradient))


def test_a_ridge_regression_as_head_is_meta_trained_exactly() -> None:
    """A head that is solved in closed form: the gradient goes through the solution."""
    torch.manual_seed(0)
    layer = FiLMLSTM(3, 6, return_sequences=False, dtype=torch.float64)
    x, y, x_new, y_new = (torch.randn(*s).double() for s in ((9, 4, 3), (9,), (5, 4, 3), (5,)))

    def query_loss() -> Tensor:
        z, z_new = layer(x), layer(x_new)
        gram = z.T @ z + 0.1 * torch.eye(6, dtype=z.dtype)
        return (z_new @ torch.linalg.solve(gram, z.T @ y) - y_new).square().mean()

    def gradients() -> Any:
        return torch.autograd.grad(query_loss(), layer.parameters())

    assert_same(gradients(), through_the_twin(gradients))


def test_a_compiled_layer_and_an_exported_one_give_the_same() -> None:
    torch.manual_seed(0)
    layer = FiLMLSTM(2, 5, 2).eval()
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    for batch in (4, 60):
        x, found = torch.randn(batch, 3, 2), []
        for module in (layer, compiled):
            found.append(torch.autograd.grad(module(x).square().sum(), layer.parameters()))
        assert all(map(torch.equal, *found))

    sizes = {"x": {0: torch.export.Dim("batch", min=1)}}
    with torch.no_grad():
        program = torch.export.export(layer, (torch.randn(5, 3, 2),), dynamic_shapes=sizes)
    plain = program.run_decompositions(
        {**torch.export.default_decompositions(), **decompositions()}
    )
    assert not [node for node in plain.graph.nodes if "timl" in str(node.target)]
    for batch in (1, 60):
        x = torch.randn(batch, 3, 2)
        assert torch.equal(program.module()(x), layer(x))
        torch.testing.assert_close(plain.module()(x), layer(x))


def test_float32_stays_close_to_float64_and_threads_change_no_bit() -> None:
    threads, found = torch.get_num_threads(), []
    try:
        for dtype, count in ((torch.float64, 1), *((torch.float32, n) for n in (1, 2, 3))):
            torch.set_num_threads(count)
            given = arguments("wider than a tile, several chunks", torch.float32)
            given = {n: t.to(dtype) if isinstance(t, Tensor) else t for n, t in given.items()}
            inputs = [given[n].requires_grad_() for n in TENSORS]
            states = operators.film_lstm(**given)
            first = torch.autograd.grad(states.square().sum(), inputs, create_graph=True)
            norm = sum(g.square().sum() for g in first)
            found.append([states, *first, *torch.autograd.grad(norm, inputs)])
    finally:
        torch.set_num_threads(threads)
    for exact, one, two, three in zip(*found, strict=True):
        assert torch.equal(one, two) and torch.equal(one, three)
        assert (one - exact).norm() / exact.norm() < 1e-4


def test_dropout_is_drawn_for_each_series_unit_and_layer_and_kept_over_the_steps() -> None:
    layer = FiLMLSTM(2, 50, 2, dropout=0.4)
    x = torch.randn(30, 4, 2)
    torch.manual_seed(5)
    drawn = layer(x)
    zero = drawn == 0
    assert torch.equal(zero, zero[:, :1].expand_as(zero)) and 0.3 < zero[:, 0].float().mean() < 0.5
    torch.manual_seed(5)
    mask = torch.bernoulli(torch.full((2, 30, 50), 0.6)) / 0.6
    assert torch.equal(layer(x, mask=mask), drawn)
    assert torch.equal(layer.eval()(x), layer(x, mask=torch.ones(2, 30, 50)))


def test_autocast_casts_to_float32_as_pytorchs_own_layers_that_need_it() -> None:
    layer = FiLMLSTM(2, 5, 2)
    x, film = torch.randn(4, 3, 2), torch.rand(2, 3, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states = layer(x.bfloat16(), film.bfloat16())
    assert states.dtype == torch.float32
    assert torch.equal(states, layer(x.bfloat16().float(), film.bfloat16().float()))


def test_third_derivatives_and_gradients_of_the_mask_are_refused() -> None:
    given = arguments("small")

    def loss(weights: Tensor) -> Tensor:
        return operators.film_lstm(**{**given, "weights": weights}).pow(3).sum()

    weights = given["weights"].clone().requires_grad_()
    (first,) = torch.autograd.grad(loss(weights), weights, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), weights, create_graph=True)
    with pytest.raises(RuntimeError, match=r"timl\.film_lstm is differentiable twice"):
        torch.autograd.grad(second.sum(), weights)
    given["mask"].requires_grad_()
    assert refusal(lambda: loss(weights)) == (
        "timl::film_lstm: mask is [4, 5] and requires a gradient, but is a constant here: give "
        "mask.detach()"
    )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.zeros(4, 3)}, ValueError, r"shape \[4, 3\]: give shape \[B, T, 2\]"),
        ({"x": torch.zeros(4, 0, 2)}, ValueError, r"x is empty, of shape \[4, 0, 2\]"),
        ({"x": torch.zeros(4, 3, 2).double()}, TypeError, r"torch.float64 of shape \[4, 3, 2\]"),
        ({"x": torch.full((4, 3, 2), torch.nan)}, ValueError, "24 NaN or infinite values"),
        ({"film": torch.zeros(2, 2)}, ValueError, r"give shape \[2, 3, 2\]"),
        ({"mask": torch.zeros(4, 5)}, ValueError, r"give shape \[2, 4, 5\]"),
    ],
)  # fmt: skip
def test_bad_input_is_named_with_its_shape(
    change: dict[str, Tensor], error: type[Exception], message: str
) -> None:
    layer = FiLMLSTM(2, 5, 2)
    with pytest.raises(error, match=message):
        layer(**{"x": torch.zeros(4, 3, 2), **change})
    with pytest.raises(ValueError, match="num_layers is 0: give an integer of at least 1"):
        FiLMLSTM(2, 5, 0)


# --- on a GPU; where there is none, on one that is pretended, which gives the CPU's bits ---------


def layer_and_inputs(dtype: torch.dtype) -> tuple[FiLMLSTM, list[Tensor]]:
    torch.manual_seed(0)
    layer = FiLMLSTM(3, 6, 2, dropout=0.3, dtype=dtype)
    x, film = torch.randn(45, 4, 3, dtype=dtype), torch.rand(2, 4, 3, dtype=dtype)
    return layer, [x, film, torch.bernoulli(torch.full((2, 45, 6), 0.7, dtype=dtype)) / 0.7]


def second_order(layer: FiLMLSTM, x: Tensor, film: Tensor, mask: Tensor) -> list[Tensor]:
    """States, gradients by all and second derivatives, of which the last are of one gradient."""
    by = [x.requires_grad_(), film.requires_grad_(), *layer.parameters()]
    states = layer(x, film, mask)
    first = torch.autograd.grad(states.square().sum(), by, create_graph=True)
    norm = sum(g.square().sum() for g in first)
    second = torch.autograd.grad(norm, by, retain_graph=True)
    return [states, *first, *second, *torch.autograd.grad(first[3].square().sum(), by)]


def by_torch_func(layer: FiLMLSTM, x: Tensor, film: Tensor, mask: Tensor) -> list[Tensor]:
    """Forward mode over reverse mode, reverse over reverse, and vmap of a gradient over tasks."""
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(parameters: Any, x: Tensor) -> Tensor:
        states: Tensor = functional_call(layer, parameters, (x, film, mask))
        return states.square().sum()

    def norm(parameters: Any) -> Tensor:
        return sum(g.square().sum() for g in grad(loss)(parameters, x).values())

    pushed = jvp(lambda p: grad(loss)(p, x), (parameters,), (parameters,))
    tasks = vmap(grad(loss), in_dims=(None, 0))(parameters, torch.stack([x, 2 * x]))
    return [v for found in (*pushed, grad(norm)(parameters), tasks) for v in found.values()]


def without_derivatives(layer: FiLMLSTM, x: Tensor, film: Tensor, mask: Tensor) -> list[Tensor]:
    with torch.no_grad():
        every = layer(x, film, mask)
        layer.return_sequences = False
        return [every, layer(x, film, mask), layer.eval()(x)]


@pytest.mark.parametrize("computed", [second_order, by_torch_func, without_derivatives])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_on_a_gpu_the_layer_computes_what_it_does_on_the_cpu(
    gpu: str, dtype: torch.dtype, computed: Callable[..., list[Tensor]]
) -> None:
    layer, inputs = layer_and_inputs(dtype)
    expected = computed(layer, *inputs)
    layer, inputs = layer_and_inputs(dtype)
    found = computed(layer.to(gpu), *(t.detach().to(gpu) for t in inputs))
    assert {t.device.type for t in found} == {"cuda"}
    bound = (1e-10 if dtype == torch.float64 else 1e-3) if REAL else 0
    for there, here in zip(to_cpu(found), to_cpu(expected), strict=True):
        assert (there - here).norm() <= bound * here.norm()


def test_the_layer_on_a_gpu_refuses_what_is_on_the_cpu(gpu: str) -> None:
    layer, (x, film, mask) = layer_and_inputs(torch.float32)
    with pytest.raises(ValueError, match=r"film is on cuda:0, .*the model on cpu: move one"):
        layer(x, film.to(gpu), mask)
    with pytest.raises(ValueError, match=r"x is on cpu, .*the model on cuda:0: move one"):
        layer.to(gpu)(x, film, mask)


@pytest.mark.skipif(not HAS_CUDA, reason="this build has no CUDA engine")
def test_shapes_on_cuda_are_those_on_the_cpu_and_mixed_devices_are_refused() -> None:
    with FakeTensorMode():
        x, weights = (torch.empty(s, device="cuda") for s in ((4, 3, 2), (160,)))
        states, tape = torch.ops.timl.film_lstm(x, weights, None, None, 5, True)
        assert (states.device.type, states.shape, tape.device.type) == ("cuda", (4, 3, 5), "cuda")
        message = refusal(lambda: operators.film_lstm(x, torch.empty(160), hidden=5))
    assert message == (
        "timl::film_lstm_evaluate: weights is [160] on cpu, x on cuda:0: give all tensors on one "
        "device"
    )
