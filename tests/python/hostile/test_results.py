"""Results that are there: no command replaces those of another experiment, or a model."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import timl
import torch
from commands import refusal, run
from timl.area.reference_sample import ReferenceSample
from timl.evaluation.runner import keep_same, require_same
from timl.files import output_folder
from worlds import write_benchmarked_world

ROWS = ["logistic-regression"]
SMALL: dict[str, Any] = {"rows": ROWS, "runs": 1, "workers": 1, "progress": False}


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- models --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["same", "spelled otherwise", "link"])
def test_a_classifier_does_not_replace_the_model_that_it_starts_from(
    benchmarked_world: Path, trained: Path, tmp_path: Path, how: str
) -> None:
    model = shutil.copytree(trained, tmp_path / "model")
    (tmp_path / "link").symlink_to("model")
    out = {"same": model, "spelled otherwise": tmp_path / "x" / ".." / "model"}.get(
        how, tmp_path / "link"
    )
    (tmp_path / "x").mkdir()
    before = bytes_of(model)
    adapt = [
        "finetune",
        "--data",
        benchmarked_world,
        "--benchmark",
        "world_0",
        "--protocol",
        "paper",
        "--steps",
        1,
    ]
    message = refusal(*adapt, "--model", model, "--out", out)
    assert message == (
        f"--out is {out}, which holds a model that the classifier would replace: give another "
        f"folder"
    )
    assert bytes_of(model) == before


def test_a_classifier_replaces_neither_another_model_nor_the_classifier_it_starts_from(
    benchmarked_world: Path, trained: Path, tmp_path: Path
) -> None:
    adapt = [
        "finetune",
        "--data",
        benchmarked_world,
        "--benchmark",
        "world_0",
        "--protocol",
        "paper",
        "--steps",
        1,
    ]
    other = shutil.copytree(trained, tmp_path / "other")
    assert "which holds a model" in refusal(*adapt, "--model", trained, "--out", other)
    timl.nn.Classifier().save_pretrained(tmp_path / "c")
    assert "would replace" in refusal(*adapt, "--model", tmp_path / "c", "--out", tmp_path / "c")
    for _ in range(2):  # its own earlier result it may replace
        assert run(*adapt, "--model", tmp_path / "c", "--out", tmp_path / "d").exit_code == 0


def test_nothing_is_saved_beside_the_authors_files(trained: Path, tmp_path: Path) -> None:
    model = timl.TIML.from_pretrained(trained)
    classifier, encoder = model.authors_state_dicts()
    torch.save(classifier, tmp_path / "state_dict.pth")
    torch.save(encoder, tmp_path / "encoder_state_dict.pth")
    before = bytes_of(tmp_path)
    with pytest.raises(ValueError, match=r"holds the authors' state_dict\.pth"):
        model.save_pretrained(tmp_path)
    assert bytes_of(tmp_path) == before


# --- experiments ---------------------------------------------------------------------------------


def test_a_table_of_other_data_is_not_replaced(data: timl.CropHarvest, tmp_path: Path) -> None:
    out = tmp_path / "table"
    timl.table1(data, out, **SMALL)
    before = bytes_of(out)
    other = timl.CropHarvest(write_benchmarked_world(tmp_path / "other", seed=9))
    with pytest.raises(ValueError, match=r"experiment with data = .* remove .* to start anew"):
        timl.table1(other, out, **SMALL)
    assert bytes_of(out) == before


def test_a_quick_table_of_another_seed_keeps_table_and_world(tmp_path: Path) -> None:
    keep_same(tmp_path, {"seed": 0})
    message = refusal("table1", "--quick", "--seed", 1, "--out", tmp_path)
    assert "seed = 0 (now 1)" in message and not (tmp_path / "world").exists()


def test_what_is_not_known_yet_is_noted_later(tmp_path: Path) -> None:
    keep_same(tmp_path, {"seed": 0, "tasks": None})
    keep_same(tmp_path, {"seed": 0, "tasks": [1]})
    keep_same(tmp_path, {"seed": 0, "tasks": None})
    with pytest.raises(ValueError, match=r"tasks = \[1\] \(now \[2\]\)"):
        keep_same(tmp_path, {"seed": 0, "tasks": [2]})
    assert require_same(tmp_path, {}) == {"seed": 0, "tasks": [1]}


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, "\x00"])
def test_a_damaged_record_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "experiment.json").write_text(content)
    with pytest.raises(ValueError, match=r"experiment\.json is no.*remove .* to start anew"):
        keep_same(tmp_path, {"seed": 0})
    assert (tmp_path / "experiment.json").read_text() == content


# --- one process at a time -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "train --data {world} --out {out} --epochs 1 --kernel-steps 0 --quiet",
        "finetune --data {world} --benchmark world_0 --model {model} --out {out}",
        "in-season --data {world} --benchmark world_0 --model {model} --out {out}",
        "table1 --data {world} --rows logistic-regression --out {out} --quiet",
        "demo --out {out} --quiet",
    ],
)
def test_the_second_command_is_refused(
    benchmarked_world: Path, trained: Path, tmp_path: Path, command: str
) -> None:
    out = tmp_path / "out"
    words = command.format(world=benchmarked_world, model=trained, out=out).split()
    with output_folder(out):
        message = refusal(*words)
        assert message == f"{out} is being written by another process: wait for it"
    assert not out.exists()


def test_many_processes_may_read_one_finished_training(
    data: timl.CropHarvest, trained: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(trained, tmp_path / "model")
    options: dict[str, Any] = {"epochs": 1, "kernel_steps": 1, "out": model, "progress": False}
    with output_folder(model):
        history = timl.meta_train(timl.TIML(), timl.meta_tasks(data), **options)
        with pytest.raises(BlockingIOError, match="written by another process"):
            timl.meta_train(timl.TIML(), timl.meta_tasks(data), **options, resume=False)
    assert history.epochs == 1
    assert timl.TIML.from_pretrained(model).deep_kernel is not None


# --- what people filled in -----------------------------------------------------------------------


@pytest.mark.parametrize(("reference", "kept"), [("1", True), ("", False)])
def test_a_sample_that_is_filled_in_is_not_drawn_again(
    tmp_path: Path, reference: str, kept: bool
) -> None:
    import pandas as pd

    points = pd.DataFrame({"id": [0], "lat": [1.0], "lon": [2.0], "stratum": [1]})
    drawn = ReferenceSample(points, {1: 1.0}, {1: 100}, {"strata": []})
    table = tmp_path / "sample.csv"
    table.write_text(f"id,lat,lon,reference\n0,1,2,{reference}\n")
    refused = pytest.raises(FileExistsError, match="filled in") if kept else nullcontext()
    with refused:
        drawn.write(tmp_path)
    assert table.read_text().endswith(f"2,{reference}\n") is kept
