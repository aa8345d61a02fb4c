"""One of the processes of tests/python/meta/test_ranks.py: trains, fails or dies as it is told."""

from __future__ import annotations

import os
import sys
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


if __name__ == "__main__":
    out, dies = Path(sys.argv[1]), sys.argv[2] == "dies"
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
