"""Meta-train timl's classifier in a loop of your own: `python examples/plain_loop.py DATA`.

The engine gives the exact second-order gradient of a meta-batch; optimiser, schedule and order of
the tasks are yours. `timl.meta_train` does the same with validation, forgetting and resuming.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import timl
import torch
from timl.data import EpisodeSampler
from timl.nn import TIML, seeded

META_BATCH = 32


def meta_batches(sampler: EpisodeSampler, epoch: int) -> Iterator[np.ndarray]:
    """Return the tasks of each meta-batch of an epoch: every task once."""
    order = sampler.order(epoch)
    yield from np.array_split(order, -(-len(order) // META_BATCH))


def meta_loss(model: TIML, sampler: EpisodeSampler, tasks: np.ndarray, epoch: int) -> float:
    """Add the gradient of a meta-batch's mean query loss to `.grad`, and return the loss."""
    episodes = sampler.batch(tasks, epoch)
    key = (sampler.seed, epoch, tasks)  # dropout and noise are those of these tasks and epoch
    return float(timl.meta_gradient(model, episodes, inner_lr=1e-3, key=key))


def train(model: TIML, sampler: EpisodeSampler, epochs: int) -> list[float]:
    """Meta-train a model, and return the mean query loss of each epoch."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs, 1e-5)
    means = []
    for epoch in range(epochs):
        losses = []
        for tasks in meta_batches(sampler, epoch):
            optimizer.zero_grad()
            losses.append(meta_loss(model.train(), sampler, tasks, epoch))
            optimizer.step()
        schedule.step()
        means.append(float(np.mean(losses)))
    return means


def read_options(description: str | None) -> tuple[argparse.Namespace, EpisodeSampler]:
    """Return the options of the command line, and the sampler of the data that they name."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", help="folder of a data set in CropHarvest's layout")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--out", default="model", help="folder for what is written")
    given = parser.parse_args()
    data = timl.CropHarvest(given.data)
    return given, EpisodeSampler(data, timl.meta_tasks(data), k=10, query=8, seed=0)


def main() -> None:
    """Read the options, train, and write the model."""
    given, sampler = read_options(__doc__)
    with seeded(0):
        model = TIML()
    losses = train(model, sampler, given.epochs)
    print(f"query loss: first epoch {losses[0]:.3f}, last {losses[-1]:.3f}")
    model.eval().save_pretrained(given.out)


if __name__ == "__main__":
    main()
