"""torch.func, forward mode, autocast and hooks over the operators and modules, as over the twin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import test_strong_operators
import torch
from test_operator_checks import CALLS, OPS, refusal
from test_operators import arguments, both_modes
from timl import reference
from timl.nn import TIML, Classifier, operators
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def along(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function's value, and its derivative along a direction that varies with the arguments."""

    def derivative(*inputs: Tensor) -> Any:
        return jvp(function, inputs, tuple((5 * t).cos() for t in inputs))

    return derivative


def several(function: Callable[..., Any], *dims: int | None) -> Callable[..., Any]:
    """The function of three different arguments each, stacked, where dims is not None."""

    def stacked(*inputs: Tensor) -> Any:
        more = [
            t if d is None else torch.stack([t, 1.1 * t, 0.7 * t], d)
            for t, d in zip(inputs, dims, strict=True)
        ]
        return vmap(function, in_dims=dims)(*more)

    return stacked


TRANSFORMS: dict[str, Callable[[Loss], Callable[..., Any]]] = {
    "grad": lambda f: grad(f, argnums=(0, 1, 2)),
    "grad by the weights alone": lambda f: grad(f, argnums=1),
    "jvp": along,
    "vjp": lambda f: lambda *inputs: vjp(f, *inputs)[1](torch.tensor(1.5).double()),
    "vmap": lambda f: several(f, None, 0, None),
    "vmap of series": lambda f: several(f, 1, None, None),
    "vmap of everything": lambda f: several(f, 0, 0, 0),
    "vmap of grad": lambda f: several(grad(f, argnums=(1, 2)), 0, 0, None),
    "grad of vmap": lambda f: grad(lambda *i: several(f, 0, 0, 0)(*i).sum(), argnums=(0, 1)),
    "vmap of jvp": lambda f: several(along(f), 0, None, 0),
    "jvp of vmap": lambda f: along(several(f, 0, 0, 0)),
    "forward over reverse": lambda f: along(grad(f, argnums=(0, 1, 2))),
    "reverse over forward": lambda f: grad(lambda *i: along(f)(*i)[1], argnums=(0, 1, 2)),
    "reverse over reverse": lambda f: grad(
        lambda *i: sum(part.square().sum() for part in grad(f, argnums=(0, 1, 2))(*i)),
        argnums=(0, 1, 2),
    ),
    "hessian": lambda f: hessian(f, argnums=2),
    "reverse jacobian of the gradient": lambda f: jacrev(grad(f, argnums=2), argnums=2),
    "forward jacobian": lambda f: jacfwd(f, argnums=(1, 2)),
    "gradients of several tasks after a step": lambda f: several(
        grad(lambda x, w, p: f(x, w - 0.1 * grad(f, argnums=1)(x, w, p), p), argnums=(1, 2)),
        *(0, None, 0),
    ),
}


def loss_of(network: Callable[..., Any], batch_statistics: bool, mask: bool) -> Loss:
    tensors, sizes = arguments("small", mask=mask)

    def loss(x: Tensor, weights: Tensor, film: Tensor) -> Tensor:
        logits, _, _ = network(
            x,
            weights,
            film,
            tensors["mask"],
            tensors["running_mean"],
            tensors["running_variance"],
            batch_statistics=batch_statistics,
            **sizes,
        )
        return (logits.sigmoid() * torch.arange(1.0, 5, dtype=logits.dtype)).sum()

    return loss


