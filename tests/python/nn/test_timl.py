"""`timl.nn.TIML`: a classifier and an encoder, and the classifier of one task."""

import copy
import pickle

import pytest
import torch
from timl.nn import TIML
from timl.parameters import identity_film

SIZES = {"bands": 4, "steps": 3, "hidden": 8, "layers": 2, "info_size": 5, "encoder_sizes": (16,)}


def small(**arguments):
    torch.manual_seed(0)
    return TIML(**SIZES, **arguments)


def test_logits_are_the_classifiers_with_the_encoders_film():
    model = small().eval()
    x, info = torch.randn(6, 3, 4), torch.randn(5)
    logits = model(x, info)
    torch.testing.assert_close(logits, model.classifier(x, model.encoder(info)))
    logits.sum().backward()
    assert model.encoder.linears[0].weight.grad.abs().max() > 0


def test_the_classifier_of_a_task_stands_alone():
    model = small().train()
    x, info = torch.randn(6, 3, 4), torch.randn(5)
    model(x, info).sum().backward()
    state = copy.deepcopy(model.state_dict())
    classifier = model.for_task(info)
    assert model.encoder.training and classifier.training
    assert all(p.grad is None and p.requires_grad for p in classifier.parameters())
    torch.testing.assert_close(classifier.eval()(x), model.eval()(x, info))
    with torch.no_grad():
        for tensor in classifier.state_dict().values():
            tensor.zero_()
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert torch.equal(model.classifier.film, identity_film(3, 4, 8, 2))


def test_without_an_encoder_it_is_plain_maml():
    model = small(encoder=False).eval()
    x = torch.randn(6, 3, 4)
    assert model.encoder is None
    assert torch.equal(model(x), model.classifier(x))
    assert torch.equal(model.for_task()(x), model(x, torch.randn(5)))


def test_normalization_goes_with_the_classifier():
    model = small()
    model.normalization = {"mean": [0.0] * 4, "std": [1.0] * 4, "ndvi": "true"}
    assert model.for_task(torch.zeros(5)).normalization == model.normalization


def test_configuration_builds_the_same_model():
    model = small(dropout=0.1, encoder_dropout=0.3, noise=0.2)
    model.classifier.dropout = 0.4
    again = TIML(**model.configuration())
    assert again.configuration() == model.configuration()
    assert again.classifier.dropout == 0.4 and again.encoder.noise == 0.2
    again.load_state_dict(model.state_dict())


def test_pickle_copy_and_double():
    model = small().eval()
    x, info = torch.randn(6, 3, 4), torch.randn(5)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x, info), model(x, info))
    torch.testing.assert_close(
        copy.deepcopy(model).double()(x.double(), info.double()).float(), model(x, info)
    )


def test_wrong_info():
    model = small().eval()
    x = torch.randn(6, 3, 4)
    with pytest.raises(ValueError, match=r"info is None: .* 5 numbers"):
        model(x)
    with pytest.raises(ValueError, match=r"info is of shape \[2, 5\]: give \[5\]"):
        model(x, torch.zeros(2, 5))
    model.train()
    with pytest.raises(ValueError, match="NaN"):
        model.for_task(torch.full((5,), torch.nan))
    assert model.encoder.training


def test_appended_numbers_are_bands_of_every_step():
    model = small(encoder=False, append_information=True).eval()
    x, info = torch.randn(6, 3, 4), torch.randn(5)
    assert model.classifier.input_weight.shape == (32, 9)
    by_hand = TIML(**{**SIZES, "bands": 9}, encoder=False)
    by_hand.classifier.load_state_dict(
        {k: v for k, v in model.classifier.state_dict().items() if k != "information"}
    )
    expected = by_hand.eval()(torch.cat([x, info.expand(6, 3, 5)], dim=2))
    torch.testing.assert_close(model(x, info), expected)
    torch.testing.assert_close(model.for_task(info)(x), expected)
    assert TIML(**model.configuration()).configuration() == model.configuration()
    classifier, encoder = model.authors_state_dicts()
    assert encoder == {}
    assert {t.shape[1] for t in classifier.values() if t.shape[:1] == (8,) and t.ndim == 2} >= {17}
    with pytest.raises(ValueError, match="task's 5 numbers, which this model appends"):
        model(x)
    with pytest.raises(ValueError, match="give encoder=False"):
        small(append_information=True)
