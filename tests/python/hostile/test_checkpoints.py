"""Checkpoints: nothing is built that is larger than the tensors, nothing senseless is read."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timl
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from timl.nn import Classifier

STATISTICS: dict[str, Any] = {"mean": [0.0] * 4, "std": [1.0] * 4, "ndvi": "true"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Folder of a small model with an encoder."""
    made = timl.TIML(bands=4, steps=3, hidden=8, info_size=5, encoder_sizes=(16,))
    made.normalization = STATISTICS  # type: ignore[assignment]
    made.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change(model: Path, **changes: Any) -> None:
    """Change what config.json holds; the model's arguments by names that begin with model_."""
    path = model / "config.json"
    stored = json.loads(path.read_text())
    for name, value in changes.items():
        if name.startswith("model_"):
            stored["model"][name.removeprefix("model_")] = value
        else:
            stored[name] = value
    path.write_text(json.dumps(stored))


def change_tensor(model: Path, name: str, to: Callable[[torch.Tensor], torch.Tensor]) -> None:
    tensors = load_file(model / "model.safetensors")
    tensors[name] = to(tensors[name])
    save_file(tensors, model / "model.safetensors")
    data = (model / "model.safetensors").read_bytes()
    change(model, sha256=hashlib.sha256(data).hexdigest())


# --- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("layers", 10**7),
        ("layers", 10**30),
        ("hidden", 2**31),
        ("hidden", -(2**31)),
        ("bands", 2**63),
        ("steps", 10**12),
        ("info_size", 10**12),
        ("encoder_sizes", [8] * 100_000),
        ("encoder_sizes", [2**40]),
        ("learned_steps", 10**9),
        ("channels_per_group", 10**18),
        ("deep_kernel", {"steps": 12, "networks": 10**7, "dimensions": 1, "width": 1, "names": []}),
        ("deep_kernel", {"steps": 10**9, "networks": 1, "dimensions": 1, "width": 1, "names": []}),
        ("deep_kernel", {"names": ["a"] * 10**6}),
    ],
)
def test_a_size_beyond_the_tensors_is_refused_at_once(
    model: Path, argument: str, value: object
) -> None:
    change(model, **{f"model_{argument}": value})
    start = time.perf_counter()
    with pytest.raises(ValueError, match=rf"config\.json: {argument}.* but model\.safetensors"):
        timl.TIML.from_pretrained(model)
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize(
    ("argument", "value"),
    [("encoder", "no"), ("encoder", 1), ("encoder", None), ("bands", True), ("hidden", False)],
)
def test_yes_and_no_are_truth_values_and_nothing_else_is(
    model: Path, argument: str, value: object
) -> None:
    change(model, **{f"model_{argument}": value})
    with pytest.raises(ValueError, match=rf"config\.json: {argument} is {value!r}: give"):
        timl.TIML.from_pretrained(model)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    argument=st.sampled_from(["bands", "steps", "hidden", "layers", "dropout", "encoder", "noise"]),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
        ),
        max_leaves=5,
    ),
)
def test_any_argument_is_read_or_refused(model: Path, argument: str, value: object) -> None:
    before = (model / "config.json").read_text()
    change(model, **{f"model_{argument}": value})
    try:
        timl.TIML.from_pretrained(model)
    except ValueError:
        pass
    finally:
        (model / "config.json").write_text(before)


# --- content -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "to", "message"),
    [
        ("classifier.running_variance", lambda t: -t, "negative"),
        ("classifier.input_weight", lambda t: t * np.nan, "NaN or infinite"),
        ("classifier.input_weight", lambda t: t.half(), "float32"),
    ],
)
def test_tensors_that_make_no_sense(
    model: Path, name: str, to: Callable[[torch.Tensor], torch.Tensor], message: str
) -> None:
    change_tensor(model, name, to)
    with pytest.raises(ValueError, match=message):
        timl.TIML.from_pretrained(model)


def test_counters_are_not_negative(model: Path) -> None:
    counters = [n for n in load_file(model / "model.safetensors") if "num_batches" in n]
    assert counters
    change_tensor(model, counters[0], lambda t: t - 1)
    with pytest.raises(ValueError, match="is negative"):
        timl.TIML.from_pretrained(model)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mean": [0.0] * 3, "std": [1.0] * 3}, "is of 3 bands, the model of 4"),
        ({"ndvi": "banana"}, "ndvi 'banana': give one of record, true"),
        ({"ndvi": ["true"]}, "ndvi"),
        ({"std": [0.0] * 4}, "std above 0"),
        ({"std": "abc"}, "normalization"),
        ({"mean": [[0.0]] * 4}, "normalization"),
    ],
)
def test_statistics_fit_the_model(model: Path, changed: dict[str, Any], message: str) -> None:
    change(model, normalization=STATISTICS | changed)
    with pytest.raises(ValueError, match=message):
        timl.nn.load_pretrained(model)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_model_that_is_not_finite_is_not_saved(tmp_path: Path, value: float) -> None:
    classifier = Classifier(hidden=8)
    classifier.save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    with torch.no_grad():
        classifier.input_weight[0, 0] = value
    with pytest.raises(ValueError, match=r"'input_weight' .* NaN or infinite values"):
        classifier.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", ["", "{", "[" * 100_000, '{"a":' * 50_000, "\xff", "null", "3", '{"format": "timl"}']
)
def test_a_config_that_is_none(model: Path, content: str) -> None:
    (model / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"config\.json is not"):
        timl.nn.load_pretrained(model)


def test_an_unknown_kind_is_named(model: Path) -> None:
    change(model, kind="Banana")
    with pytest.raises(ValueError, match="unknown kind 'Banana'"):
        timl.nn.load_pretrained(model)


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("executed",))


def test_pickled_code_is_neither_run_nor_advised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state_dict.pth").write_bytes(pickle.dumps(_Code()))
    with pytest.raises(ValueError, match="not a state dict of tensors") as raised:
        timl.TIML.from_pretrained(tmp_path)
    assert "weights_only" not in str(raised.value)
    torch.save({"a": _Code()}, tmp_path / "state_dict.pth")
    with pytest.raises(ValueError, match="not a state dict of tensors") as raised:
        timl.TIML.from_pretrained(tmp_path)
    assert "weights_only" not in str(raised.value)
    assert capsys.readouterr().out == ""


# --- time ----------------------------------------------------------------------------------------


def test_reading_a_model_does_not_load_the_compiler(trained: Path, tmp_path: Path) -> None:
    model = timl.TIML.from_pretrained(trained)
    assert model.deep_kernel is not None
    model.deep_kernel.normalization = model.normalization
    model.deep_kernel.save_pretrained(tmp_path / "kernel")
    model.for_task(np.zeros(13, np.float32)).save_pretrained(tmp_path / "classifier")
    folders = [str(trained), *map(str, sorted(tmp_path.iterdir()))]
    program = f"""
import sys
import torch
import timl.nn
loaded = set(sys.modules)
assert "torch._dynamo" not in loaded, "PyTorch loads it by itself: nothing to test"
for folder in {folders!r}:
    timl.nn.load_pretrained(folder)
print(*sorted(set(sys.modules) - loaded))
"""
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    assert len(told.stdout.split()) < 60
    assert "sympy" not in told.stdout and "torch._dynamo" not in told.stdout
