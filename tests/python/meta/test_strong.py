"""The strong protocol: the metric, the trees, the classifier, and when `finetune` takes it."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import timl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made import same_bits, small_model, state_of
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from timl.meta import fit_strong, learn_metric
from timl.nn import Classifier, StrongClassifier, load_pretrained
from timl.nn.description import describe_series, hidden_states
from timl.nn.trees import Trees
from timl.parameters import BATCH_NORM_EPSILON

PLAIN = {"mean": np.zeros(18), "std": np.ones(18), "ndvi": "true"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> timl.CropHarvest:
    """A simulated world of a few countries."""
    folder = tmp_path_factory.mktemp("world") / "data"
    timl.data.simulate(folder, countries=5, samples=1500, seed=1)
    return timl.CropHarvest(folder)


@pytest.fixture(scope="module")
def trained(world: timl.CropHarvest) -> timl.TIML:
    """A model that two epochs of meta-training left."""
    model = small_model()
    timl.meta_train(model, timl.meta_tasks(world), epochs=2, progress=False)
    return model


def test_hidden_states_are_those_of_a_step_by_step_lstm():
    model = small_model().eval()
    task = model.for_task(np.linspace(0, 1, 13).astype(np.float32))
    with torch.no_grad():
        task.running_mean.uniform_(-1, 1)
        task.running_variance.uniform_(0.5, 2)
    x = np.random.default_rng(0).normal(size=(5, 12, 18)).astype(np.float32)
    before = torch.get_rng_state()
    found = hidden_states(task, x)
    assert torch.equal(before, torch.get_rng_state())

    gamma, beta = (task.film[i * 216 : (i + 1) * 216].view(12, 18) for i in (0, 1))
    hidden = cell = torch.zeros(5, task.hidden)
    with torch.no_grad():
        for step in range(12):
            inputs = torch.from_numpy(x[:, step]) * gamma[step] + beta[step]
            gates = inputs @ task.input_weight.T + hidden @ task.hidden_weight.T + task.gate_bias
            i, f, g, o = gates.chunk(4, dim=1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * cell.tanh()
        expected = (hidden - task.running_mean[0]) / (
            task.running_variance[0] + BATCH_NORM_EPSILON
        ) ** 0.5
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-6)


def test_seasons_do_not_depend_on_when_they_begin_but_for_changes():
    x = np.random.default_rng(1).normal(size=(4, 12, 18)).astype(np.float32)
    described, rolled = (describe_series(v, PLAIN) for v in (x, np.roll(x, 3, axis=1)))
    assert described.shape == (4, 12 * 18 + 12 * 8 + 7 * (8 + 13))
    first = 12 * (18 + 8)
    still = [slice(first, first + 6 * 8), slice(first + 7 * 8, first + 7 * 8 + 6 * 13)]
    for part in still:
        np.testing.assert_allclose(described[:, part], rolled[:, part], atol=1e-12)
    with pytest.raises(ValueError, match=r"\[4, 12, 17\]: give \[n, T, 18\]"):
        describe_series(x[..., :17], PLAIN)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 60),
    st.integers(0, 99),
    st.sampled_from([ExtraTreesClassifier, RandomForestClassifier]),
)
def test_trees_vote_as_scikit_learns(samples, seed, kind):
    generator = np.random.default_rng(seed)
    x = generator.integers(-3, 4, size=(samples, 4)).astype(np.float32) / 4  # values on thresholds
    y = generator.integers(0, 2, samples) == 1
    y[:2] = [True, False]
    forest = kind(n_estimators=7, class_weight="balanced", random_state=seed).fit(x, y)
    other = generator.normal(size=(50, 4)).astype(np.float32)
    trees = Trees.from_forest(forest)
    for given_x in (x, other):
        np.testing.assert_allclose(
            trees.predict(given_x), forest.predict_proba(given_x)[:, 1], atol=1e-6
        )


def test_the_metric_is_learned_alike_on_any_number_of_threads_and_leaves_the_model(world, trained):
    tasks, before, count = timl.meta_tasks(world), state_of(trained), torch.get_num_threads()
    learned = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        learned.append(learn_metric(trained, tasks))
    torch.set_num_threads(count)
    assert same_bits(before, state_of(trained))
    assert same_bits(*(metric.state_dict() for metric in learned))
    assert same_bits(trained.metric.state_dict(), learned[0].state_dict())


def test_the_metric_tells_crops_of_a_place_apart_better_than_plain_numbers(world, trained):
    """On the tasks it was learned from: between classes over within them, along all axes."""
    tasks = timl.meta_tasks(world)
    ratios = []
    for index, task in enumerate(tasks):
        network = trained.for_task(task.info)
        x = [world.series(part[index]) for part in (tasks.positives, tasks.negatives)]
        places = [trained.metric.transform(network, v, trained.normalization) for v in x]
        for one, other in (places, [v.reshape(len(v), -1).astype(float) for v in x]):
            apart = ((one.mean(0) - other.mean(0)) ** 2).sum()
            ratios.append(apart / (one.var(0).sum() + other.var(0).sum()))
    learned, plain = np.reshape(ratios, (-1, 2)).T
    assert np.median(learned / plain) > 1.3


def test_a_metric_needs_two_groups_in_one_region(world):
    tasks = timl.meta_tasks(world)
    label = world.labels.set_index("position")["label"]
    index = next(i for i, task in enumerate(tasks) if task.target_label != "crop")
    members = tasks.positives[index]
    assert label.loc[members].nunique() == 1
    alone = replace(tasks.subset([index]), positives=(members,), negatives=(members,))
    assert learn_metric(small_model(), alone) is None


def test_finetune_is_strong_where_the_model_can_and_no_descent_is_asked_for(world, trained):
    task = world.benchmarks[0]
    assert isinstance(timl.finetune(trained, task), StrongClassifier)
    for options in ({"steps": 1}, {"k": 4}, {"learning_rate": 0.1}, {"protocol": "paper"}):
        assert isinstance(timl.finetune(trained, task, **options), Classifier)
    assert isinstance(timl.finetune(small_model(), task), Classifier)
    with pytest.raises(ValueError, match="no steps, k or learning_rate"):
        timl.finetune(trained, task, protocol="strong", steps=3)
    with pytest.raises(ValueError, match="learn_metric"):
        timl.finetune(small_model(), task, protocol="strong")
    with pytest.raises(ValueError, match="'strong' or 'paper'"):
        timl.finetune(trained, task, protocol="best")


def test_the_papers_protocol_does_not_depend_on_the_metric(world, trained):
    without = copy.deepcopy(trained)
    without.metric = None
    task = world.benchmarks[0]
    found = [timl.finetune(model, task, protocol="paper", seed=2) for model in (trained, without)]
    assert same_bits(*(state_of(classifier) for classifier in found))


def test_ten_labels_of_an_easy_task_are_enough_and_the_classifier_is_its_own(
    world, trained, tmp_path
):
    x = np.random.default_rng(3).normal(size=(200, 12, 18)).astype(np.float32) * 0.3
    y = np.arange(200) % 2
    x[y == 1, 4:8, 8] += 1.5  # a season in which B8 is higher
    network = trained.for_task(world.benchmarks[0].info)
    network.normalization = trained.normalization
    made = fit_strong(network, trained.metric, x[:10], y[:10], seed=0)
    logits = made(torch.from_numpy(x[10:]))
    assert ((logits > 0).numpy() == y[10:]).mean() > 0.9
    with torch.no_grad():
        kept = trained.metric.projection.clone()
        made.metric.projection.zero_()
    assert torch.equal(trained.metric.projection, kept)

    again = fit_strong(network, trained.metric, x[:10], y[:10], seed=0)
    again.save_pretrained(tmp_path)
    read = load_pretrained(tmp_path)
    assert isinstance(read, StrongClassifier)
    assert torch.equal(read(torch.from_numpy(x[10:])), logits)
    for bad, message in ((x[:1] * np.nan, "NaN"), (x[:1, :11], r"\[1, 11, 18\]"), (x[:0], "empty")):
        with pytest.raises(ValueError, match=message):
            read(torch.from_numpy(bad))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ValueError, match="truncated"):
        load_pretrained(tmp_path)


def test_labels_of_one_class_and_unknown_inputs_are_refused(world, trained):
    x, y = world.benchmarks[0].train_arrays()
    network = trained.for_task(world.benchmarks[0].info)
    with pytest.raises(ValueError, match="0 negatives"):
        fit_strong(network, trained.metric, x[y == 1], y[y == 1], seed=0)
    network.normalization = None
    with pytest.raises(ValueError, match="normalization is None"):
        fit_strong(network, trained.metric, x, y, seed=0)


def test_a_strong_classifier_is_scored_and_other_inputs_are_told(world, trained):
    task = world.benchmarks[0]
    adapted = timl.finetune(trained, task)
    assert timl.evaluate(adapted, task).auc_roc > 0.6
    adapted.normalization = PLAIN
    with pytest.warns(UserWarning, match="other normalising statistics"):
        timl.evaluate(adapted, task)


def test_a_model_with_a_metric_is_written_read_and_trained_on(world, trained, tmp_path):
    trained.save_pretrained(tmp_path / "a")
    read = timl.TIML.from_pretrained(tmp_path / "a")
    assert same_bits(state_of(trained), state_of(read))
    assert not any("metric" in name for part in read.authors_state_dicts() for name in part)

    tasks, model = timl.meta_tasks(world), small_model()
    for _ in range(2):  # the second call finds the run finished
        timl.meta_train(model, tasks, epochs=2, out=tmp_path / "run", progress=False)
    assert same_bits(state_of(model), state_of(timl.TIML.from_pretrained(tmp_path / "run")))
