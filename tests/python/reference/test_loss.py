"""The loss: the twin against its definition, and the engine's value and derivatives against it."""

import math

import numpy as np
import pytest
import torch
from timl import _core
from timl.reference import mean_loss

SATURATED = torch.tensor([-800.0, -40, -3, -1e-3, 0, 1e-3, 0.7, 5, 40, 800], dtype=torch.float64)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_the_twin_is_the_mean_binary_cross_entropy(label):
    logits = SATURATED[1:-1]  # where the definition neither overflows nor takes log 0
    p = [1 / (1 + math.exp(-z)) for z in logits.tolist()]
    q = [1 / (1 + math.exp(z)) for z in logits.tolist()]  # 1 - p without cancellation
    expected = -sum(math.log(part) for part in (p if label else q)) / len(logits)
    assert mean_loss(logits, torch.full_like(logits, label)).item() == pytest.approx(expected)


def test_the_twin_does_not_saturate():
    logits = torch.tensor([800.0, -800.0, 0.0], dtype=torch.float64, requires_grad=True)
    loss = mean_loss(logits, torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64))
    loss.backward()
    assert loss.item() == pytest.approx((1600 + math.log(2)) / 3)
    assert logits.grad.mul(3).tolist() == pytest.approx([1, -1, -0.5])


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize(
    ("engine_loss", "dtype", "tolerance"),
    [
        (_core.mean_loss_float32, torch.float32, 1e-6),
        (_core.mean_loss_float64, torch.float64, 1e-14),
    ],
    ids=["float32", "float64"],
)
def test_the_engines_loss_gradient_and_curvature_are_the_twins(
    engine_loss, dtype, tolerance, label
):
    logits = SATURATED.to(dtype)
    labels = torch.full_like(logits, label)
    value, gradient, curvature = engine_loss(logits.numpy(), labels.numpy())
    # of the same rounded logits, in float64
    exact = logits.double().clone().requires_grad_()
    loss = mean_loss(exact, labels.double())
    (first,) = torch.autograd.grad(loss, exact, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), exact)  # the Hessian is diagonal
    assert value == pytest.approx(loss.item(), rel=tolerance)
    np.testing.assert_allclose(gradient, first.detach(), rtol=0, atol=tolerance)
    np.testing.assert_allclose(curvature, second, rtol=0, atol=tolerance)


def test_the_engines_derivatives_are_central_differences():
    draw = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(30, generator=draw, dtype=torch.float64).numpy()
    labels = (np.arange(30) % 2).astype(np.float64)
    _, gradient, curvature = _core.mean_loss_float64(logits, labels)
    for sample, step in enumerate(1e-5 * np.eye(30)):
        low, high = (_core.mean_loss_float64(logits + h, labels) for h in (-step, step))
        slope = (high[0] - low[0]) / 2e-5
        slope_of_gradient = (high[1] - low[1]) / 2e-5
        assert gradient[sample] == pytest.approx(slope, abs=1e-9)
        assert curvature[sample] == pytest.approx(slope_of_gradient[sample], abs=1e-9)
        assert np.delete(slope_of_gradient, sample) == pytest.approx(0)


@pytest.mark.parametrize("outputs", [1, 2, 13])
@pytest.mark.parametrize("weighted", [False, True], ids=["ones", "class weights"])
def test_several_classes_weights_and_ignored_labels_are_the_twins(outputs, weighted):
    draw = torch.Generator().manual_seed(1)
    shape = (9,) if outputs == 1 else (9, outputs)
    logits = 30 * torch.randn(shape, generator=draw, dtype=torch.float64)
    classes = max(outputs, 2)
    labels = torch.randint(-1, classes, (9,), generator=draw).double()
    labels[3] = -1
    weights = torch.rand(classes, generator=draw).double() + 0.1 if weighted else None
    value, gradient, curvature = _core.mean_loss_float64(
        logits.numpy(), labels.numpy(), None if weights is None else weights.numpy()
    )
    exact = logits.clone().requires_grad_()
    loss = mean_loss(exact, labels, weights)
    (first,) = torch.autograd.grad(loss, exact, create_graph=True)
    assert value == pytest.approx(loss.item(), rel=1e-14)
    np.testing.assert_allclose(gradient, first.detach(), rtol=0, atol=1e-14)
    assert not gradient[labels == -1].any()
    # The curvature's product with a vector is the derivative of the gradient along it.
    along = torch.randn(shape, generator=draw, dtype=torch.float64)
    (second,) = torch.autograd.grad((first * along).sum(), exact)
    c, v = curvature.reshape(9, -1), along.numpy().reshape(9, -1)
    product = c * v
    if outputs > 1:
        total = c.sum(axis=1, keepdims=True)
        product -= c * (c * v).sum(axis=1, keepdims=True) / np.where(total > 0, total, 1)
    np.testing.assert_allclose(product.reshape(shape), second, rtol=0, atol=1e-14)


def test_nothing_counted_is_a_loss_of_zero():
    labels = np.full(3, -1.0)
    value, gradient, _ = _core.mean_loss_float64(np.ones(3), labels)
    assert value == 0 and not gradient.any()
    assert mean_loss(torch.ones(3), torch.from_numpy(labels)).item() == 0


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0.0, 4], r"labels is \[2\] with the label 4.0*: give classes 0 to 3"), ([0.5, 1], "0.5")],
)
def test_labels_that_are_no_class_are_named(labels, message):
    with pytest.raises(ValueError, match=message):
        _core.mean_loss_float64(np.zeros((2, 4)), np.array(labels))


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"logits is \[3\] and labels \[2\]: give \[B\]"):
        _core.mean_loss_float64(np.zeros(3), np.zeros(2))
