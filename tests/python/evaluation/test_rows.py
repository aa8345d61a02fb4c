"""Rows as configurations: the package's files, a user's file and object, and every method."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timl
import torch
from timl.evaluation.rows import (
    DEFAULT_ROWS,
    MetaTrainedRow,
    ScratchRow,
    Settings,
    find_rows,
    read_row,
    row_names,
)
from timl.meta.pretraining import pooled_crops
from timl.nn import Classifier, StrongClassifier

SMALL: dict[str, Any] = {"epochs": 2, "runs": 2, "steps": 3, "workers": 1, "progress": False}


@pytest.fixture(scope="module")
def data(benchmarked_world: Path) -> timl.CropHarvest:
    return timl.CropHarvest(benchmarked_world)


def test_every_file_of_the_package_is_a_row() -> None:
    folder = Path(timl.evaluation.rows.__file__).parent
    assert {path.stem for path in folder.glob("*.toml")} == set(row_names())
    assert [row.name for row in find_rows(None)] == list(DEFAULT_ROWS)
    assert [row.name for row in find_rows(["timl", "anil", "maml"])] == ["maml", "timl", "anil"]


def test_rows_of_ones_own(data: timl.CropHarvest, tmp_path: Path) -> None:
    file = tmp_path / "slow.toml"
    file.write_text('title = "Slow"\nmethod = "meta-training"\nforgetting = false\n')
    assert read_row(file) == MetaTrainedRow(name="slow", title="Slow", forgetting=False)
    mine = ScratchRow(name="mine", title="Mine")
    result = timl.table1(data, tmp_path / "out", **SMALL, rows=["no-pre-training", mine, file])
    assert list(result.titles.values()) == ["No pre-training", "Mine", "Slow"]
    assert result.estimate("mine", "mean", "f1") == result.estimate("no-pre-training", "mean", "f1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title =", "is not a TOML file"),
        ('title = "A"', "method is None: choose of baseline, "),
        ('title = "A"\nmethod = "meta-training"\nspeed = 2', r"unknown keys \['speed'\]"),
        ('method = "no-pre-training"', r"missing keys \['title'\]"),
        ('title = "A"\nmethod = "meta-training"\nencoder = 1', "encoder is 1: give a bool"),
        ('title = "A"\nmethod = "baseline"\nclassifier = "svm"', "classifier is 'svm'"),
        (
            'title = "A"\nmethod = "meta-training"\nappend_information = true',
            "encoder and append_information are both true: give one",
        ),
    ],
)
def test_files_that_are_no_rows(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "row.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        find_rows([file])


def test_lists_that_are_no_rows(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.toml does not exist"):
        find_rows([tmp_path / "none.toml"])
    with pytest.raises(TypeError, match="rows holds a int"):
        find_rows([1])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="several rows are called maml"):
        find_rows(["maml", ScratchRow(name="maml", title="Again")])


def test_optional_rows_differ_from_maml_and_repeat(data: timl.CropHarvest, tmp_path: Path) -> None:
    names = ["maml", "temporal-cnn", "maml-first-order", "anil", "maml-learned-step-sizes"]
    tables = []
    for folder in ("one", "two"):
        timl.table1(data, tmp_path / folder, **SMALL, rows=names)
        tables.append((tmp_path / folder / "table1.csv").read_bytes())
    assert tables[0] == tables[1]
    tensors = [
        timl.TIML.from_pretrained(tmp_path / "one" / name).classifier.input_weight
        for name in names
        if name != "temporal-cnn"
    ]
    for i, one in enumerate(tensors):
        assert all(not one.equal(other) for other in tensors[:i])
    learned = timl.TIML.from_pretrained(tmp_path / "one" / "maml-learned-step-sizes")
    assert learned.log_step_sizes is not None
    assert (learned.log_step_sizes.exp() - 1e-3).abs().max() > 1e-6


def test_anil_adapts_the_head_alone(data: timl.CropHarvest, tmp_path: Path) -> None:
    settings, tasks = Settings(epochs=2, steps=3, seed=0), timl.meta_tasks(data)
    prepared = find_rows(["anil"])[0].prepare(settings, tasks, tmp_path / "anil", False)
    adapted = prepared.adapt(data.benchmarks[0], 0)
    start = timl.TIML.from_pretrained(tmp_path / "anil").classifier
    assert isinstance(adapted, Classifier)
    for (name, now), before in zip(adapted.named_parameters(), start.parameters(), strict=True):
        assert now.equal(before) == (not name.startswith("dense.1")), name


def test_without_encoder_the_numbers_of_the_task_are_bands(
    data: timl.CropHarvest, tmp_path: Path
) -> None:
    settings, tasks = Settings(epochs=2, steps=3, seed=0), timl.meta_tasks(data)
    row = find_rows(["timl-without-encoder"])[0]
    prepared = row.prepare(settings, tasks, tmp_path / "row", False)
    model = timl.TIML.from_pretrained(tmp_path / "row")
    assert model.encoder is None and model.classifier.input_weight.shape == (512, 31)
    benchmark = data.benchmarks[0]
    adapted = prepared.adapt(benchmark, 0)
    assert isinstance(adapted, Classifier)
    np.testing.assert_array_equal(adapted.information.numpy(), benchmark.info)
    adapted.save_pretrained(tmp_path / "adapted")
    read = Classifier.from_pretrained(tmp_path / "adapted")
    assert timl.evaluate(read, benchmark) == timl.evaluate(adapted, benchmark)


def test_crop_pre_training_is_kept_and_not_repeated(data: timl.CropHarvest, tmp_path: Path) -> None:
    settings, tasks = Settings(epochs=3, steps=3, seed=0), timl.meta_tasks(data)
    row = find_rows(["crop-pre-training"])[0]
    row.prepare(settings, tasks, tmp_path, False)
    stored = json.loads((tmp_path / "pretraining.json").read_text())
    assert 1 <= len(stored["validation_loss"]) <= 3
    before = (tmp_path / "model.safetensors").stat().st_mtime_ns
    row.prepare(settings, tasks, tmp_path, False)
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == before
    other = Settings(epochs=3, steps=3, seed=1)
    row.prepare(other, tasks, tmp_path, False)
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns != before


def test_the_pool_holds_no_sample_of_a_benchmark(data: timl.CropHarvest) -> None:
    every = timl.meta_tasks(data, withhold=False)
    x, y = pooled_crops(every)
    assert len(every) == 4 and x.shape == (80, 12, 18)  # of four regions two have a benchmark
    kept = np.concatenate([*every.positives[2:], *every.negatives[2:]])
    np.testing.assert_array_equal(x, data.series(np.sort(kept)))
    crops = np.isin(np.sort(kept), np.concatenate(every.positives[2:]))
    np.testing.assert_array_equal(y, crops)


def test_strong_rows_learn_once_and_without_an_lstm(
    data: timl.CropHarvest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timl.meta.training, "TrainingRun", None)
    settings, tasks = Settings(epochs=2, steps=3, seed=0), timl.meta_tasks(data)
    names = ["strong", "strong-without-network", "strong-without-learning"]
    rows = [dataclasses.replace(row, kernel_steps=1) for row in find_rows(names)]
    sizes = {}
    for row in rows:
        folder = tmp_path / row.name
        prepared = row.prepare(settings, tasks, folder, False)
        again = row.prepare(settings, tasks, folder, False)
        one, other = (p.adapt(data.benchmarks[0], 3) for p in (prepared, again))
        assert isinstance(one, StrongClassifier) and isinstance(other, StrongClassifier)
        assert all(torch.equal(t, other.state_dict()[n]) for n, t in one.state_dict().items())
        assert prepared.seconds == again.seconds and prepared.zero_shot is None
        kernel = one.deep_kernel.configuration()
        sizes[row.name] = [kernel[name] for name in ("networks", "dimensions", "width")]
    assert sizes == {
        "strong": [4, 64, 128],
        "strong-without-network": [1, 64, 0],
        "strong-without-learning": [1, 459, 0],
    }
    described = rows[0].configuration(settings, tasks)
    assert described["constants"]["SLOPE"] == 0.6 and "epochs" not in described
