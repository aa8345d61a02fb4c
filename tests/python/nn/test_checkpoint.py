"""Models on disk: what is read is what was written, and anything else is a clear error."""

import json
import pickle

import numpy as np
import pytest
import torch
from timl.nn import TIML, Classifier, load_pretrained

SIZES = {"bands": 4, "steps": 3, "hidden": 8, "layers": 2, "info_size": 5, "encoder_sizes": (16,)}


def small(seed=0, **arguments):
    torch.manual_seed(seed)
    return TIML(**SIZES, **arguments)


@pytest.fixture
def folder(tmp_path):
    small().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("encoder", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip(tmp_path, encoder, dtype):
    model = small(encoder=encoder, dropout=0.1).to(dtype)
    model.train()(torch.randn(4, 3, 4, dtype=dtype), torch.randn(5, dtype=dtype))
    model.normalization = {"mean": np.arange(4) / 3, "std": np.ones(4), "ndvi": "record"}
    model.save_pretrained(tmp_path / "some" / "where")
    generator = torch.get_rng_state()
    back = TIML.from_pretrained(tmp_path / "some" / "where")
    assert torch.equal(torch.get_rng_state(), generator)
    assert not back.training and back.configuration() == model.configuration()
    state = back.state_dict()
    assert list(state) == list(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(state[name], tensor) and state[name].dtype == tensor.dtype
    assert all(isinstance(p, torch.nn.Parameter) and p.requires_grad for p in back.parameters())
    np.testing.assert_array_equal(back.normalization["mean"], model.normalization["mean"])
    assert back.normalization["ndvi"] == "record"


def test_saving_again_replaces_both_files_and_leaves_nothing_else(folder):
    model = small(seed=1)
    model.save_pretrained(folder)
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    weight = TIML.from_pretrained(folder).classifier.input_weight
    assert torch.equal(weight, model.classifier.input_weight)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": [0.0] * 4, "std": [1.0] * 4},
        {"mean": [0.0] * 4, "std": [1.0] * 3, "ndvi": "true"},
        {"mean": [0.0] * 4, "std": [0.0] * 4, "ndvi": "true"},
        {"mean": [np.nan] * 4, "std": [1.0] * 4, "ndvi": "true"},
        {"mean": [0.0] * 4, "std": [1.0] * 4, "ndvi": 3},
    ],
)
def test_malformed_statistics_write_nothing(tmp_path, wrong):
    model = small()
    model.normalization = wrong
    with pytest.raises(ValueError, match="normalization"):
        model.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_missing_files(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match=r"nowhere.*model\.safetensors.*state_dict\.pth"):
        TIML.from_pretrained(tmp_path / "nowhere")
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        TIML.from_pretrained(folder)


def test_truncated_or_mixed_files(tmp_path, folder):
    weights, config = folder / "model.safetensors", folder / "config.json"
    data, text = weights.read_bytes(), config.read_text()
    weights.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"model\.safetensors.*truncated"):
        TIML.from_pretrained(folder)
    small(seed=1).save_pretrained(tmp_path / "other")
    weights.write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"belongs to another config\.json"):
        TIML.from_pretrained(folder)
    weights.write_bytes(data)
    for wrong, message in ((text[: len(text) // 2], "not JSON"), ("[1]", "not of a timl model")):
        config.write_text(wrong)
        with pytest.raises(ValueError, match=f"config.json.*{message}"):
            TIML.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": 16}, r"'classifier\.input_weight' is \[32, 4\]: give \[64, 4\]"),
        ({"layers": 3}, r"key 'classifier\.film' is \[56\]: give \[72\]"),
        ({"encoder": False}, r"key 'encoder\..*' .* is unknown"),
        ({"hidden": -1}, "hidden is -1, but model"),
        ({"colour": 1}, "builds no model.*colour"),
    ],
)
def test_a_configuration_that_does_not_fit_the_tensors(folder, change, message):
    path = folder / "config.json"
    stored = json.loads(path.read_text())
    stored["model"] |= change
    path.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=message):
        TIML.from_pretrained(folder)


