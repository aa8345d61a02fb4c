"""The command line: one line, exit code 2, and no word of Python."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import refusal, run

SCRIPT = [sys.executable, "-c", "from timl.cli import app; app()"]

PYTHON = re.compile(
    r"Error\b|Traceback|\bNone\b|\bTrue\b|\bFalse\b|\w+_\w+=|\[Errno|timl\.\w+|\bself\b|__"
)
"""What users of the command line need not know."""


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train --data {world} --out {tmp}/x --seed 18446744073709551616", "'--seed'"),
        ("train --data {world} --out {tmp}/x --seed -1", "'--seed'"),
        ("train --data {world} --out {tmp}/x --seed 1.5", "'--seed'"),
        ("train --data {world} --out {tmp}/x --threads 100000", "'--threads'"),
        ("train --data {world} --out {tmp}/x --threads 0", "'--threads'"),
        ("train --data {world} --out {tmp}/x --inner-steps 1000000000", "no task has 10000000004"),
        ("train --data {world} --out {tmp}/x --k 1000000000000000000000", "no task has"),
        ("train --data {world} --out {tmp}/x --inner-lr nan", "--inner-lr is nan"),
        ("train --data {world} --out {tmp}/x --meta-lr inf", "--meta-lr is inf"),
        ("train --data {world} --out {tmp}/x --epochs 0", "'--epochs'"),
        ("train --data {world} --out {file}", "is a file or lies in one: give a folder"),
        ("train --data {world} --out {file}/x", "is a file or lies in one: give a folder"),
        ("train --data {world}", "Missing option '--out'"),
        ("train --data {file} --out {tmp}/x", "file"),
        ("train --out {tmp}/x --data {world} --colour red", "No such option: --colour"),
        ("tran", "No such command 'tran'"),
        ("table1 --data {world} --out {file} --rows logistic-regression", "is a file"),
        ("table1 --data {world} --out {tmp}/x --workers 100000", "'--workers'"),
        ("table1 --data {world} --out {tmp}/x --sample-sizes 1" + "0" * 30, "--sample-sizes"),
        ("table1 --data {world} --out {tmp}/x --seed 18446744073709551615", "--seed is 1844"),
        ("table1 --data {world} --out {tmp}/x --compare-with banana", "--compare-with is 'banana'"),
        (
            "benchmark --data {world} --out {tmp}/x --compare-with banana",
            "--compare-with is 'banana'",
        ),
        (
            "benchmark --data {world} --out {tmp}/x --block-km nan",
            "--block-km is nan: give a finite",
        ),
        ("benchmark --data {world} --out {tmp}/x --block-km -1", "--block-km is -1"),
        ("benchmark --data {world} --out {tmp}/x --block-km inf", "--block-km is inf"),
        ("simulate --out {file} --quiet", "a file: give a folder"),
        ("simulate --out {tmp}/x --samples 0", "'--samples'"),
        (
            "simulate --out {tmp}/x --quiet --countries 1000000",
            "--countries is 1000000: give 1 to 540",
        ),
        ("report --data {world} --out {tmp}", "table1.json is missing"),
        ("finetune --data {world} --benchmark world_0 --model {tmp} --out {tmp}/x", "no model"),
        ("evaluate --data {world} --benchmark world_0 --model {file}", "holds no model"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    benchmarked_world: Path, tmp_path: Path, command: str, message: str
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    words = command.format(world=benchmarked_world, tmp=tmp_path, file=file).split()
    start = time.process_time()
    told = refusal(*words)
    assert time.process_time() - start < 10
    assert message in told
    assert not PYTHON.search(told), told
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and file.read_text() == "mine"


def test_a_changed_training_is_refused_in_words_of_the_command_line(
    benchmarked_world: Path, tmp_path: Path
) -> None:
    train = ["train", "--data", benchmarked_world, "--out", tmp_path, "--kernel-steps", 0]
    assert run(*train, "--epochs", 1, "--quiet").exit_code == 0
    told = refusal(*train, "--epochs", 2, "--quiet")
    assert "epochs = 1 (now 2)" in told and "or --restart to start over" in told
    (tmp_path / "checkpoint.safetensors").write_bytes(b"cut")
    assert "or give --restart" in refusal(*train, "--epochs", 1, "--quiet")


def test_escape_codes_of_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    told = refusal("train", "--data", f"{tmp_path}/\x1b[2Jnone", "--out", tmp_path / "x")
    assert "\x1b" not in told and "none" in told


def test_a_locale_without_signs() -> None:
    environment = {
        **os.environ, "LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
    }  # fmt: skip
    words = ["evaluate", "--data", "Zoë", "--model", "x", "--benchmark", "é"]
    told = subprocess.run([*SCRIPT, *words], env=environment, capture_output=True, check=False)
    assert told.returncode == 2 and told.stderr.count(b"\n") == 1
    assert told.stderr.startswith(b"timl: ")


def test_a_reader_that_has_enough_ends_it_quietly(benchmarked_world: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    told = subprocess.run(
        [*SCRIPT, "tasks", "--data", str(benchmarked_world)],
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert told.stderr == b"" and told.returncode in (1, 141)
