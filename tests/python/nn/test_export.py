"""Adapted classifiers as exported programs and ONNX models, which run without timl."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from timl.nn import Classifier, StrongClassifier, decompositions
from torch import Tensor


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    """A classifier whose FiLM values and running statistics are of its own."""
    torch.manual_seed(0)
    made = Classifier(hidden=32)
    made.film.uniform_(0.5, 1.5)
    made(torch.randn(64, 12, 18))
    return made.eval()


def exported(classifier: Classifier, gradients: bool) -> torch.export.ExportedProgram:
    sizes = {"x": {0: torch.export.Dim("batch", min=1)}}
    with torch.set_grad_enabled(gradients):
        return torch.export.export(classifier, (torch.randn(5, 12, 18),), dynamic_shapes=sizes)


def without_timl(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program in PyTorch's own operators."""
    made = program.run_decompositions({**torch.export.default_decompositions(), **decompositions()})
    assert not [n for n in made.graph.nodes if "timl" in str(n.target)]
    return made


@pytest.mark.parametrize("gradients", [True, False])
def test_an_exported_program_gives_the_same_logits_with_timl_and_without(
    classifier: Classifier, gradients: bool
) -> None:
    program = exported(classifier, gradients)
    plain = without_timl(program).module()
    for batch in (1, 3, 200):
        x = torch.randn(batch, 12, 18)
        expected = classifier(x)
        assert torch.equal(program.module()(x), expected)
        torch.testing.assert_close(plain(x), expected, rtol=1e-5, atol=1e-5)


def test_an_onnx_model_gives_the_same_logits(classifier: Classifier, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="torch.onnx.export needs onnxscript")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime runs the model")
    file = tmp_path / "classifier.onnx"
    torch.onnx.export(without_timl(exported(classifier, False)), dynamo=True, verbose=False).save(
        str(file)
    )
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (name,) = [given.name for given in session.get_inputs()]
    for batch in (1, 5, 200):
        x = torch.randn(batch, 12, 18)
        (found,) = session.run(None, {name: x.numpy()})
        torch.testing.assert_close(
            torch.from_numpy(found), classifier(x).detach(), rtol=1e-5, atol=1e-5
        )


def test_what_is_not_exported_says_so(classifier: Classifier) -> None:
    training = Classifier(hidden=8, dropout=0.0)
    program = torch.export.export(training, (torch.randn(5, 12, 18),))
    with pytest.raises(RuntimeError, match=r"in training mode: call \.eval\(\)"):
        without_timl(program)
    kernel = {"steps": 12, "networks": 1, "dimensions": 2, "width": 0, "names": ()}
    strong = StrongClassifier(kernel, 3, [1, 1])
    with pytest.raises(Exception, match="a StrongClassifier is not exported"):
        torch.export.export(strong, (torch.randn(5, 12, 18),))


def test_hooks_on_the_classifier_fire_and_those_on_its_dense_layers_do_not() -> None:
    """As docs/how-to/pytorch.md says: one operator computes all layers."""
    classifier, fired = Classifier(hidden=8).eval(), list[str]()
    for name, module in classifier.named_modules():
        module.register_forward_hook(lambda *_, name=name: fired.append(name))
    seen: list[Tensor] = []
    for parameter in classifier.parameters():
        parameter.register_hook(seen.append)
    classifier(torch.randn(3, 12, 18)).sum().backward()
    assert fired == [""] and len(seen) == len(list(classifier.parameters()))
