"""The strong protocol: its fit to labels, its files, and when `finetune` takes it."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import timl
import torch
from made import same_bits, small_model, state_of
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import roc_auc_score
from timl import reference
from timl.meta import fit_strong, learn_deep_kernel, learn_metric_kernel, unlearned_kernel
from timl.meta.strong.fitting import kernel_weight, slope
from timl.meta.strong.forest import fit_forest
from timl.nn import Classifier, DeepKernel, StrongClassifier, load_pretrained
from timl.nn.strong.trees import Trees
from timl.normalization import Normalization
from timl.reference.strong import tree_votes

PLAIN = {"mean": np.zeros(18), "std": np.ones(18), "ndvi": "true"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> timl.CropHarvest:
    """A simulated world of a few countries."""
    folder = tmp_path_factory.mktemp("world") / "data"
    timl.data.simulate(folder, countries=5, samples=1500, seed=1)
    return timl.CropHarvest(folder)


@pytest.fixture(scope="module")
def trained(world: timl.CropHarvest) -> timl.TIML:
    """A model that two epochs of meta-training and two steps of the kernel's left."""
    model = small_model()
    timl.meta_train(model, timl.meta_tasks(world), epochs=2, kernel_steps=2, progress=False)
    return model


@pytest.fixture(scope="module")
def kernel(trained: timl.TIML) -> DeepKernel:
    assert trained.deep_kernel is not None
    return trained.deep_kernel


def votes(trees: Trees, x: np.ndarray) -> np.ndarray:
    """Mean share of positives of the trees, [n]."""
    return tree_votes(torch.from_numpy(x), *trees.arrays).numpy()


def forest(x: np.ndarray, y: np.ndarray, seed: int) -> Trees:
    """Forest of positives and negatives."""
    return fit_forest(x, [np.flatnonzero(y), np.flatnonzero(~y)], seed, several=False)


