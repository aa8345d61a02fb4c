"""Cross-validation over blocks and learning curves, on a simulated world."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timl
import torch
from sklearn.metrics import brier_score_loss, f1_score, roc_auc_score
from timl.data import BBox, BenchmarkTask, CropHarvest, Task
from timl.data.regions.sphere import on_unit_sphere
from timl.evaluation.cross_validation import LearningCurve, block_folds
from timl.evaluation.cross_validation.resampling import Interval, weighted_auc
from timl.evaluation.few_shot.tasks import places_of
from timl.meta import learn_metric_kernel
from timl.nn import DeepKernel


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> CropHarvest:
    folder = tmp_path_factory.mktemp("world") / "data"
    return CropHarvest(timl.data.simulate(folder, countries=4, samples=1200, seed=0))


@pytest.fixture(scope="module")
def kernel(world: CropHarvest) -> DeepKernel:
    kernel = learn_metric_kernel(timl.meta_tasks(world))
    assert kernel is not None
    return kernel


@pytest.fixture(scope="module")
def points(world: CropHarvest) -> BenchmarkTask:
    """A task of 120 places, a third of them positive."""
    benchmark = world.benchmarks[2]
    part = copy.copy(benchmark)
    part.positives = benchmark.positives[:40]
    part.negatives = benchmark.negatives[:80]
    assert [len(part.positives), len(part.negatives)] == [40, 80]
    return part


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the points lie in")
        yield


def test_folds_are_whole_blocks_apart_from_what_is_trained_on(points: BenchmarkTask) -> None:
    divided = block_folds(points, 4, block_km=3, distance_km=1, seed=1)
    assert sorted(divided.positions) == sorted([*points.positives, *points.negatives])
    for block in np.unique(divided.blocks):
        assert len(np.unique(divided.folds[divided.blocks == block])) == 1
    place = on_unit_sphere(*places_of(points.data)[divided.positions].T)
    for fold in range(divided.count):
        here, trained = divided.folds == fold, divided.trained(fold)
        assert not (here & trained).any()
        distance = np.linalg.norm(place[here][:, None] - place[trained], axis=2).min() * 6371
        assert distance >= 1
        part = divided.training(trained)
        assert {*part.positives, *part.negatives} == set(divided.positions[trained])
        assert 5 <= (divided.labels[here] == 1).sum() <= 15  # of 10
    other = block_folds(points, 4, block_km=3, distance_km=1, seed=2)
    assert not np.array_equal(divided.folds, other.folds)


def test_scores_are_those_of_logits_of_folds_that_were_not_seen(
    kernel: DeepKernel, points: BenchmarkTask
) -> None:
    found = timl.cross_validate(kernel, points, folds=4, seed=3)
    again = timl.cross_validate(kernel, points, folds=4, seed=3)
    np.testing.assert_array_equal(found.logits, again.logits)
    assert found.scores == again.scores
    divided = found.folds
    classifier = timl.finetune(kernel, divided.training(divided.trained(1)), seed=3)
    here = divided.folds == 1
    x = points.data.series(divided.positions[here])
    expected = timl.evaluation.prediction.logits(classifier, x) - classifier.shift.item()
    np.testing.assert_allclose(found.logits[here], expected, atol=1e-6)

    labels, probability = found.labels, 1 / (1 + np.exp(-found.logits))
    chosen = probability > 0.5
    values = {name: score.value for name, score in found.scores.items()}
    assert values == pytest.approx(
        {
            "auc_roc": roc_auc_score(labels, probability),
            "f1": f1_score(labels, chosen),
            "overall_accuracy": (chosen == labels).mean(),
            "users_accuracy": labels[chosen].mean(),
            "producers_accuracy": chosen[labels == 1].mean(),
            "brier": brier_score_loss(labels, probability),
        }
    )
    assert all(score.low <= score.value <= score.high for score in found.scores.values())
    assert values["auc_roc"] > 0.7  # something was learned
    assert found.to_frame().shape == (6, 3)
    assert repr(found).startswith("CrossValidation(120 samples, 4 folds of ")
    assert 0 < found.choose_threshold() < 1 and found.calibrate().slope > 0


def test_the_paper_s_protocol_can_be_validated_too(points: BenchmarkTask) -> None:
    with timl.nn.seeded(0):
        model = timl.TIML(hidden=8, encoder_sizes=(16,))
    found = timl.cross_validate(model, points, folds=2, protocol="paper", steps=2, k=4)
    assert np.isfinite(found.logits).all()


def test_weighted_auc_counts_samples_as_often_as_their_weight() -> None:
    generator = np.random.default_rng(0)
    logits = generator.integers(0, 6, 40).astype(float)
    positive = generator.random(40) < 0.4
    weights = generator.integers(0, 4, (5, 40)).astype(float)
    found = weighted_auc(logits, positive, weights)
    for row, value in zip(weights.astype(int), found, strict=True):
        repeated = np.repeat(positive, row), np.repeat(logits, row)
        assert value == pytest.approx(roc_auc_score(*repeated))


def test_points_that_are_close_together_are_divided_by_smaller_blocks_with_a_warning(
    points: BenchmarkTask,
) -> None:
    with pytest.warns(UserWarning, match=r"the points lie in \d+ blocks of 500 km, too close"):
        divided = block_folds(points, 5, block_km=500, distance_km=100)
    assert divided.block_km < 500 and divided.distance_km == divided.block_km / 5


def test_what_cannot_be_divided_is_refused(
    kernel: DeepKernel, points: BenchmarkTask, tmp_path: Path
) -> None:
    world = points.data
    labels = world.labels.copy()
    labels[["lat", "lon"]] = [1.0, 34.0]
    mean, std = world.mean, world.std
    one_place = CropHarvest.from_series(
        labels[labels["position"] >= 0], world.series(range(len(world)), normalize=False),
        mean=mean, std=std, ndvi=world.ndvi, tests={}, root=tmp_path,
    )  # fmt: skip
    task = BenchmarkTask(one_place, "one place", Task(BBox(0, 2, 33, 35, "here")))
    with pytest.raises(ValueError, match=r"samples in 1 blocks of 3 km and 1 of .* too few for 5"):
        timl.cross_validate(kernel, task)
    few = copy.copy(points)
    few.positives = few.positives[:1]
    with pytest.raises(ValueError, match="1 positives and 80 negatives: give at least 2"):
        timl.cross_validate(kernel, few)
    for options, message in (
        ({"folds": 1}, "folds is 1"),
        ({"block_km": 0}, "block_km is 0"),
        ({"threshold": 1}, "threshold is 1"),
    ):
        with pytest.raises(ValueError, match=message):
            timl.cross_validate(kernel, points, **options)


def test_a_curve_ends_where_the_cross_validation_is(
    kernel: DeepKernel, points: BenchmarkTask
) -> None:
    curve = timl.learning_curve(kernel, points, draws=1, folds=2, seed=1)
    whole = timl.cross_validate(kernel, points, folds=2, seed=1)
    assert curve.values[-1].value == pytest.approx(whole.scores["auc_roc"].value)
    assert list(curve.labels) == sorted(curve.labels) and len(curve.labels) == 5
    assert curve.after(0).value == pytest.approx(curve.values[-1].value)
    assert curve.to_frame().columns.tolist() == ["labels", "auc_roc", "low", "high"]
    assert "more points" in curve.hint() and repr(curve).startswith("LearningCurve(AUC ROC by")
    sized = timl.learning_curve(kernel, points, [10, 20], draws=1, folds=2, seed=1)
    assert sized.labels[:2] == (10, 20)
    for wrong in ([3], [500], []):
        with pytest.raises(ValueError, match="sizes is"):
            timl.learning_curve(kernel, points, wrong, folds=2, seed=1)
    with pytest.raises(ValueError, match="more is 1000"):
        curve.after(1000)


def test_a_curve_is_extrapolated_by_its_power() -> None:
    labels = (10.0, 20.0, 40.0, 80.0)
    values = [1 - 0.4 * n**-0.5 for n in labels]
    rows = np.tile(values, (50, 1)) + np.random.default_rng(0).normal(0, 0.002, (50, 4))
    scores = tuple(Interval(v, v - 0.01, v + 0.01) for v in values)
    curve = LearningCurve(labels, scores, rows, 0.95)
    assert curve.after(80).value == pytest.approx(1 - 0.4 * 160**-0.5)
    gain = curve.gain(80)
    assert 0 < gain.low < gain.value < gain.high
    assert "About 80 more points would bring about +0.013" in curve.hint()
    flat = LearningCurve(labels, scores, np.full((50, 4), 0.9), 0.95)
    assert "may bring something or nothing" in flat.hint()
    fraction = LearningCurve((10.0, 20.0, 40.0, 79.6), scores, rows, 0.95)  # a mean over folds
    assert "About 79 more points" in fraction.hint()
    assert math.isnan(LearningCurve(labels, scores, np.full((2, 4), np.nan), 0.95).gain(1).low)


def test_on_a_gpu_logits_are_those_of_the_cpu(
    gpu: str, kernel: DeepKernel, points: BenchmarkTask
) -> None:
    here, there = (
        timl.cross_validate(kernel, points, folds=2, device=device) for device in (None, gpu)
    )
    bound = 1e-3 if torch.cuda.is_available() else 0
    assert np.abs(there.logits - here.logits).max() <= bound
    with pytest.raises(ValueError, match="device is 'meta', where timl does not compute"):
        timl.cross_validate(kernel, points, folds=2, device="meta")
