"""JSON: whatever is read as JSON is read or refused with the name of its file, however it looks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from timl.area.assessment import _sizes_of
from timl.data import read_regions
from timl.data.download.record import _read_note
from timl.data.own.points_table import read_points
from timl.data.record.packing import read_manifest
from timl.data.tasks.benchmark_file import read_benchmarks
from timl.evaluation.paper.extrapolation import measure_training
from timl.evaluation.runner import keep_same
from timl.files import decode_json, read_json

DEEP = "[" * 100_000
CONTENTS = {
    "nothing": b"",
    "a bracket": b"{",
    "deep lists": DEEP.encode(),
    "deep objects": b'{"a":' * 50_000,
    "no UTF-8": b"\xff\xfe\x00",
    "zeros": b"\0" * 100,
    "null": b"null",
    "a number": b"3",
    "an infinite number": b"1e999",
    "a long number": b"1" * 5000,
    "a text": b'"text"',
    "a list of lists": b"[[[]]]",
    "a list of numbers": b"[1, 2]",
    "an empty object": b"{}",
    "half an object": b'{"strata": [{"stratum": 1}], "features": [{}], "tasks": [3], "run": 3}',
}


def read_model(path: Path) -> object:
    return timl.nn.load_pretrained(path.parent)


def keep(path: Path) -> object:
    return keep_same(path.parent, {"seed": 0})


def measure(path: Path) -> object:
    return measure_training(path.parent)


DOORS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "regions": ("regions.json", read_regions),
    "benchmarks": ("benchmark.json", read_benchmarks),
    "places": ("places.geojson", read_points),
    "places as JSON": ("places.json", read_points),
    "a model": ("config.json", read_model),
    "an experiment": ("experiment.json", keep),
    "a training": ("history.json", measure),
    "a pre-training": ("pretraining.json", measure),
    "a design": ("design.json", _sizes_of),
}
HARMLESS = {("an experiment", "an empty object"), ("an experiment", "half an object")}
HARMLESS |= {("a pre-training", name) for name in ("an empty object", "half an object")}
"""What may be there."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which a model's other file is, for its door."""
    timl.nn.Classifier(hidden=8).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("door", DOORS)
def test_what_is_something_else_is_refused_by_name(folder: Path, door: str, content: str) -> None:
    name, read = DOORS[door]
    path = folder / name
    path.write_bytes(CONTENTS[content])
    if (door, content) in HARMLESS:
        read(path)
        return
    with pytest.raises(ValueError, match=re.escape(name)) as raised:
        read(path)
    assert "\n" not in str(raised.value)
    assert path.read_bytes() == CONTENTS[content]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("door", DOORS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_content_is_read_or_refused(folder: Path, door: str, data: st.DataObject) -> None:
    name, read = DOORS[door]
    known = {
        "regions": ["name", "min_lat", "max_lat", "min_lon", "max_lon"],
        "benchmarks": ["name", "region", "target_label", "classification_label", "test_file"],
        "a design": ["strata", "stratum", "hectares", "pixels"],
        "a training": ["tasks", "validation_tasks", "seconds", "loss"],
        "a pre-training": ["series", "validation_loss", "seconds"],
        "a model": ["format", "version", "kind", "model", "sha256", "normalization"],
    }.get(door, ["type", "features", "geometry", "coordinates", "properties", "crs"])
    entry = data.draw(st.dictionaries(st.sampled_from(known), JSON | st.just("Point")) | JSON)
    content = data.draw(
        st.sampled_from([entry, [entry], {"features": [entry]}, {"strata": [entry]}])
    )
    (folder / name).write_text(json.dumps(content))
    try:
        read(folder / name)
    except ValueError:
        pass
    finally:
        if name in ("experiment.json", "history.json", "pretraining.json"):
            (folder / name).unlink()


@pytest.mark.parametrize("content", CONTENTS)
def test_a_note_that_is_none_is_no_note(tmp_path: Path, content: str) -> None:
    (tmp_path / ".timl").mkdir()
    (tmp_path / ".timl" / "download.json").write_bytes(CONTENTS[content])
    assert _read_note(tmp_path) == (0, {})


@pytest.mark.parametrize("content", CONTENTS)
def test_a_damaged_manifest_is_no_manifest(tmp_path: Path, content: str) -> None:
    (tmp_path / "store.json").write_bytes(CONTENTS[content])
    with pytest.raises((ValueError, KeyError, TypeError)):
        read_manifest(tmp_path / "store.json")


@pytest.mark.parametrize("header", [DEEP, "{", "null", "[]", "3", '{"run": 3}', '{"run": {}}'])
def test_a_checkpoint_of_something_else(tmp_path: Path, header: str) -> None:
    import torch
    from timl.meta import checkpoints

    path = tmp_path / "checkpoint.safetensors"
    save_file({"a": torch.zeros(1)}, path, {checkpoints._HEADER: header})
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is .*resume=False"):
        checkpoints.read_checkpoint(path, None, {})  # type: ignore[arg-type]


@given(JSON)
def test_what_json_writes_is_read(value: Any) -> None:
    text = json.dumps(value)
    found = decode_json(text, "a text", "")
    assert json.dumps(found) == text
    assert json.dumps(decode_json(text.encode(), "a text", "")) == text


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_refused(content: bytes) -> None:
    try:
        decode_json(content, "a text", "write it anew")
    except ValueError as error:
        assert str(error).startswith("a text is not JSON (")
        assert str(error).endswith("): write it anew")


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none"):
        read_json(tmp_path / "none", "")
