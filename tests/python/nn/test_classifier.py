"""`timl.nn.Classifier`: its values and gradients are the twin's, it behaves as a PyTorch module."""

import copy
import io
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timl import reference
from timl.nn import Classifier
from timl.parameters import weight_shapes
from torch import nn


def small(seed=0, **sizes):
    torch.manual_seed(seed)
    sizes = {"bands": 4, "steps": 3, "hidden": 8, "layers": 2, **sizes}
    classifier = Classifier(**sizes).double()
    nn.init.normal_(classifier.running_mean, std=0.1)
    nn.init.uniform_(classifier.running_variance, 0.5, 2)
    return classifier


def batch(classifier, count=5):
    return torch.randn(count, classifier.steps, classifier.bands, dtype=torch.float64)


def twin(classifier, x, film, mask):
    return reference.network(
        x, classifier.flat_weights(), film, mask,
        classifier.running_mean, classifier.running_variance,
        hidden=classifier.hidden, layers=classifier.layers,
        batch_statistics=classifier.training,
    )  # fmt: skip


def test_parameters_are_named_and_ordered_as_the_table_of_shapes():
    classifier = Classifier()
    shapes = {name: tuple(p.shape) for name, p in classifier.named_parameters()}
    assert shapes == weight_shapes(18, 128, 2) and list(shapes) == list(weight_shapes(18, 128, 2))
    flat = torch.cat([p.flatten() for p in classifier.parameters()])
    assert torch.equal(classifier.flat_weights(), flat) and flat.numel() == 91_777
    bound = 128**-0.5
    for parameter in list(classifier.parameters())[:4]:
        assert 0.9 * bound < parameter.abs().max() <= bound
        assert parameter.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)


