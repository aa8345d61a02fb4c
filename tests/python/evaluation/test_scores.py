"""Scores: hand-computed values, labels that are left out, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timl
import torch
from timl.data import TestInstance
from timl.evaluation import Scores, probabilities
from timl.nn import Classifier


def instance(y: list[int]) -> TestInstance:
    x = np.random.default_rng(0).normal(size=(len(y), 12, 18)).astype(np.float32)
    return TestInstance(x, np.array(y, np.int8), np.zeros(len(y)), np.zeros(len(y)))


def test_scores_by_hand() -> None:
    """Pairs in order: .9>.6, .9>.2, .4<.6, .4>.2, .6=.6 (half), .6>.2: 4.5 of 6."""
    scores = timl.evaluate([0.9, 0.4, 0.6, 0.6, 0.2], instance([1, 1, 1, 0, 0]))
    # predicted positives: 3, of which 2 are; 3 true: precision = recall = 2/3, union 4
    assert scores == Scores(
        auc_roc=4.5 / 6,
        f1=pytest.approx(2 / 3),
        iou=0.5,
        samples=5,
        # recall 1/3 at precision 1, 2/3 at 2/3 (the tie is one step), 1 at 3/4
        average_precision=pytest.approx((1 + 2 / 3 + 3 / 4) / 3),
        accuracy=3 / 5,
        brier=pytest.approx((0.01 + 0.36 + 0.16 + 0.36 + 0.04) / 5),
        true_positives=2,
        false_positives=1,
        true_negatives=1,
        false_negatives=1,
    )


def test_equal_predictions_tell_nothing_and_one_half_is_negative() -> None:
    scores = timl.evaluate([0.5] * 4, instance([1, 0, 1, 0]))
    assert (scores.auc_roc, scores.f1, scores.iou, scores.samples) == (0.5, 0.0, 0.0, 4)
    assert (scores.true_negatives, scores.false_negatives) == (2, 2)


def test_samples_without_a_label_do_not_count() -> None:
    some = timl.evaluate([0.9, 0.1, 0.3, 0.8], instance([1, 0, -1, -1]))
    assert some == timl.evaluate([0.9, 0.1], instance([1, 0]))
    assert (some.auc_roc, some.samples) == (1.0, 2)


def test_a_classifier_is_scored_in_evaluation_mode_and_keeps_its_mode() -> None:
    torch.manual_seed(0)
    classifier, test = Classifier(hidden=8), instance([1, 0, -1] * 5)
    expected = torch.sigmoid(classifier.eval()(torch.from_numpy(test.x)).double()).detach()
    classifier.train()
    scores = timl.evaluate(classifier, test)
    assert scores == timl.evaluate(expected.numpy(), test)
    assert classifier.training and int(classifier.num_batches_tracked) == 0


@pytest.mark.parametrize("count", [11, 1100])
def test_chunks_change_nothing(count: int) -> None:
    torch.manual_seed(0)
    classifier, x = Classifier(hidden=8).double(), instance([0] * count).x
    whole = probabilities(classifier, x)
    classifier.eval()
    with torch.no_grad():
        logits = torch.cat([classifier(piece) for piece in torch.from_numpy(x).double().split(4)])
    np.testing.assert_array_equal(torch.sigmoid(logits).numpy(), whole)
    assert whole.dtype == np.float64 and whole.shape == (count,)


@pytest.mark.parametrize(
    ("predictions", "y", "message"),
    [
        ([0.5, 0.5], [1, 1], "2 positives and 0 negatives among its 2 samples"),
        ([0.5, 0.5], [0, -1], "0 positives and 1 negatives"),
        ([0.5, 0.5], [-1, -1], "0 positives and 0 negatives"),
        ([np.nan, 1.2, 0.5], [1, 0, 0], "of 3 predictions 1 are NaN and 1 out of range"),
        ([0.5], [1, 0], r"have shape \[1\]: give shape \[2\]"),
        ([[0.5], [0.5]], [1, 0], r"have shape \[2, 1\]"),
    ],
)
def test_what_cannot_be_scored(predictions: Any, y: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        timl.evaluate(predictions, instance(y))


def test_kinds_that_cannot_be_scored() -> None:
    with pytest.raises(TypeError, match=r"TIML: .*model\.for_task"):
        timl.evaluate(timl.TIML(hidden=8), instance([1, 0]))
    with pytest.raises(TypeError, match="test is a list: give a BenchmarkTask or a TestInstance"):
        timl.evaluate([0.5], [1])
    wrong = instance([1, 0])
    wrong.x[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"x .* 1 NaN"):
        timl.evaluate(Classifier(hidden=8), wrong)
    with pytest.raises(ValueError, match=r"x has shape \[0, 12, 18\]: give \[n, 12, 18\]"):
        probabilities(Classifier(hidden=8), wrong.x[:0])


def test_a_classifier_of_other_data_is_noticed(benchmarked_world: Path) -> None:
    benchmark = timl.CropHarvest(benchmarked_world).benchmark("world_0")
    classifier = timl.finetune(Classifier(hidden=8), benchmark, steps=2)
    assert timl.evaluate(classifier, benchmark).samples == 16  # and no warning
    assert classifier.normalization is not None
    classifier.normalization["ndvi"] = "record"
    with pytest.warns(UserWarning, match=r"another NDVI \(record\).*'world_0' \(true\)"):
        timl.evaluate(classifier, benchmark)
