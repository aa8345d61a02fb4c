"""The authors' published weights give the outputs of the authors' architecture.

The architecture is written here once more, of torch.nn's parts, so that it takes the published
state dicts by their own names.
"""

import pytest
import torch
from timl.nn import TIML
from torch import nn

BANDS, STEPS, HIDDEN = 18, 12, 128


class AuthorsLSTMCell(nn.Module):
    def __init__(self):
        super().__init__()
        for gate in ("forget_gate", "update_gate", "update_candidates", "output_gate"):
            self.add_module(gate, nn.ModuleList([nn.Linear(BANDS + HIDDEN, HIDDEN)]))

    def forward(self, x, h, c):
        both = torch.cat([x, h], dim=1)
        forget, update, output = (
            torch.sigmoid(getattr(self, f"{name}_gate")[0](both))
            for name in ("forget", "update", "output")
        )
        c = forget * c + update * torch.tanh(self.update_candidates[0](both))
        return output * torch.tanh(c), c


class AuthorsClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        lstm = nn.Module()
        lstm.rnn = AuthorsLSTMCell()
        self.base = nn.ModuleList([lstm])
        self.batchnorm = nn.BatchNorm1d(HIDDEN, affine=False)
        self.global_classifier = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Linear(HIDDEN, HIDDEN, bias=False),
                    nn.GELU(),
                    nn.BatchNorm1d(HIDDEN, affine=False),
                ),
                nn.Sequential(nn.Linear(HIDDEN, 1)),
            ]
        )

    def forward(self, x, gammas, betas):
        x = x * gammas[0] + betas[0]
        h = c = x.new_zeros(len(x), HIDDEN)
        for t in range(STEPS):
            h, c = self.base[0].rnn(x[:, t], h, c)
        z = self.batchnorm(h)
        for layer, gamma, beta in zip(self.global_classifier, gammas[1:], betas[1:], strict=True):
            z = layer(z * gamma + beta)
        return torch.sigmoid(z)[:, 0]


class AuthorsEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        blocks = []
        for inputs, outputs in ((13, 32), (32, 64), (64, 128)):
            norm = nn.GroupNorm(outputs // 16, outputs)
            blocks += [nn.Linear(inputs, outputs), nn.GELU(), norm, nn.Dropout(0.2)]
        self.initial_encoder = nn.Sequential(*blocks)
        for kind in ("gamma", "beta"):
            first = nn.Module()
            first.linear = nn.Linear(128, STEPS * BANDS)
            self.add_module(f"task_embedding_0_{kind}", first)
            for layer in (1, 2):
                block = nn.Sequential(nn.Linear(128, HIDDEN), nn.GELU())
                self.add_module(f"task_embedding_{layer}_{kind}", block)

    def forward(self, info):
        z = self.initial_encoder(info[None])[0]
        values = {
            kind: [getattr(self, f"task_embedding_{layer}_{kind}")(z) for layer in (1, 2)]
            for kind in ("gamma", "beta")
        }
        gamma = 1 + torch.sigmoid(self.task_embedding_0_gamma.linear(z))
        beta = torch.sigmoid(self.task_embedding_0_beta.linear(z))
        gammas = [gamma.reshape(STEPS, BANDS), *values["gamma"]]
        return gammas, [beta.reshape(STEPS, BANDS), *values["beta"]]


@pytest.fixture
def published(shared_data):
    folder = shared_data / "upstream_weights"
    if not folder.exists():
        pytest.skip(f"no published weights: {folder} is absent")
    return folder


def test_published_weights_give_the_authors_outputs(published):
    classifier, encoder = AuthorsClassifier(), AuthorsEncoder()
    files = ("state_dict.pth", "encoder_state_dict.pth")
    for module, file in zip((classifier, encoder), files, strict=True):
        module.load_state_dict(torch.load(published / file, weights_only=True), strict=True)
        module.eval()
    model = TIML.from_pretrained(published)
    draw = torch.Generator().manual_seed(0)
    different = []
    for _ in range(5):
        info = torch.randn(13, generator=draw)
        x = torch.randn(9, STEPS, BANDS, generator=draw)
        with torch.no_grad():
            expected = classifier(x, *encoder(info))
            probabilities = torch.sigmoid(model(x, info))
            at_task = torch.sigmoid(model.for_task(info)(x))
        torch.testing.assert_close(probabilities, expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(at_task, expected, rtol=0, atol=1e-6)
        different.append(torch.sigmoid(model(x, info + 1)) - expected)
    assert torch.stack(different).abs().max() > 1e-2  # the encoder matters, so it is checked too


def test_round_trip_of_the_published_state_dicts(published):
    model = TIML.from_pretrained(published)
    pairs = zip(
        model.authors_state_dicts(), ("state_dict.pth", "encoder_state_dict.pth"), strict=True
    )
    for ours, file in pairs:
        theirs = torch.load(published / file, weights_only=True)
        assert list(ours) == list(theirs)
        for name, tensor in theirs.items():
            assert torch.equal(ours[name], tensor) and ours[name].dtype == tensor.dtype, name


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("encoder", [True, False])
def test_any_architecture_goes_there_and_back(tmp_path, layers, encoder):
    sizes = {"bands": 5, "hidden": 8, "layers": layers, "encoder": encoder}
    model = TIML(**sizes, steps=3 if encoder else 12, encoder_sizes=(16, 32), info_size=4)
    model.train()(torch.randn(4, model.classifier.steps, 5), torch.randn(4))
    classifier, encoder_state = model.authors_state_dicts()
    torch.save(classifier, tmp_path / "state_dict.pth")
    if encoder:
        torch.save(encoder_state, tmp_path / "encoder_state_dict.pth")
    else:
        assert encoder_state == {}
    back = TIML.from_pretrained(tmp_path)
    assert back.configuration() == model.configuration()
    assert_same_state(back, model)


def assert_same_state(a, b):
    a, b = a.state_dict(), b.state_dict()
    assert list(a) == list(b)
    for name in a:
        assert torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype, name
