"""The programs in examples/ run, and train the same model."""

from __future__ import annotations

from pathlib import Path

import pytest
import timl
import torch
from timl.data import EpisodeSampler
from timl.meta import meta_losses
from timl.nn import TIML, seeded

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
EPOCHS = 3


@pytest.fixture
def sampler(benchmarked_world: Path, tmp_path: Path) -> EpisodeSampler:
    data = timl.CropHarvest(benchmarked_world, cache=tmp_path / "store")
    tasks = timl.meta_tasks(data, k=5, query=4)
    return EpisodeSampler(data, tasks, k=5, query=4, seed=0)


def new_model() -> TIML:
    with seeded(0):
        return TIML(hidden=16)


@pytest.fixture(autouse=True)
def examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def test_the_plain_loop_meta_trains(sampler: EpisodeSampler) -> None:
    import plain_loop

    model = new_model()
    unseen = [sampler.batch([0, 1], epoch) for epoch in range(1000, 1010)]

    def loss() -> float:
        return sum(float(meta_losses(model.eval(), episodes)) for episodes in unseen) / len(unseen)

    before = loss()
    plain_loop.train(model, sampler, 100)
    assert loss() < 0.85 * before


@pytest.mark.filterwarnings("ignore")
def test_the_lightning_module_trains_to_the_bits_of_the_plain_loop(
    sampler: EpisodeSampler, tmp_path: Path
) -> None:
    lightning = pytest.importorskip("lightning", reason="lightning is not installed")
    import lightning_module
    import plain_loop

    plain, model = new_model(), new_model()
    losses = plain_loop.train(plain, sampler, EPOCHS)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        reload_dataloaders_every_n_epochs=1,
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(lightning_module.MetaLearner(model, sampler, EPOCHS))
    assert float(trainer.callback_metrics["query_loss"]) == pytest.approx(losses[-1])
    for (name, ours), theirs in zip(
        plain.state_dict().items(), model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name
