"""Meta-train timl's classifier with Lightning: `python examples/lightning_module.py DATA`.

Needs `pip install lightning`. The engine writes the gradients itself, so the module steps its
optimiser by hand ("manual optimization"); logging, checkpoints, callbacks and progress are
Lightning's.
"""

from __future__ import annotations

import lightning
import torch
from plain_loop import meta_batches, meta_loss, read_options
from timl.data import EpisodeSampler
from timl.nn import TIML, seeded
from torch import Tensor
from torch.utils.data import DataLoader


class MetaLearner(lightning.LightningModule):
    """TIML as a Lightning module; a batch is the tensor of its tasks' numbers.

    Train it by a Trainer with `reload_dataloaders_every_n_epochs=1`, since every epoch has an order
    of its own.
    """

    def __init__(self, model: TIML, sampler: EpisodeSampler, epochs: int) -> None:
        super().__init__()
        self.model, self.sampler, self.epochs = model, sampler, epochs
        self.automatic_optimization = False

    def configure_optimizers(self):
        """Return Adam, its step size annealed over the epochs."""
        optimizer = torch.optim.Adam(self.model.parameters(), 1e-3)
        return [optimizer], [
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs, 1e-5)
        ]

    def train_dataloader(self) -> DataLoader:
        """Return the tasks of each meta-batch of this epoch."""
        return DataLoader(list(meta_batches(self.sampler, self.current_epoch)), batch_size=None)

    def training_step(self, tasks: Tensor, index: int) -> None:
        """Take one step of the optimiser on a meta-batch."""
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = meta_loss(self.model, self.sampler, tasks.numpy(), self.current_epoch)
        optimizer.step()
        self.log("query_loss", loss, batch_size=len(tasks), on_epoch=True, prog_bar=True)

    def on_train_epoch_end(self) -> None:
        """Take the next step size."""
        self.lr_schedulers().step()


def main() -> None:
    """Read the options, train, and write the model."""
    given, sampler = read_options(__doc__)
    with seeded(0):
        learner = MetaLearner(TIML(), sampler, given.epochs)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=given.epochs,
        reload_dataloaders_every_n_epochs=1,
        default_root_dir=given.out,
    )
    trainer.fit(learner)
    learner.model.eval().save_pretrained(given.out)


if __name__ == "__main__":
    main()
