"""The command line: every command on a made world, and errors as one line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import timl
from timl.cli import app
from timl.nn import Classifier
from typer.testing import CliRunner, Result


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def trained(benchmarked_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that `timl train` wrote."""
    out = tmp_path_factory.mktemp("cli") / "model"
    result = run(
        "train", "--data", benchmarked_world, "--out", out, "--epochs", 2, "--kernel-steps", 1,
        "--quiet",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert f"2 of 2 epochs, 1 tasks, 0 forgotten, best epoch 1); the model is in {out}" in (
        result.output.replace("\n", "")
    )
    return out


def test_version_and_help() -> None:
    assert run("--version").output == f"timl {timl.__version__}\n"
    as_module = subprocess.run(
        [sys.executable, "-m", "timl", "--version"], capture_output=True, text=True, check=True
    )
    assert as_module.stdout == f"timl {timl.__version__}\n"
    listed = run("--help").output
    assert all(command in listed for command in ("train", "finetune", "evaluate", "table1"))


def test_version_help_and_completion_do_not_wait_for_pytorch() -> None:
    code = "import sys, timl.cli; assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    environment = {**os.environ, "_TIML_COMPLETE": "complete_bash"}
    environment |= {"COMP_WORDS": "timl tra", "COMP_CWORD": "1"}
    completed = subprocess.run(
        [sys.executable, "-m", "timl"], env=environment, capture_output=True, text=True
    )
    assert completed.stdout.split() == ["train"]


def test_a_module_is_imported_without_the_others_before_it() -> None:
    code = """
import os, torch
for module in ("data", "random", "parameters", "nn"):
    if os.fork() == 0:
        __import__(f"timl.{module}")
        os._exit(0)
    assert os.wait()[1] == 0, module
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there() -> None:
    assert set(timl.__all__) <= set(dir(timl))
    assert all(getattr(timl, name) is not None for name in dir(timl))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        timl.nothing  # noqa: B018


def test_from_training_to_scores(benchmarked_world: Path, trained: Path, tmp_path: Path) -> None:
    task = ["--data", benchmarked_world, "--benchmark", "World 1"]
    adapt = ["finetune", *task, "--model", trained, "--seed", 5]
    line = r"AUC ROC \d\.\d{3}, F1 \d\.\d{3}, IoU \d\.\d{3} on 16 samples"
    ran = rf"adapted by the %s protocol; the classifier is in .*\n({line})\n"
    strong = run(*adapt, "--out", tmp_path / "strong")
    assert re.fullmatch(ran % "strong", strong.stdout), strong.output
    told = run(*adapt, "--steps", 3, "--out", tmp_path / "none")
    assert "--steps 3 belong to the paper's protocol: give --protocol paper too" in told.stderr
    assert told.exit_code == 2 and not (tmp_path / "none").exists()
    tuned = run(*adapt, "--protocol", "paper", "--steps", 3, "--out", tmp_path / "clf")
    found = re.fullmatch(ran % "paper's", tuned.stdout)
    assert found is not None, tuned.output
    scored = run("evaluate", *task, "--model", tmp_path / "clf")
    assert scored.stdout == f"{found[1]}\n"

    benchmark = timl.CropHarvest(benchmarked_world).benchmark("world_1")
    model = timl.TIML.from_pretrained(trained)
    expected = timl.finetune(model, benchmark, protocol="paper", steps=3, seed=5)
    written = Classifier.from_pretrained(tmp_path / "clf")
    assert timl.evaluate(written, benchmark) == timl.evaluate(expected, benchmark)

    zero_shot = run("evaluate", *task, "--model", trained)
    assert zero_shot.stderr == "a model without fine-tuning:\n"
    assert re.fullmatch(f"{line}\n", zero_shot.stdout)


def test_in_season(benchmarked_world: Path, trained: Path, tmp_path: Path) -> None:
    arguments = ["in-season", "--data", benchmarked_world, "--model", trained]
    arguments += ["--benchmark", "World 1", "--out", tmp_path / "season"]
    result = run(*arguments, "--months", "12,3", "--first-month", 1)
    assert result.exit_code == 0, result.output
    assert re.search(r"\| 3 \(Mar\) \| \d\.\d{3} \| \d\.\d{3} \|\n\| 12 \(Dec\)", result.stdout)
    assert (tmp_path / "season" / "in-season.csv").is_file()
    wrong = run(*arguments, "--months", "3;4")
    assert wrong.exit_code == 2 and "give numbers with commas between" in wrong.stderr


def test_training_options_reach_the_model(benchmarked_world: Path, tmp_path: Path) -> None:
    arguments = [
        "train", "--data", benchmarked_world, "--out", tmp_path, "--epochs", 1,
        "--kernel-steps", 0, "--quiet",
    ]  # fmt: skip
    assert run(*arguments, "--no-encoder", "--k", 4, "--inner-steps", 2).exit_code == 0
    assert timl.TIML.from_pretrained(tmp_path).encoder is None
    changed = run(*arguments, "--no-encoder", "--k", 5, "--inner-steps", 2)
    assert changed.exit_code == 2 and "k = 4 (now 5)" in changed.stderr
    again = run(*arguments, "--no-encoder", "--k", 5, "--inner-steps", 2, "--restart")
    assert again.exit_code == 0, again.output


def test_table1(benchmarked_world: Path, tmp_path: Path) -> None:
    result = run(
        "table1", "--data", benchmarked_world, "--out", tmp_path, "--runs", 2, "--steps", 2,
        "--rows", "logistic-regression,no-pre-training", "--threads", 1, "--quiet",
        "--sample-sizes", "20",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "No pre-training" in result.stdout and "TIML" not in result.stdout
    assert result.stderr == ""
    assert len((tmp_path / "table1.csv").read_text().splitlines()) == 1 + 2 * (2 + 1 + 2 + 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("evaluate --data {tmp}/none --model {model} --benchmark world_0", "is not a folder"),
        (
            "evaluate --data {world} --model {model} --benchmark mars",
            "give one of world_0, world_1",
        ),
        ("evaluate --data {world} --model {tmp} --benchmark world_0", "which holds no model"),
        ("evaluate --data {world} --model {bad} --benchmark world_0", "is truncated"),
        ("finetune --data {world} --model {bad} --benchmark world_0 --out {tmp}/x", "truncated"),
        ("finetune --data {world} --model {model} --benchmark world_0 --out {bad}/a/b", "a/b"),
        ("train --data {world} --out {tmp}/x --k 30", "no task has 34 positives"),
        ("train --data {world} --out {tmp}/x --regions {tmp}/none.json", "none.json"),
        ("table1 --data {world} --out {tmp}/x --rows svm", "no row svm"),
        ("table1 --data {world} --out {tmp}/x --rows {tmp}/my.toml", "my.toml does not exist"),
        (
            "table1 --data {world} --out {tmp}/x --sample-sizes 7",
            "--sample-sizes is of '7': give even",
        ),
        (
            "table1 --data {world} --out {tmp}/x --sample-sizes ten",
            "--sample-sizes is of 'ten': give even numbers",
        ),
        ("benchmark --data {world} --out {tmp}/x --ways 1", "--ways is '1': give all, or a number"),
        ("benchmark --data {world} --out {tmp}/x --by label", "--by is label without --ways"),
        ("benchmark --data {world} --out {tmp}/x --ways all --rows svm", "rows holds 'svm'"),
        ("train --data {world} --out {tmp}/x --device tpu", "--device is 'tpu': give 'cpu'"),
        (
            "finetune --data {world} --model {model} --benchmark world_0 --out {tmp}/x "
            "--device tpu",
            "--device is 'tpu'",
        ),
        ("table1 --data {world} --out {tmp}/x --device tpu", "--device is 'tpu'"),
        ("benchmark --data {world} --out {tmp}/x --device tpu", "--device is 'tpu'"),
        ("table1 --out {tmp}/x", "--data is missing: give a folder, or --quick"),
    ],
)
def test_errors_of_users_are_one_line(
    benchmarked_world: Path, trained: Path, tmp_path: Path, arguments: str, message: str
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "config.json").write_bytes((trained / "config.json").read_bytes())
    (bad / "model.safetensors").write_bytes(b"cut")
    (bad / "a").write_text("a file, not a folder")
    given = {"tmp": tmp_path, "world": benchmarked_world, "model": trained, "bad": bad}
    words = arguments.format(**given).split()
    result = run(*words)
    assert result.exit_code == 2, result.output
    assert re.fullmatch(rf"timl: .*{re.escape(message)}.*\n", result.stderr), result.stderr
    assert isinstance(result.exception, SystemExit) and not (tmp_path / "x").exists()
    debugged = run("--debug", *words)
    assert isinstance(debugged.exception, ValueError | OSError)


def test_an_interrupt_says_how_to_go_on(
    benchmarked_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(timl, "meta_train", interrupt)
    result = run("train", "--data", benchmarked_world, "--out", tmp_path)
    assert result.exit_code == 130
    assert result.stderr == "timl: stopped; give the same command again to go on\n"
