"""Several processes train one model: the bits of one, also after one of them has died."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from made import same_bits, state_of
from rank_process import train
from safetensors.torch import load_file

COUNT = 2


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[str], list[int]]]:
    """Run all processes as torchrun does, as they are told, and return their exit codes."""
    paths = os.pathsep.join(path for path in sys.path if path)
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("rank_process.py"), tmp_path, str(COUNT)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:

        def run(how: str) -> list[int]:
            assert program.stdin is not None and program.stdout is not None
            print(how, file=program.stdin, flush=True)
            codes: list[int] = json.loads(program.stdout.readline())
            return codes

        yield run


@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch has no torch.distributed")
def test_the_bits_of_one_process_also_after_one_has_died(
    run: Callable[[str], list[int]], tmp_path: Path
) -> None:
    assert run("dies") == [1, 9]
    assert "processes 0 and 1 differ: seed = 0 and 1: start all with the same" in (
        tmp_path / "dies-0.said"
    ).read_text("utf-8")
    assert "ConnectionError: process 0 of 2 has lost another one of the run" in (
        tmp_path / "dies-0.errors"
    ).read_text("utf-8")
    header = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()[8:2000]
    assert b'\\"epochs\\": 3' in header  # those that were finished

    assert run("lives") == [0, 0], (tmp_path / "lives-0.errors").read_text("utf-8")
    expected = state_of(train(None))
    for rank in range(COUNT):
        assert same_bits(torch.load(tmp_path / f"{rank}.pt"), expected)
    written = load_file(tmp_path / "run" / "model.safetensors")
    assert same_bits({n: t for n, t in written.items() if n in expected}, expected)
    assert len(json.loads((tmp_path / "run" / "history.json").read_text())["seconds"]) == 5
