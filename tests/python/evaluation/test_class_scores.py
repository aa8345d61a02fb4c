"""Scores of several classes: scikit-learn's numbers, classes that are missing, groups, tables."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import timl
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from timl.data import BBox, CropHarvest, CropTypeTask, TestInstance
from timl.evaluation import class_scores
from timl.meta import unlearned_kernel

HERE = BBox(0.0, 1.0, 0.0, 1.0, "here")
NAMES = ("maize", "wheat", "onion", "bare")
KINDS = ("cereals", "cereals", "vegetables_melons", None)


@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_the_numbers_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = np.array(pairs).T
    if (truth == -1).all():
        with pytest.raises(ValueError, match="samples without a class"):
            class_scores(truth, predicted, NAMES)
        return
    found = class_scores(truth, predicted, NAMES)
    truth, predicted = truth[truth >= 0], predicted[truth >= 0]
    there = np.unique(truth)
    options: dict[str, Any] = {"labels": there, "zero_division": 0}
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        truth, predicted, **options
    )
    iou = metrics.jaccard_score(truth, predicted, average=None, **options)
    table = found.to_frame()
    for name, values in (("precision", precision), ("recall", recall), ("f1", f1), ("iou", iou)):
        ours = getattr(found, name)
        np.testing.assert_allclose(ours[there], values)
        assert np.isnan(np.delete(ours, there)).all()  # of a class without samples
        assert table.loc["macro mean", name] == pytest.approx(values.mean())
        weighted = np.average(values, weights=support)
        assert table.loc["weighted mean", name] == pytest.approx(weighted)
    assert found.support[there].tolist() == support.tolist()
    assert found.overall_accuracy == pytest.approx(metrics.accuracy_score(truth, predicted))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of predicted classes without samples
        balanced = metrics.balanced_accuracy_score(truth, predicted)
    assert found.balanced_accuracy == pytest.approx(balanced)
    assert found.mean_iou == pytest.approx(iou.mean())
    assert found.macro_f1 == pytest.approx(f1.mean())
    expected = metrics.confusion_matrix(truth, predicted, labels=range(4))
    np.testing.assert_array_equal(found.confusion.to_numpy(), expected)


SCORED = class_scores(
    [0, 0, 0, 1, 1, 2, 2, 2, -1], [0, 0, 1, 0, 1, 2, 2, 3, 3], NAMES, classification_labels=KINDS
)


def test_the_table_as_model_cards_print_it() -> None:
    assert SCORED.to_markdown() == (
        "| class | IoU | accuracy | precision | F1 | samples |\n"
        "|---|---:|---:|---:|---:|---:|\n"
        "| maize | 0.500 | 0.667 | 0.667 | 0.667 | 3 |\n"
        "| wheat | 0.333 | 0.500 | 0.500 | 0.500 | 2 |\n"
        "| onion | 0.667 | 0.667 | 1.000 | 0.800 | 3 |\n"
        "| bare | none | none | none | none | 0 |\n"
        "| macro mean | 0.500 | 0.611 | 0.722 | 0.656 | 8 |\n"
        "| weighted mean | 0.521 | 0.625 | 0.750 | 0.675 | 8 |\n"
        "\n"
        "All classes: overall accuracy 0.625, balanced accuracy 0.611, mean IoU 0.500 on 8 "
        "samples.\n"
    )
    assert SCORED.to_model_card() == (
        "| Classes | IoU | Acc |\n"
        "|:---|:---:|:---:|\n"
        "| maize | 0.5000 | 66.67% |\n"
        "| wheat | 0.3333 | 50.00% |\n"
        "| onion | 0.6667 | 66.67% |\n"
        "| bare | none | none |\n"
        "\n"
        "| aAcc | mIoU | mAcc |\n"
        "|:---:|:---:|:---:|\n"
        "| 62.50% | 0.5000 | 61.11% |\n"
    )
    assert SCORED.confusion.loc["maize", "wheat"] == 1
    assert "<td>0.500</td>" in SCORED._repr_html_()
    assert repr(SCORED).startswith("ClassScores(4 classes: overall accuracy 0.625")


def test_confusion_within_a_top_level_group_is_no_mistake() -> None:
    groups = SCORED.by_group()
    assert groups.classes == ("cereals", "vegetables_melons", "not known")
    assert groups.counts.tolist() == [[5, 0, 0], [0, 2, 1], [0, 0, 0]]
    assert groups.overall_accuracy == 7 / 8
    assert groups.by_group().counts.tolist() == groups.counts.tolist()


def test_names_from_files_are_no_markup() -> None:
    scores = class_scores([0, 1], [0, 1], ["a|b", "<b>$x$"])
    assert "| a\\|b |" in scores.to_markdown() and "<b>" not in scores.to_markdown()
    assert "<b>" not in scores._repr_html_()


def test_the_confusion_matrix_is_drawn() -> None:
    pytest.importorskip("matplotlib")
    axes = SCORED.plot().axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == list(NAMES)
    assert {text.get_text() for text in axes.texts} == {"0.00", "0.33", "0.50", "0.67"}


@pytest.mark.parametrize(
    ("truth", "predicted", "kinds", "message"),
    [
        ([0, 1], [0], None, r"truth has shape \[2\], predicted \[1\]"),
        ([0, 4], [0, 1], None, "truth is 4 at place 1"),
        ([0, 1], [0, -1], None, "predicted is -1 at place 1"),
        ([0, 1], [0, 1], ["cereals"], r"classification_labels is \['cereals'\] for 4 classes"),
        ([0, 1], [0, 1], ["grain"] * 4, "classification_labels is .*'grain'"),
    ],
)
def test_what_cannot_be_scored(truth: Any, predicted: Any, kinds: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_scores(truth, predicted, NAMES, classification_labels=kinds)


@pytest.fixture(scope="module")
def task() -> CropTypeTask:
    """Twelve training and nine test samples of three classes, told by their level."""
    import pandas as pd

    rng = np.random.default_rng(0)
    y = np.arange(21) % 3
    x = (rng.normal(size=(21, 12, 18)) + 3 * y[:, None, None]).astype(np.float32)
    table = pd.DataFrame({"index": range(12), "dataset": "made", "lat": 0.5, "lon": 0.5})
    table = table.assign(label="x", classification_label=None, is_crop=1, is_test=0)
    data = CropHarvest.from_series(table, x[:12], mean=np.zeros(18), std=np.ones(18), ndvi="true")
    test = TestInstance(x[12:], np.array([0, 1, 2, 0, 1, 2, 0, 1, -1], np.int8), *np.zeros((2, 9)))
    return CropTypeTask(data, "three", HERE, NAMES[:3], range(12), y[:12], test=test)


def test_classifiers_of_both_protocols_are_scored_on_the_tasks_test_set(task: CropTypeTask) -> None:
    normalization = {"mean": np.zeros(18), "std": np.ones(18), "ndvi": "true"}
    strong = timl.finetune(unlearned_kernel(task.train_arrays()[0], normalization), task)
    scores = timl.evaluate(strong, task)
    assert (scores.classes, scores.samples) == (NAMES[:3], 8)
    probability = timl.evaluation.probabilities(strong, task.test.x)
    same = timl.evaluate(probability, task)
    np.testing.assert_array_equal(scores.counts, same.counts)
    paper = timl.finetune(timl.nn.Classifier(hidden=8), task, steps=2, k=2)
    assert timl.evaluate(paper, task).samples == 8
    other = CropTypeTask(task.data, "other", HERE, ["a", "b", "c"], task.positions, task.codes,
                         test=task.test)  # fmt: skip
    with pytest.raises(ValueError, match="predictor is of maize, wheat, onion, task 'other' of a"):
        timl.evaluate(strong, other)
    with pytest.raises(ValueError, match=r"shape \[9\]: give shape \[9, 3\]"):
        timl.evaluate(timl.nn.Classifier(hidden=8), task)
    with pytest.raises(ValueError, match=r"give the CropTypeTask itself"):
        timl.evaluate(probability[:, 0], task.test)
    with pytest.raises(ValueError, match="1 are NaN"):
        timl.evaluate(np.where(np.arange(27).reshape(9, 3) == 4, np.nan, 0.5), task)
