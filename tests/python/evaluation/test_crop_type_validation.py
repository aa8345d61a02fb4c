"""Cross-validation of several classes over blocks, on a simulated world."""

from __future__ import annotations

import numpy as np
import pytest
import timl
from hypothesis import given
from hypothesis import strategies as st
from timl.data import BBox, CropHarvest, CropTypeTask, crop_type_task
from timl.evaluation.cross_validation import CropTypeValidation, block_folds
from timl.evaluation.cross_validation.curve import _shared
from timl.evaluation.cross_validation.resampling import block_weights
from timl.evaluation.in_season import in_season
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
def task(world: CropHarvest) -> CropTypeTask:
    """A country's crops, 15 samples of each."""
    regions = world.regions
    assert regions is not None
    return crop_type_task(world, regions[-1], least=15).subset(15, seed=0)


@pytest.fixture(scope="module")
def found(kernel: DeepKernel, task: CropTypeTask) -> CropTypeValidation:
    return timl.cross_validate(kernel, task, folds=3, seed=3)


def test_folds_hold_all_classes_in_about_equal_numbers(task: CropTypeTask) -> None:
    divided = block_folds(task, 3, seed=1)
    np.testing.assert_array_equal(divided.labels, task.codes)
    for fold in range(divided.count):
        part = divided.training(divided.trained(fold))
        assert isinstance(part, CropTypeTask) and min(part.counts) > 0
        assert not set(part.positions) & set(task.positions[divided.folds == fold])
        sizes = np.bincount(divided.labels[divided.folds == fold], minlength=len(task.classes))
        assert 3 <= sizes.min() <= sizes.max() <= 7  # of 5


def test_logits_are_of_folds_that_were_not_seen(
    kernel: DeepKernel, task: CropTypeTask, found: CropTypeValidation
) -> None:
    divided = found.folds
    classifier = timl.finetune(kernel, divided.training(divided.trained(1)), seed=3)
    here = divided.folds == 1
    expected = timl.evaluation.prediction.logits(classifier, task.data.series(task.positions[here]))
    np.testing.assert_array_equal(found.logits[here], expected)
    assert found.class_scores.balanced_accuracy > 2 / len(task.classes)


def test_intervals_hold_the_scores_of_resampled_blocks(
    task: CropTypeTask, found: CropTypeValidation
) -> None:
    scores = found.class_scores
    assert found.scores["overall_accuracy"].value == pytest.approx(scores.overall_accuracy)
    assert found.scores["mean_iou"].value == pytest.approx(scores.mean_iou)
    for number, name in enumerate(task.classes):
        assert found.of_classes[name]["precision"].value == pytest.approx(scores.precision[number])
    for interval in (*found.scores.values(), *found.of_classes[task.classes[0]].values()):
        assert interval.low <= interval.value <= interval.high
    weights = np.concatenate(list(block_weights(found.folds.blocks, 3)))
    right = (found.predicted == found.labels).astype(float)
    accuracy = weights @ right / weights.sum(axis=1)
    low, high = np.quantile(accuracy, [0.025, 0.975])
    assert found.scores["overall_accuracy"][1:] == pytest.approx((low, high))


def test_what_is_printed(task: CropTypeTask, found: CropTypeValidation) -> None:
    lines = found.to_markdown().splitlines()
    assert lines[0] == "| class | IoU | accuracy | precision | F1 | samples |"
    assert [line.split(" | ")[0][2:] for line in lines[2:-2]] == list(task.classes)
    assert lines[-1].startswith("All classes: overall accuracy 0.")
    table = found.to_frame()
    assert len(table) == 4 * len(task.classes) + 4
    assert table.loc[("all", "macro_f1"), "value"] == found.scores["macro_f1"].value
    assert repr(found).startswith(f"CropTypeValidation({len(task.classes)} classes: overall")


def test_a_class_that_cannot_be_learned_and_scored_is_named_with_its_number(
    kernel: DeepKernel, task: CropTypeTask
) -> None:
    few = task.with_samples((task.codes != 0) | (np.cumsum(task.codes == 0) == 1))
    with pytest.raises(ValueError, match=f"points has .* and 1 {task.classes[0]}: give at least 2"):
        timl.cross_validate(kernel, few)


def test_a_curve_is_of_macro_f1_and_ends_where_the_cross_validation_is(
    kernel: DeepKernel, task: CropTypeTask
) -> None:
    count = len(task.classes)
    sizes = [2 * count, 3 * count]
    curve = timl.learning_curve(kernel, task, sizes, draws=1, folds=2, seed=3)
    whole = timl.cross_validate(kernel, task, folds=2, seed=3)
    assert curve.values[-1] == pytest.approx(tuple(whole.scores["macro_f1"]))
    assert curve.labels[:2] == tuple(sizes) and curve.to_frame().columns[1] == "macro_f1"
    assert curve.values[0].value < curve.values[-1].value
    assert "macro F1 is 0." in curve.hint() and "macro F1 by labels" in repr(curve)
    with pytest.raises(ValueError, match=f"give numbers from {2 * count} to"):
        timl.learning_curve(kernel, task, [2 * count - 1], folds=2, seed=3)


@given(st.lists(st.integers(1, 60), min_size=2, max_size=13), st.floats(0, 1))
def test_labels_are_divided_by_the_sizes_of_the_classes(sizes: list[int], share: float) -> None:
    least = sum(min(2, size) for size in sizes)
    total = least + round(share * (sum(sizes) - least))
    counts = _shared(sizes, total)
    assert sum(counts) == total
    for count, size in zip(counts, sizes, strict=True):
        assert min(2, size) <= count <= size
        assert count <= max(2, total * size / sum(sizes) + 1)


def test_a_calibration_of_as_many_labels_of_each_class_keeps_the_classes(
    found: CropTypeValidation,
) -> None:
    calibration = found.calibrate()
    assert calibration.slope > 0
    np.testing.assert_allclose(calibration.intercept, 0, atol=1e-12)
    np.testing.assert_array_equal(calibration.apply(found.logits).argmax(axis=1), found.predicted)


def test_what_is_of_two_classes_says_so(kernel: DeepKernel, task: CropTypeTask) -> None:
    with pytest.raises(TypeError, match="the task is a CropTypeTask: give one of two classes"):
        in_season(kernel, task)  # type: ignore[arg-type]


def test_a_region_without_the_world_has_no_classes(world: CropHarvest) -> None:
    with pytest.raises(ValueError, match=r"training samples are of classes \{\}"):
        crop_type_task(world, BBox(-80.0, -79.0, 0.0, 1.0, "ice"))