def authors_pair(tmp_path, change=lambda classifier, encoder: None):
    classifier, encoder = small().authors_state_dicts()
    change(classifier, encoder)
    torch.save(classifier, tmp_path / "state_dict.pth")
    torch.save(encoder, tmp_path / "encoder_state_dict.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c, e: c.pop("base.0.rnn.update_gate.0.bias"),
            r"state_dict\.pth: key 'base\.0\.rnn\.update_gate\.0\.bias' is missing: give .* \[8\]",
        ),
        (
            lambda c, e: c.update({"base.1.rnn.update_gate.0.bias": torch.zeros(8)}),
            r"key 'base\.1\.rnn\.update_gate\.0\.bias' \[8\] is unknown",
        ),
        (
            lambda c, e: c.update({"batchnorm.running_var": torch.zeros(9)}),
            r"key 'batchnorm\.running_var' is \[9\]: give \[8\]",
        ),
        (
            lambda c, e: c["batchnorm.running_var"].fill_(torch.nan),
            r"key 'batchnorm\.running_var' has NaN",
        ),
        (
            lambda c, e: c.clear(),
            r"state_dict\.pth: the state dict is of \[\] .*, not of the authors' classifier",
        ),
        (
            lambda c, e: e.update({"task_embedding_1_beta.0.weight": torch.zeros(8, 15)}),
            r"encoder_state_dict\.pth: key 'task_embedding_1_beta\.0\.weight' is \[8, 15\]: give",
        ),
        (
            lambda c, e: e.clear(),
            r"encoder_state_dict\.pth: the state dict is of .*, not of the authors' encoder",
        ),
        (
            lambda c, e: e.update({"task_embedding_0_gamma.linear.weight": torch.zeros(7, 16)}),
            r"\[7, 16\]: give a multiple of the classifier's 4 bands",
        ),
    ],
)
def test_foreign_tensors_in_the_authors_files(tmp_path, change, message):
    authors_pair(tmp_path, change)
    with pytest.raises(ValueError, match=message):
        TIML.from_pretrained(tmp_path)


@pytest.mark.parametrize("file", ["state_dict.pth", "encoder_state_dict.pth"])
def test_truncated_authors_files(tmp_path, file):
    authors_pair(tmp_path)
    data = (tmp_path / file).read_bytes()
    for part in (data[: len(data) // 2], data[:10], b"", b"not a state dict"):
        (tmp_path / file).write_bytes(part)
        with pytest.raises(ValueError, match=rf"{file} is truncated or not a state dict"):
            TIML.from_pretrained(tmp_path)


class Payload:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def test_pickled_code_is_not_executed(tmp_path):
    torch.save(Payload(), tmp_path / "state_dict.pth")
    with pytest.raises(ValueError, match=r"state_dict\.pth"):
        TIML.from_pretrained(tmp_path)
    (tmp_path / "state_dict.pth").write_bytes(pickle.dumps(Payload(), protocol=2))
    with pytest.raises(ValueError, match=r"state_dict\.pth"):
        TIML.from_pretrained(tmp_path)


def test_an_adapted_classifier_comes_back_with_its_film_values(tmp_path):
    classifier = small().for_task(torch.randn(5))
    classifier.train()(torch.randn(4, 3, 4))
    classifier.normalization = {"mean": np.arange(4) / 3, "std": np.ones(4), "ndvi": "true"}
    classifier.save_pretrained(tmp_path)
    back = Classifier.from_pretrained(tmp_path)
    assert not back.training and back.configuration() == classifier.configuration()
    x = torch.randn(4, 3, 4)
    assert torch.equal(back(x), classifier.eval()(x))
    assert back.normalization["ndvi"] == "true"
    assert isinstance(load_pretrained(tmp_path), Classifier)


def test_the_two_kinds_of_model_are_not_mixed_up(tmp_path, folder):
    assert isinstance(load_pretrained(folder), TIML)
    with pytest.raises(
        ValueError, match=r"is of a TIML, not of a Classifier: .*TIML\.from_pretrained"
    ):
        Classifier.from_pretrained(folder)
    small().classifier.save_pretrained(tmp_path / "one")
    with pytest.raises(ValueError, match="is of a Classifier, not of a TIML"):
        TIML.from_pretrained(tmp_path / "one")