@settings(max_examples=20)
@given(
    st.integers(1, 4), st.integers(1, 5), st.sampled_from([1, 8, 13]), st.integers(1, 3),
    st.integers(2, 6), st.booleans(), st.booleans(),
)  # fmt: skip
def test_logits_and_gradients_are_the_twins(steps, bands, hidden, layers, count, training, masked):
    classifier = small(steps=steps, bands=bands, hidden=hidden, layers=layers).train(training)
    classifier.dropout = 0.0
    x = batch(classifier, count).requires_grad_()
    film = (classifier.film + 0.3 * torch.randn_like(classifier.film)).requires_grad_()
    mask = torch.bernoulli(torch.full((count, hidden), 0.8)).double() / 0.8 if masked else None
    expected = twin(classifier, x, film, mask)[0]
    logits = classifier(x, film, mask)
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-10)
    inputs = [x, film, *classifier.parameters()]
    weights = torch.randn(count, dtype=torch.float64)
    ours, theirs = (torch.autograd.grad((y * weights).sum(), inputs) for y in (logits, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


def test_a_users_own_maml_gets_the_exact_second_order_gradient():
    classifier = small().train()
    classifier.dropout = 0.0
    x, y = batch(classifier, 6), torch.tensor([0.0, 1, 1, 0, 0, 1]).double()
    loss = nn.BCEWithLogitsLoss()
    names, parameters = zip(*classifier.named_parameters(), strict=True)
    inner = torch.autograd.grad(loss(classifier(x), y), parameters, create_graph=True)
    adapted = [p - 0.1 * g for p, g in zip(parameters, inner, strict=True)]
    call = torch.func.functional_call
    outer = loss(call(classifier, dict(zip(names, adapted, strict=True)), (x + 0.1,)), y)
    gradient = torch.autograd.grad(outer, parameters)
    expected = reference.meta_gradient(
        x[None, None], y[None, None], x[None] + 0.1, y[None], classifier.flat_weights(),
        classifier.film[None], None, None, torch.full((1, 6), 0.1).double(),
        hidden=8, layers=2, order=2,
    ).weights_gradient  # fmt: skip
    torch.testing.assert_close(torch.cat([g.flatten() for g in gradient]), expected)


def test_training_moves_the_running_statistics_as_batch_norm_does():
    classifier, norm = small().train(), nn.BatchNorm1d(8, affine=False).double()
    norm.running_mean.copy_(classifier.running_mean[0])
    norm.running_var.copy_(classifier.running_variance[0])
    probe = copy.deepcopy(classifier)
    for count in (5, 2):
        x = batch(classifier, count)
        mask = torch.ones(count, 8).double()
        _, mean, variance = twin(probe, x, probe.film, mask)
        values = torch.randn(count, 8).double()
        values = (values - values.mean(0)) / values.std(0, unbiased=False)
        norm(values * variance[0].sqrt() + mean[0])  # a batch with the statistics of the LSTM's
        classifier(x, mask=mask)
        torch.testing.assert_close(classifier.running_mean[0], norm.running_mean)
        torch.testing.assert_close(classifier.running_variance[0], norm.running_var)
    assert classifier.num_batches_tracked == 2
    before = copy.deepcopy(classifier.state_dict())
    classifier.eval()(batch(classifier))
    assert all(torch.equal(before[k], v) for k, v in classifier.state_dict().items())


def test_several_passes_before_one_backward():
    classifier = small().train()
    x = batch(classifier)
    (classifier(x).sum() + classifier(x).pow(2).sum()).backward()
    assert all(p.grad.isfinite().all() for p in classifier.parameters())


def test_dropout_is_on_in_training_only_and_follows_its_rate():
    classifier = small(hidden=64, dropout=0.5)
    x = batch(classifier)
    assert torch.equal(classifier.eval()(x), classifier(x))
    classifier.train()
    torch.manual_seed(3)
    first, second = classifier(x), classifier(x)
    assert not torch.allclose(first, second)
    torch.manual_seed(3)
    assert torch.equal(classifier(x), first)
    classifier.dropout = 0.0
    torch.testing.assert_close(classifier(x), classifier(x, mask=torch.ones(5, 64).double()))
    classifier.dropout = 1.0
    with pytest.raises(ValueError, match=r"dropout is 1.0: give a number in \[0, 1\)"):
        classifier(x)


@pytest.mark.parametrize("training", [True, False])
def test_compiles_to_one_graph(training):
    classifier = small(dropout=0.0).train(training)
    other = copy.deepcopy(classifier)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    x = batch(classifier)
    for module in (classifier, compiled):
        module(x).square().sum().backward()
    torch.testing.assert_close(other.hidden_weight.grad, classifier.hidden_weight.grad)
    torch.testing.assert_close(other.running_variance, classifier.running_variance)


def test_copies_and_pickles_keep_the_tasks_film():
    classifier = small().eval()
    classifier.film.add_(torch.randn_like(classifier.film))
    classifier.normalization = {"mean": [0.0], "std": [1.0], "ndvi": "true"}
    x = batch(classifier)
    stream = io.BytesIO()
    torch.save(classifier.state_dict(), stream)
    stream.seek(0)
    loaded = small(seed=1).eval()
    loaded.load_state_dict(torch.load(stream, weights_only=True), strict=True)
    copied, pickled = copy.deepcopy(classifier), pickle.loads(pickle.dumps(classifier))
    for other in (loaded, copied, pickled):
        assert torch.equal(other(x), classifier(x))
    assert copied.normalization == pickled.normalization == classifier.normalization
    with torch.no_grad():
        copied.input_weight.zero_()
        copied.film.zero_()
    assert torch.equal(pickled(x), classifier(x)) and not torch.equal(copied(x), classifier(x))


def test_float_is_close_to_double():
    classifier = small(hidden=32).eval()
    x = batch(classifier)
    expected = classifier(x)
    single = copy.deepcopy(classifier).float()(x.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (
            torch.zeros(5, 3, 7),
            ValueError,
            r"x is a tensor of shape \[5, 3, 7\]: give shape \[B, 3, 4\]",
        ),
        (
            torch.zeros(5, 2, 4),
            ValueError,
            r"x is a tensor of shape \[5, 2, 4\]: give shape \[B, 3, 4\]",
        ),
        (torch.zeros(3, 4), ValueError, r"\[3, 4\]: give shape \[B, 3, 4\]"),
        (torch.zeros(0, 3, 4), ValueError, r"x is empty, of shape \[0, 3, 4\]"),
        (torch.zeros(1, 3, 4), ValueError, r"x is one series, of shape \[1, 3, 4\].*eval\(\)"),
        (torch.zeros(5, 3, 4).double(), TypeError, "float64.*float32"),
        (torch.zeros(5, 3, 4).long(), TypeError, "int64.*float32"),
        (torch.zeros(5, 3, 4, device="meta"), ValueError, "meta.*cpu"),
        (
            torch.zeros(5, 3, 4).numpy(),
            TypeError,
            r"x is a ndarray: give a tensor of shape \[B, 3, 4\]",
        ),
        (torch.full((5, 3, 4), torch.nan), ValueError, r"\[5, 3, 4\] with 60 NaN or infinite"),
        (torch.full((5, 3, 4), torch.inf), ValueError, "60 NaN or infinite"),
    ],
)
def test_wrong_input_is_named_and_changes_nothing(x, error, message):
    classifier = small().float().train()
    before = copy.deepcopy(classifier.state_dict())
    with pytest.raises(error, match=message):
        classifier(x)
    assert all(torch.equal(before[k], v) for k, v in classifier.state_dict().items())


def test_wrong_film_mask_and_sizes():
    classifier = small()
    x = batch(classifier)
    with pytest.raises(ValueError, match=r"film is a tensor of shape \[55\]: give shape \[56\]"):
        classifier(x, torch.zeros(55).double())
    with pytest.raises(
        ValueError, match=r"mask is a tensor of shape \[4, 8\]: give shape \[5, 8\]"
    ):
        classifier(x, None, torch.zeros(4, 8).double())
    with pytest.raises(ValueError, match="layers is 0: give an integer of at least 1"):
        Classifier(layers=0)
    with pytest.raises(ValueError, match=r"dropout is 1.0: give a number in \[0, 1\)"):
        Classifier(dropout=1.0)


def test_large_finite_values_pass():
    x = torch.full((5, 3, 4), 3e38)  # their sum overflows
    assert small().float().eval()(x).isfinite().all()
