"""Learning the deep kernel: random tasks, the loss through the head, and the same bits again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timl
import torch
from made import made_tasks, same_bits, state_of
from timl.data import TaskSet
from timl.meta import learn_deep_kernel, learn_metric_kernel, unlearned_kernel
from timl.meta.strong.augmentation import Augmentation
from timl.meta.strong.learning import query_loss
from timl.meta.strong.random_tasks import Batch, RandomTasks
from timl.meta.strong.regions import Region, regions_of
from timl.nn import DeepKernel
from timl.nn.strong.deep_kernel import KernelNetwork, describe_task
from timl.nn.strong.description import describe_series


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> TaskSet:
    """Tasks of a simulated world of a few countries."""
    folder = tmp_path_factory.mktemp("world") / "data"
    timl.data.simulate(folder, countries=5, samples=1500, seed=1)
    return timl.meta_tasks(timl.CropHarvest(folder))


@pytest.fixture(scope="module")
def kernel(tasks: TaskSet) -> DeepKernel:
    found = learn_deep_kernel(tasks, steps=3)
    assert found is not None
    return found


def grid(labels: str) -> Region:
    """Return a region of samples 1 km apart in a row, labelled by letters; non-crops are "-"."""
    count = len(labels)
    return Region(
        described=np.zeros((count, 459)),
        is_crop=np.array([letter != "-" for letter in labels]),
        labels=[None if letter in "-?" else letter for letter in labels],
        classes=["cereals" if letter == "a" else None for letter in labels],
        latitude=np.arange(count) / 111.2,
        longitude=np.zeros(count),
    )


def test_the_learned_covariance_completes_better_than_the_mean(
    tasks: TaskSet, kernel: DeepKernel
) -> None:
    assert np.linalg.eigvalsh(kernel.covariance.double().numpy())[0] > 0
    x = tasks.data.series(tasks.positives[0])
    gaps, mean = x.copy(), kernel.task_mean(x)
    gaps[::2, 6:], gaps[1::2, :6] = np.nan, np.nan
    missing = np.isnan(gaps)
    completed, filled = (
        np.square(x - y)[missing].mean() for y in (kernel.complete(gaps, mean), mean[None])
    )
    assert completed < 0.9 * filled


def test_random_tasks_are_of_one_region_with_support_and_query_apart() -> None:
    letters = "aaab-?" * 20, "bbaac-" * 30, "aa"  # the last region is too small for tasks
    names = ["crop", "a", "b"]
    random_tasks = RandomTasks([grid(text) for text in letters], names)
    a, b = (describe_task(*task, names) for task in (("cereals", "a"), ("other", "b")))
    seen = set()
    for step in range(40):
        batch = random_tasks.batch(0, 0, step)
        assert batch is not None and len(batch.described) == 8
        for row, described in enumerate(batch.described):
            parts = [
                [numbers[row][targets[row] == sign].tolist() for sign in (1, -1)]
                for numbers, targets in (batch[:2], batch[2:4])
            ]
            support, query = ({*positives, *negatives} for positives, negatives in parts)
            assert not support & query
            assert len({number < 120 for number in support | query}) == 1
            assert all(3 <= len(positives) <= 25 and len(n) >= 3 for positives, n in parts)
            positives, negatives = (
                {"".join(letters)[number] for part in parts for number in part[side]}
                for side in (0, 1)
            )
            assert not positives & negatives
            if torch.equal(described, a):
                assert positives == {"a"} and "?" not in negatives  # CropHarvest's rule
                seen.add("label")
            elif torch.equal(described, a - b):
                assert (positives, negatives) == ({"a"}, {"b"})
                seen.add("pair")
            elif not described.any():
                seen.add("union")
    assert seen == {"label", "pair", "union"}


def test_regions_without_enough_samples_make_no_task() -> None:
    assert RandomTasks([grid("ab"), grid("a" * 40)], []).batch(0, 0, 0) is None


def test_the_gradient_of_the_loss_is_that_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    network = KernelNetwork(5, 3, 4, 2).double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.normal_(0, 0.1 if name == "log_head" else 0.5, generator=generator)
    names = [name for name, _ in network.named_parameters()]
    x = torch.randn(2, 9, 5, generator=generator, dtype=torch.float64)
    batch = Batch(
        support=torch.zeros(2, 5, dtype=torch.int64),
        support_targets=torch.tensor([[1.0, 1, -1, -1, -1], [1, -1, 0, 0, 0]]).double(),
        query=torch.zeros(2, 4, dtype=torch.int64),
        query_targets=torch.tensor([[1.0, -1, -1, 0], [1, 1, 1, -1]]).double(),
        described=torch.randn(2, 2, generator=generator, dtype=torch.float64),
    )
    mask = (torch.rand(2, 9, 4, generator=generator) > 0.2).double()

    def loss(*parameters: torch.Tensor) -> torch.Tensor:
        state = dict(zip(names, parameters, strict=True))
        with torch.nn.utils.stateless._reparametrize_module(network, state):
            return query_loss(network, (x, batch.described, mask), batch)

    assert torch.autograd.gradcheck(loss, tuple(network.parameters()))


def test_augmentation_rolls_seasons_and_blanks_whole_bands(kernel: DeepKernel) -> None:
    x = np.random.default_rng(0).normal(size=(3, 12, 18)).astype(np.float32)
    assert kernel.normalization is not None
    plain, rolled = (
        describe_series(series, kernel.normalization) for series in (x, np.roll(x, 1, axis=1))
    )
    columns = Augmentation(kernel, 0, 0)._roll(1)
    monthly = 12 * (18 + 8)
    np.testing.assert_allclose(plain[:, columns][:, :monthly], rolled[:, :monthly], atol=1e-9)

    standard = torch.ones(8, 3, 459)
    augmentation = Augmentation(kernel, 0, 0)
    changed, described, mask = augmentation(standard, torch.ones(8, 12), 0)
    assert mask.shape == (8, 3, 128) and set(described[:, 10].tolist()) <= {0.0, 1.0}
    assert ((changed == 0).all(dim=1) == (changed == 0).any(dim=1)).all()  # alike in a task
    assert not torch.equal(changed, augmentation(standard, torch.ones(8, 12), 1)[0])


def test_the_same_seed_gives_the_same_bits_with_any_threads(
    tasks: TaskSet, kernel: DeepKernel
) -> None:
    count = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(5)
    again, other = (learn_deep_kernel(tasks, steps=3, seed=seed) for seed in (0, 1))
    torch.set_num_threads(count)
    assert again is not None and same_bits(state_of(kernel), state_of(again))
    assert other is not None and not same_bits(state_of(kernel), state_of(other))
    assert kernel.names[0] == "crop" and len(kernel.networks) == 4


def test_the_usual_distance_is_what_99_of_100_series_keep_to_other_regions(
    tasks: TaskSet, kernel: DeepKernel
) -> None:
    regions = regions_of(tasks)
    assert kernel.reference.shape == (512, 64)
    axes = kernel.members[0].axes.double()
    points = [kernel.standardize(region.described) @ axes for region in regions]
    apart = [torch.cdist(part, kernel.reference.double()) for part in points]
    owner = torch.cat([(part < 1e-4).any(dim=0)[None] for part in apart])  # of each reference
    assert owner.any(dim=0).all() and len(owner) == len(regions)
    nearest = torch.cat(
        [part[:, ~own].min(dim=1).values for part, own in zip(apart, owner, strict=True)]
    )
    assert ((nearest <= kernel.usual_distance * 1.001).double().mean()) == pytest.approx(
        0.99, abs=2 / len(nearest)
    )
    x = np.random.default_rng(0).normal(size=(30, 12, 18)).astype(np.float32)
    assert kernel.normalization is not None
    plain = unlearned_kernel(x, kernel.normalization)  # one region: to another series
    among = torch.cdist(plain.reference, plain.reference).fill_diagonal_(torch.inf)
    expected = np.quantile(among.min(dim=1).values.numpy(), 0.99)
    assert float(plain.usual_distance) == pytest.approx(expected, rel=1e-3)
    same = unlearned_kernel(np.repeat(x[:1], 2, axis=0), kernel.normalization)
    assert float(same.usual_distance) == 1


def test_a_finished_kernel_is_read_and_another_learned_anew(tasks: TaskSet, tmp_path: Path) -> None:
    first = learn_deep_kernel(tasks, steps=1, out=tmp_path)
    written = (tmp_path / "model.safetensors").stat().st_mtime_ns
    again = learn_deep_kernel(tasks, steps=1, out=tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == written
    assert first is not None and again is not None and same_bits(state_of(first), state_of(again))
    assert json.loads((tmp_path / "learning.json").read_text())["run"]["constants"]["TREES"] == 100
    learn_deep_kernel(tasks.subset(range(len(tasks) - 1)), steps=1, out=tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns != written


def test_only_samples_of_the_tasks_are_learned_from(tasks: TaskSet) -> None:
    halved = replace(
        tasks,
        positives=tuple(part[::2] for part in tasks.positives),
        negatives=tuple(part[::2] for part in tasks.negatives),
    )
    region = regions_of(halved.subset([0]))[0]
    own = np.unique(np.concatenate([halved.positives[0], halved.negatives[0]]))
    labels = tasks.data.labels.set_index("position").loc[own]
    assert len(region.labels) == len(own)
    np.testing.assert_array_equal(region.latitude, labels["lat"])
    assert [name or "" for name in region.labels] == labels["label"].fillna("").tolist()


def test_the_metric_tells_crops_of_a_place_apart_better_than_plain_distances(
    tasks: TaskSet,
) -> None:
    """Between classes over within them, along all axes."""
    learned = learn_metric_kernel(tasks)
    assert learned is not None and learned.normalization is not None
    every = tasks.data.series(np.unique(np.concatenate([*tasks.positives, *tasks.negatives])))
    ratios = []
    for kernel in (learned, unlearned_kernel(every, learned.normalization)):
        task = kernel.describe_task(None, None)
        for pair in zip(tasks.positives, tasks.negatives, strict=True):
            described = (
                describe_series(tasks.data.series(part), learned.normalization) for part in pair
            )
            one, other = (
                next(kernel.embed(kernel.standardize(numbers), task[None]))[1].numpy()
                for numbers in described
            )
            apart = ((one.mean(0) - other.mean(0)) ** 2).sum()
            ratios.append(apart / (one.var(0).sum() + other.var(0).sum()))
    metric, plain = np.reshape(ratios, (2, -1))
    assert np.median(metric / plain) > 1.3


def test_a_kernel_needs_two_labels_in_one_region() -> None:
    tasks = made_tasks(2)
    alone = replace(tasks, negatives=tasks.positives)
    assert learn_deep_kernel(alone, steps=1) is None and learn_metric_kernel(alone) is None
