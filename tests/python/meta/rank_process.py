"""The processes of tests/python/meta/test_ranks.py: they train, fail or die as they are told.

Each is a fork of one process, so that PyTorch is loaded once. A line of its input says "dies" or
"lives"; a line of its output, in JSON, with what exit codes the processes have ended.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
from pathlib import Path

import torch
from made import made_tasks, small_model
from timl import TIML
from timl.meta import meta_train
from timl.meta.ranks import Ranks, joined_ranks
from timl.meta.run import TrainingRun

QUICK = {
    "epochs": 5, "meta_batch": 4, "k": 3, "query": 4, "validation": 0.3, "kernel_steps": 2,
    "checkpoint_every": 50, "progress": False, "inner_steps": 2,
}  # fmt: skip


def die_in_epoch(epoch: int) -> None:
    """Let this process end without a word in an epoch."""
    train = TrainingRun._train

    def dying(self, chosen, current):
        if current == epoch:
            os._exit(9)
        train(self, chosen, current)

    TrainingRun._train = dying


def train(out: str | None) -> TIML:
    model = small_model(learned_steps=2)
    if Ranks().number:  # only the weights of the first process count
        with torch.no_grad():
            model.classifier.gate_bias += 1
    meta_train(model, made_tasks(), out=out, **QUICK)
    return model


def work(out: Path, dies: bool) -> None:
    """Do what a process of a run does: first one whose seed the others have not, then all alike."""
    with joined_ranks() as ranks:
        try:
            meta_train(
                small_model(learned_steps=2), made_tasks(), **{**QUICK, "seed": ranks.number}
            )
        except ValueError as error:
            print(error)
        if dies and not ranks.first:
            die_in_epoch(3)
        model = train(str(out / "run"))
        torch.save(model.state_dict(), out / f"{ranks.number}.pt")


def start(out: Path, how: str, rank: int) -> int:
    """Start a process that writes what it says to files; return its number."""
    child = os.fork()
    if child:
        return child
    for number, name in ((1, "said"), (2, "errors")):
        os.dup2(os.open(out / f"{how}-{rank}.{name}", os.O_CREAT | os.O_WRONLY), number)
    os.environ["RANK"] = str(rank)
    code = 1
    signal.alarm(300)  # the end of a process that waits for another for ever
    try:
        work(out, how == "dies")
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)


def run(out: Path, how: str, count: int) -> list[int]:
    """Run all processes as torchrun does; return their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    children = [start(out, how, rank) for rank in range(count)]
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(run(Path(sys.argv[1]), line.strip(), int(sys.argv[2]))), flush=True)