def assert_same(ours: Any, twins: Any) -> None:
    torch.testing.assert_close(ours, twins, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("transform", TRANSFORMS)
@both_modes
def test_transforms_of_torch_func_are_the_twins(transform: str, batch_statistics: bool) -> None:
    inputs = [arguments("small")[0][key] for key in ("x", "weights", "film")]
    for mask in (True, False):
        ours, twins = (
            TRANSFORMS[transform](loss_of(network, batch_statistics, mask))(*inputs)
            for network in (operators.network, reference.network)
        )
        assert_same(ours, twins)


def test_backward_goes_through_vmap() -> None:
    """In evaluation mode it used to be refused: what vmap wraps does not show that it needs one."""
    inputs = [arguments("small")[0][key] for key in ("x", "weights", "film")]
    found = []
    for network in (operators.network, reference.network):
        x, weights, film = (t.clone().requires_grad_() for t in inputs)
        loss = loss_of(network, batch_statistics=False, mask=False)
        stepped = several(lambda *i: loss(i[0], i[1] - 0.1 * grad(loss, 1)(*i), i[2]), 0, None, 0)  # noqa: B023
        stepped(x, weights, film).sum().backward()
        found.append([x.grad, weights.grad, film.grad])
    assert_same(*found)


def test_forward_mode_outside_torch_func() -> None:
    inputs = [arguments("small")[0][key] for key in ("x", "weights", "film")]
    found = []
    for network in (operators.network, reference.network):
        with forward_ad.dual_level():
            dual = [forward_ad.make_dual(t, t.cos()) for t in inputs]
            found.append(forward_ad.unpack_dual(loss_of(network, True, True)(*dual)).tangent)
    assert_same(*found)
    single = [t.clone().requires_grad_() for t in inputs]
    assert torch.autograd.gradcheck(
        loss_of(operators.network, True, True), single, check_forward_ad=True, fast_mode=True
    )


def test_a_third_derivative_and_forward_mode_twice_are_refused() -> None:
    x, weights, film = (arguments("small")[0][key] for key in ("x", "weights", "film"))
    loss = loss_of(operators.network, True, True)
    by_weights = lambda w: loss(x, w, film)  # noqa: E731
    square = lambda f: lambda w: grad(f)(w).square().sum()  # noqa: E731
    for third in (square(square(square(by_weights))), along(square(square(by_weights)))):
        assert "differentiable twice" in refusal(lambda f=third: f(weights))  # type: ignore[misc]
    twice = refusal(lambda: along(along(by_weights))(weights))
    assert twice.endswith("in reverse mode (torch.func.grad), or use timl.reference.network")


@pytest.mark.parametrize("name", CALLS)
def test_derivatives_of_raw_operators_are_refused(name: str) -> None:
    """They used to be zero in forward mode."""
    given, operator = CALLS[name], getattr(OPS, name)
    x = next(i for i, value in enumerate(given) if isinstance(value, Tensor))

    def first(tensor: Tensor) -> Tensor:
        found = operator(*given[:x], tensor, *given[x + 1 :])
        return (found if isinstance(found, Tensor) else found[0]).sum()

    for transformed in (lambda t: jvp(first, (t,), (t,)), grad(first)):
        message = refusal(lambda f=transformed: f(given[x]))  # type: ignore[misc]
        assert message.startswith(f"torch.ops.timl.{name} has no derivative in torch.func")
        assert "use timl." in message


@pytest.mark.parametrize("name", CALLS)
def test_vmap_of_raw_operators_is_one_call_after_the_other(name: str) -> None:
    given, operator = CALLS[name], getattr(OPS, name)
    x = next(i for i, value in enumerate(given) if isinstance(value, Tensor))
    stacked = torch.stack([given[x], 0.5 * given[x]], dim=1)
    in_dims = tuple(1 if i == x else None for i in range(len(given)))
    ours = vmap(operator, in_dims=in_dims)(*given[:x], stacked, *given[x + 1 :])
    for entry in range(2):
        alone = operator(*given[:x], stacked.select(1, entry), *given[x + 1 :])
        pairs = (
            [(ours, alone)] if isinstance(alone, Tensor) else list(zip(ours, alone, strict=True))
        )
        for many, one in pairs[:1] if name.endswith(("network", "lstm", "backward")) else pairs:
            assert torch.equal(many[entry], one)  # tapes and adjoints have parts unwritten


def test_modules_under_functional_call() -> None:
    torch.manual_seed(0)
    classifier = Classifier(bands=2, steps=3, hidden=5, dropout=0.0).double().eval()
    names = [name for name, _ in classifier.named_parameters()]
    x = torch.randn(4, 3, 2).double()
    both: dict[str, list[Any]] = {"ours": [], "twins": []}
    for whose, network in (("ours", operators.network), ("twins", reference.network)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("timl.nn.classifier.operators.network", network)

            def loss(parameters: dict[str, Tensor], x: Tensor = x) -> Tensor:
                return functional_call(classifier, parameters, (x,)).square().sum()

            given = {name: p.detach() for name, p in classifier.named_parameters()}
            tangents = {name: p.cos() for name, p in given.items()}
            three = {name: torch.stack([p, 2 * p, -p]) for name, p in given.items()}
            both[whose] += [grad(loss)(given), jvp(loss, (given,), (tangents,))]
            both[whose] += [vmap(grad(loss))(three), vmap(loss, in_dims=(None, 0))(given, x[None])]
    assert names and not isinstance(both["ours"][0], Tensor)
    assert_same(both["ours"], both["twins"])


def test_a_module_in_training_mode_under_a_transform_says_what_to_do() -> None:
    classifier = Classifier(hidden=5, dropout=0.0)
    before = classifier.running_mean.clone()
    parameters = {name: p.detach() for name, p in classifier.named_parameters()}
    x = torch.randn(2, 4, 12, 18)

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(classifier, parameters, (x,)).sum()

    for transformed in (
        lambda: grad(loss)(parameters, x[0]),
        lambda: jvp(lambda p: loss(p, x[0]), (parameters,), (parameters,)),
        lambda: vmap(loss, in_dims=(None, 0))(parameters, x),
    ):
        assert "call .eval(), or timl.nn.operators.network with" in refusal(transformed)
    assert torch.equal(classifier.running_mean, before)


def test_autocast_casts_as_pytorchs_own_layers_that_need_float32() -> None:
    classifier = Classifier(dropout=0.0).eval()
    x = torch.randn(4, 12, 18)
    plain = classifier(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = classifier(x)
        rounded = classifier(x.bfloat16())
    assert found.dtype == torch.float32 and torch.equal(found, plain)
    assert torch.equal(rounded, classifier(x.bfloat16().float()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        training = classifier.train()(x.bfloat16())
    training.sum().backward()
    assert classifier.input_weight.grad.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model = TIML(hidden=16).eval()
        assert model(x.bfloat16(), torch.zeros(13)).dtype == torch.float32
        assert classifier.double()(x.double()).dtype == torch.float64
        given = test_strong_operators.arguments("odd sizes", batch=4)
        low = [t.bfloat16() if t is not None and t.is_floating_point() else t for t in given]
        found, far = operators.strong_evaluate(*low)
        described = operators.describe(low[0], given[1])
    assert {found.dtype, far.dtype, described.dtype} == {torch.float32}
    with pytest.raises(TypeError, match="bfloat16"):
        Classifier()(x.bfloat16())