def easy(samples: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Series of noise, and of a season in which B8 is higher."""
    x = np.random.default_rng(3).normal(size=(samples, 12, 18)).astype(np.float32) * 0.3
    y = np.arange(samples) % 2
    x[y == 1, 4:8, 8] += 1.5
    return x, y


def test_ten_labels_of_an_easy_task_are_enough_even_with_nothing_learned(
    kernel: DeepKernel,
) -> None:
    x, y = easy()
    for learned in (kernel, unlearned_kernel(x[:10], PLAIN)):
        made = fit_strong(learned, x[:10], y[:10], normalization=PLAIN)
        assert ((made(torch.from_numpy(x[10:])) > 0).numpy() == y[10:]).mean() > 0.9


def test_the_logit_is_that_of_kernel_and_forest(kernel: DeepKernel) -> None:
    x, y = easy(40)
    made = fit_strong(kernel, x[:25], y[:25], normalization=PLAIN)  # 12 positives, 13 negatives
    series = torch.from_numpy(x[25:])
    made.trees.value.fill_(0.5)  # a forest without opinion
    alone = made(series)
    made.kernel_weight.zero_()
    shift = 0.2 * np.log(12 / 13)
    np.testing.assert_allclose(made(series).numpy(), shift, rtol=1e-5)
    made.kernel_weight.fill_(2 * kernel_weight(12))
    np.testing.assert_allclose(made(series) - shift, 2 * (alone - shift), rtol=1e-4, atol=1e-5)


def test_the_engine_gives_the_twins_logits_and_distances(kernel: DeepKernel) -> None:
    """To float32: with 30 labels no number of these series lies on a threshold of a tree."""
    x, y = easy(120)
    series = torch.from_numpy(x[30:])
    for learned in (kernel, unlearned_kernel(x[:30], PLAIN)):
        made = fit_strong(learned, x[:30], y[:30], normalization=PLAIN, target_label="crop")
        expected = reference.strong_evaluate(series, *made.arguments(distances=True))
        found = made.logits_and_distances(series)
        for ours, exact in zip(found, expected, strict=True):
            torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=1e-4)
        assert torch.equal(found[0], made(series))
        assert torch.equal(found[1], made.distances(series))


def test_series_like_the_training_are_near_and_others_far(
    kernel: DeepKernel, world: timl.CropHarvest
) -> None:
    tasks = timl.meta_tasks(world)
    x = world.series(np.unique(np.concatenate([*tasks.positives, *tasks.negatives])))
    y = np.arange(len(x)) % 2
    made = fit_strong(kernel, x[:40], y[:40], normalization=world_normalization(kernel))
    assert (made.distances(torch.from_numpy(x[40:])) <= 1).float().mean() > 0.98
    assert made.distances(torch.from_numpy(x[:40])).max() < 0.05  # its own labels
    noise = np.random.default_rng(0).normal(size=(50, 12, 18)).astype(np.float32) * 3
    assert (made.distances(torch.from_numpy(noise)) > 1).all()


def world_normalization(kernel: DeepKernel) -> Normalization:
    assert kernel.normalization is not None
    return kernel.normalization


def test_it_refuses_to_be_differentiated(kernel: DeepKernel) -> None:
    x, y = easy(12)
    made = fit_strong(kernel, x[:10], y[:10], normalization=PLAIN)
    with pytest.raises(RuntimeError, match="has no gradient"):
        made(torch.from_numpy(x[10:]).requires_grad_()).sum().backward()


def test_weights_by_the_number_of_labels() -> None:
    assert [kernel_weight(count) for count in (1, 5, 1000)] == [1, 1, 0.4]
    assert kernel_weight(20) == pytest.approx(0.5)
    assert slope(5) == pytest.approx(0.6) and slope(10) == pytest.approx(0.6 * 2**0.2)
    assert slope(1000) == 1


def test_the_prior_mean_of_a_known_label_changes_the_answer(kernel: DeepKernel) -> None:
    x, y = easy(30)
    series = torch.from_numpy(x[10:])
    told, other, unknown, untold = (
        fit_strong(
            kernel,
            x[:10],
            y[:10],
            normalization=PLAIN,
            classification_label=crop,
            target_label=label,
        )(series)
        for crop, label in (
            ("cereals", kernel.names[1]),
            ("sugar", None),
            (None, "?"),
            (None, None),
        )
    )
    assert not torch.equal(told, untold) and not torch.equal(told, other)
    assert torch.equal(unknown, untold)


def test_the_forest_is_scikit_learns_where_no_class_is_rare() -> None:
    x = np.random.default_rng(0).normal(size=(60, 9)).astype(np.float32)
    y = x[:, 0] + np.random.default_rng(1).normal(size=60) > 0.5
    expected = ExtraTreesClassifier(100, class_weight="balanced", random_state=7).fit(x, y)
    np.testing.assert_allclose(
        votes(forest(x, y, 7), x), expected.predict_proba(x)[:, 1], atol=1e-6
    )


def test_trees_see_all_rare_labels_and_a_share_of_the_others() -> None:
    x = np.random.default_rng(0).normal(size=(400, 9)).astype(np.float32)
    y = np.arange(400) < 4
    trees = forest(x, y, 0)
    assert len(trees.roots) == 100
    root = trees.value[trees.roots]
    torch.testing.assert_close(root, torch.full_like(root, 0.5))  # balanced
    assert (votes(trees, x)[:4] == 1).all()  # each tree has seen them
    shares = votes(trees, x)[4:]
    assert (shares > 0).mean() > 0.5  # not each tree has seen a negative
    again = forest(x, y, 0)
    assert same_bits(trees.state_dict(), again.state_dict())
    assert not same_bits(trees.state_dict(), forest(x, y, 1).state_dict())


def test_saved_and_loaded_it_gives_the_same_and_shares_nothing(
    kernel: DeepKernel, tmp_path: Path
) -> None:
    x, y = easy()
    made = fit_strong(kernel, x[:30], y[:30], normalization=PLAIN, target_label="crop")
    series = torch.from_numpy(x[30:])
    logits = made(series)
    made.save_pretrained(tmp_path)
    read = load_pretrained(tmp_path)
    assert isinstance(read, StrongClassifier) and torch.equal(read(series), logits)
    with torch.no_grad():
        kept = kernel.members[0].axes.clone()
        made.deep_kernel.members[0].axes.zero_()
    assert torch.equal(kernel.members[0].axes, kept)
    for bad, message in ((x[:1] * np.nan, "NaN"), (x[:1, :11], r"\[1, 11, 18\]"), (x[:0], "empty")):
        with pytest.raises(ValueError, match=message):
            read(torch.from_numpy(bad))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ValueError, match="truncated"):
        load_pretrained(tmp_path)


def test_missing_values_are_completed_before_all_else(kernel: DeepKernel) -> None:
    x, y = easy(40)
    x[::2, 8:], x[::3, :, 4] = np.nan, np.nan
    completed = kernel.complete(x, kernel.task_mean(x[:20]))
    found, expected = (
        fit_strong(kernel, series[:20], y[:20], normalization=PLAIN) for series in (x, completed)
    )
    expected.task_mean.copy_(found.task_mean)
    assert same_bits(state_of(found), state_of(expected))
    logits = found(torch.from_numpy(x))
    assert torch.equal(logits, found(torch.from_numpy(completed)))
    assert torch.equal(logits[7:8], found(torch.from_numpy(x[7:8]))) and logits.isfinite().all()
    x[0, 0, 0] = np.inf
    for call in (
        lambda: fit_strong(kernel, x, y, normalization=PLAIN),
        lambda: found(torch.from_numpy(x)),
    ):
        with pytest.raises(ValueError, match="1 infinite values"):
            call()


def test_the_same_bits_with_any_threads(kernel: DeepKernel, threads: int) -> None:
    x, y = easy(1100)  # more labels of a class than the kernel takes
    found = fit_strong(kernel, x, y, normalization=PLAIN, seed=2)
    assert found.coefficients.shape == (4, 1000)
    torch.set_num_threads(3 - threads)
    again = fit_strong(kernel, x, y, normalization=PLAIN, seed=2)
    assert same_bits(state_of(found), state_of(again))


def test_labels_of_one_class_and_other_series_are_refused(kernel: DeepKernel) -> None:
    x, y = easy(10)
    with pytest.raises(ValueError, match="0 negatives: give some of both"):
        fit_strong(kernel, x[y == 1], y[y == 1], normalization=PLAIN)
    with pytest.raises(ValueError, match=r"\[10, 11, 18\]: give \[n, 12, 18\]"):
        fit_strong(kernel, x[:, :11], y, normalization=PLAIN)


def test_finetune_is_strong_where_the_model_can_whatever_else_is_given(
    world: timl.CropHarvest, trained: timl.TIML, kernel: DeepKernel
) -> None:
    task = world.benchmarks[0]
    strong = timl.finetune(trained, task, seed=1)
    assert isinstance(strong, StrongClassifier)
    assert same_bits(state_of(strong), state_of(timl.finetune(kernel, task, seed=1)))
    assert isinstance(timl.finetune(trained, task, protocol="paper", steps=1), Classifier)
    assert isinstance(timl.finetune(small_model(), task, steps=1), Classifier)
    for model in (trained, kernel):
        for options in ({"steps": 0}, {"k": 4}, {"learning_rate": 0.1}):
            for protocol in (None, "strong"):
                (name, value), *_ = options.items()
                told = f"^{name} is {value}, which only .*: give protocol='paper' too, or leave out"
                with pytest.raises(ValueError, match=told):
                    timl.finetune(model, task, protocol=protocol, **options)
    with pytest.raises(ValueError, match="learn_deep_kernel"):
        timl.finetune(small_model(), task, protocol="strong")
    with pytest.raises(ValueError, match="'strong' or 'paper'"):
        timl.finetune(trained, task, protocol="best")
    with pytest.raises(ValueError, match="protocol is 'paper' for a DeepKernel"):
        timl.finetune(kernel, task, protocol="paper", steps=3)


def test_the_papers_protocol_does_not_depend_on_the_kernel(
    world: timl.CropHarvest, trained: timl.TIML
) -> None:
    without = copy.deepcopy(trained)
    without.deep_kernel = None
    task = world.benchmarks[0]
    found = [timl.finetune(model, task, protocol="paper", seed=2) for model in (trained, without)]
    assert same_bits(*(state_of(classifier) for classifier in found))


def test_a_strong_classifier_is_scored_and_other_inputs_are_told(
    world: timl.CropHarvest, trained: timl.TIML
) -> None:
    task = world.benchmarks[0]
    adapted = timl.finetune(trained, task)
    assert timl.evaluate(adapted, task).auc_roc > 0.6
    adapted.normalization = PLAIN
    with pytest.warns(UserWarning, match="other normalising statistics"):
        timl.evaluate(adapted, task)


def test_a_model_with_a_kernel_is_written_read_and_trained_again_to_the_same_bits(
    world: timl.CropHarvest, trained: timl.TIML, tmp_path: Path
) -> None:
    trained.save_pretrained(tmp_path / "a")
    read = timl.TIML.from_pretrained(tmp_path / "a")
    assert same_bits(state_of(trained), state_of(read))
    assert not any("kernel" in name for part in read.authors_state_dicts() for name in part)

    tasks = timl.meta_tasks(world)
    for resumed in (False, True):  # the second call finds the run finished
        model = small_model()
        options = {"epochs": 2, "kernel_steps": 2, "out": tmp_path / "run", "progress": False}
        timl.meta_train(model, tasks, **options)
        assert same_bits(state_of(model), state_of(trained)), resumed
    assert same_bits(state_of(model), state_of(timl.TIML.from_pretrained(tmp_path / "run")))
    learned = learn_deep_kernel(tasks, steps=2)
    assert learned is not None and trained.deep_kernel is not None
    assert same_bits(state_of(learned), state_of(trained.deep_kernel))


RARE = {
    "Canada-Ontario-Centre_barley",
    "Canada-Ontario-Centre_permanent grassland",
    "Uzbekistan-Samarkand_alfalfa",
    "Uzbekistan-Samarkand_grapes",
    "USA-California-South_triticale",
}
"""Imbalanced tasks of realcrops, with 400 to 2,800 negatives."""


@pytest.mark.filterwarnings("ignore:.*cannot be divided in space")
def test_more_negatives_do_not_harm_a_rare_crop(realcrops: timl.CropHarvest) -> None:
    """The same 10 positives with 10, 100, 1,000 and all negatives; the rest is tested."""
    tasks = timl.meta_tasks(realcrops, withhold=False)
    countries = tuple(name.split("-")[0] for name in RARE)
    others = [not str(task.bounding_box.name).startswith(countries) for task in tasks]
    kernel = learn_metric_kernel(tasks.subset(np.flatnonzero(others)))
    assert kernel is not None and kernel.normalization is not None
    found = {}
    for index, task in enumerate(tasks):
        if task.id not in RARE:
            continue
        order = np.random.default_rng(0).permutation
        positives = order(tasks.positives[index])
        negatives = order(np.unique(tasks.negatives[index]))
        most = len(negatives) - 200
        tested = np.concatenate([positives[10:], negatives[most:]])
        scores = []
        for count in sorted({min(size, most) for size in (10, 100, 1000, most)}):
            made = fit_strong(
                kernel,
                realcrops.series(np.concatenate([positives[:10], negatives[:count]])),
                np.repeat([1, 0], [10, count]),
                normalization=kernel.normalization,
            )
            logits = made(torch.as_tensor(realcrops.series(tested))).numpy()
            scores.append(roc_auc_score(np.arange(len(tested)) < len(positives) - 10, logits))
        found[task.id] = scores
    assert set(found) == RARE
    changes = [scores[-1] - max(scores[:-1]) for scores in found.values()]
    assert np.mean(changes) > -0.01 and min(changes) > -0.05, found
