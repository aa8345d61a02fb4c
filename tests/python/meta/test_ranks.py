"""Several processes train one model: the bits of one, also after one of them has died."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from made import same_bits, state_of
from rank_process import train
from safetensors.torch import load_file

COUNT = 2


def start(out: Path, how: str) -> list[tuple[int, str, str]]:
    """Run all processes as torchrun does; return exit codes, output and errors."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(COUNT),
        "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }  # fmt: skip
    command = [sys.executable, Path(__file__).with_name("rank_process.py"), out, how]
    processes = [
        subprocess.Popen(
            command, env={**environment, "RANK": str(rank)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for rank in range(COUNT)
    ]  # fmt: skip
    ended = [process.communicate(timeout=300) for process in processes]
    return [(p.returncode, *texts) for p, texts in zip(processes, ended, strict=True)]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch has no torch.distributed")
def test_the_bits_of_one_process_also_after_one_has_died(tmp_path: Path) -> None:
    (first, said, errors), (second, _, _) = start(tmp_path, "dies")
    assert "processes 0 and 1 differ: seed = 0 and 1: start all with the same" in said
    assert (first, second) == (1, 9)
    assert "ConnectionError: process 0 of 2 has lost another one of the run" in errors
    header = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()[8:2000]
    assert b'\\"epochs\\": 3' in header  # those that were finished

    ended = start(tmp_path, "lives")
    assert [code for code, _, _ in ended] == [0, 0], ended
    expected = state_of(train(None))
    for rank in range(COUNT):
        assert same_bits(torch.load(tmp_path / f"{rank}.pt"), expected)
    written = load_file(tmp_path / "run" / "model.safetensors")
    assert same_bits({n: t for n, t in written.items() if n in expected}, expected)
    assert len(json.loads((tmp_path / "run" / "history.json").read_text())["seconds"]) == 5
