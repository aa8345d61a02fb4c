"""Fine-tuning on tasks of several classes, by both protocols."""

from __future__ import annotations

import numpy as np
import pytest
import timl
import torch
from made import MadeData, made_task, same_bits, small_model, state_of
from timl.data import CropTypeTask
from timl.meta import fit_strong_classes, unlearned_kernel
from timl.meta.finetuning import descend
from timl.nn import Classifier, StrongClassifier
from timl.normalization import normalization_of

CLASSES = ("maize", "onion", "weeds")
KINDS = ("cereals", "vegetables_melons", None)


@pytest.fixture
def task() -> CropTypeTask:
    """48 samples of three classes, told by the first, the second or the third band."""
    data = MadeData(1, easy=0)
    codes = np.arange(48) % 3
    for code in range(3):
        data.x[codes == code, :, code] += 3
    return CropTypeTask(
        data, "three", made_task(0).bounding_box, CLASSES, range(48), codes,
        classification_labels=KINDS,
    )  # fmt: skip


def test_the_strong_protocol_fits_all_classes_at_once(task: CropTypeTask) -> None:
    x, y = task.train_arrays()
    normalization = normalization_of(task.data, True)
    kernel = unlearned_kernel(x, normalization)
    made = timl.finetune(kernel, task, seed=4)
    assert isinstance(made, StrongClassifier) and made.classes == CLASSES
    expected = fit_strong_classes(
        kernel, x, y, CLASSES, normalization=normalization, classification_labels=KINDS, seed=4
    )
    assert same_bits(state_of(made), state_of(expected))


def test_the_papers_protocol_descends_with_a_new_head_under_the_tasks_information(
    task: CropTypeTask,
) -> None:
    model = small_model()
    made = timl.finetune(model, task, steps=30, k=8, learning_rate=0.1, seed=1)
    expected = model.for_task(task.info).with_outputs(3)
    descend(expected, *task.train_arrays(), steps=30, k=8, learning_rate=0.1, seed=1)
    assert isinstance(made, Classifier) and same_bits(state_of(made), state_of(expected))
    logits = made(torch.from_numpy(task.train_arrays()[0]))
    assert (logits.argmax(dim=1).numpy() == task.codes).mean() > 0.9
    assert model.for_task(task.info).outputs == 1  # the model stays as it is
    untouched = timl.finetune(model.for_task(task.info), task, steps=0)
    assert not untouched(torch.from_numpy(task.train_arrays()[0])).any()


def test_fewer_samples_than_k_are_drawn_with_a_warning(task: CropTypeTask) -> None:
    with pytest.warns(UserWarning, match="task 'three' is of .16, 16, 16. of each class"):
        timl.finetune(small_model(), task, steps=1, k=17)


def test_members_of_an_ensemble_see_other_samples_of_each_class(task: CropTypeTask) -> None:
    kernel = unlearned_kernel(task.train_arrays()[0], normalization_of(task.data, True))
    before = task.positions.copy()
    one, other = timl.finetune_ensemble(kernel, task, 2, seed=0)
    assert not same_bits(state_of(one), state_of(other))
    np.testing.assert_array_equal(task.positions, before)
    assert isinstance(one, StrongClassifier) and one.points.shape[1] == 48
