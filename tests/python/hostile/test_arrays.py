"""Arrays that users give: numbers of another kind or size are refused, not turned into others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timl
import torch
from hypothesis import given
from hypothesis import strategies as st
from timl.arrays import LARGEST, class_labels, real_numbers
from timl.evaluation import probabilities
from timl.evaluation.prediction import logits
from timl.meta import fit_strong, unlearned_kernel
from timl.nn import Classifier, StrongClassifier

SHAPE = (24, 12, 18)
SERIES = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
LABELS = np.arange(24) % 2
NORMALIZATION: Any = {"mean": np.zeros(18), "std": np.ones(18), "ndvi": "true"}


def sparse(values: np.ndarray) -> Any:
    from scipy.sparse import csr_matrix

    return csr_matrix(values.reshape(len(values), -1))


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "complex": (lambda: SERIES + 1j, "Complex data not supported"),
    "strings of numbers": (lambda: SERIES.astype(str), "is <U32 of shape"),
    "words": (lambda: np.full(SHAPE, "a"), "is <U1 of shape"),
    "bytes": (lambda: np.full(SHAPE, b"1"), "is |S1 of shape"),
    "dates": (lambda: np.zeros(SHAPE, "M8[s]"), r"is datetime64\[s\] of shape"),
    "durations": (lambda: np.zeros(SHAPE, "m8[s]"), r"is timedelta64\[s\] of shape"),
    "objects": (lambda: np.full(SHAPE, object()), "is of objects, .* with a object"),
    "strings as objects": (lambda: np.full(SHAPE, "1", object), "with a str"),
    "records": (lambda: np.zeros(SHAPE, [("a", "f4")]), "of shape"),
    "a masked array": (lambda: np.ma.masked_array(SERIES, SERIES > 0), "is a masked array"),
    "lists of different lengths": (lambda: [[1.0, 2.0], [3.0]], "lists of different lengths"),
    "a sparse matrix": (lambda: sparse(SERIES), "[Ss]parse"),
}


@pytest.fixture(scope="module")
def strong() -> StrongClassifier:
    kernel = unlearned_kernel(SERIES, NORMALIZATION)
    return fit_strong(kernel, SERIES, LABELS, normalization=NORMALIZATION)


@pytest.mark.parametrize("kind", WRONG)
def test_numbers_of_another_kind_are_refused(strong: StrongClassifier, kind: str) -> None:
    make, message = WRONG[kind]
    wrong = make()
    estimator = timl.CropClassifier(protocol="paper", steps=1).fit(SERIES, LABELS)
    for use in (
        lambda: timl.CropClassifier().fit(wrong, LABELS),
        lambda: estimator.predict_proba(wrong),
        lambda: probabilities(strong, wrong),
        lambda: logits(Classifier(), wrong),
        lambda: fit_strong(strong.deep_kernel, wrong, LABELS, normalization=NORMALIZATION),
    ):
        with pytest.raises((TypeError, ValueError), match=message) as raised:
            use()
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS + 0.5, "y is 0.5 at place 0, of shape"),
        (np.where(LABELS, np.nan, 0.0), "y is nan at place 1"),
        (LABELS * 2, "y is 2 at place 1"),
        (LABELS.astype(str), "y is <U"),
        (LABELS + 1j, "Complex data"),
        (LABELS[:3], "and y of 3 labels: give one label of each series"),
        (LABELS[None], r"y is of shape \[1, 24\]: give labels of shape \[n\]"),
        (None, "y is of shape"),
        (1, "y is of shape"),
    ],
)
def test_labels_are_zeros_and_ones(strong: StrongClassifier, labels: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        fit_strong(strong.deep_kernel, SERIES, labels, normalization=NORMALIZATION)


@pytest.mark.parametrize("factor", [1e20, 1e100, 1e300, -1e300])
@pytest.mark.parametrize("protocol", ["paper", "strong"])
def test_numbers_too_large_to_be_squared_are_refused(protocol: Any, factor: float) -> None:
    estimator = timl.CropClassifier(protocol=protocol)
    large = SERIES.astype(np.float64)
    large[3, 4, 5] = factor
    message = r"X is .* in sample 3 at time step 4 of feature 5, the first of 1 numbers beyond 1e"
    with pytest.raises(ValueError, match=message):
        estimator.fit(large, LABELS)
    with pytest.raises(ValueError, match=message):
        estimator.set_params(steps=1 if protocol == "paper" else None).fit(
            SERIES, LABELS
        ).predict_proba(large)


def test_numbers_too_far_from_the_training_are_refused() -> None:
    narrow = SERIES.astype(np.float64) * 1e-6
    estimator = timl.CropClassifier(protocol="paper", steps=1).fit(narrow, LABELS)
    far = narrow.copy()
    far[0, 0, 0] = 1e12
    with pytest.raises(ValueError, match=r"X in the model's standard deviations is .*e\+1[78]"):
        estimator.predict_proba(far)


@pytest.mark.parametrize("steps", [0, -1, 1.5, "a", None, True, 7, 10**30])
def test_time_steps_divide_the_numbers(steps: Any) -> None:
    flat = SERIES.reshape(24, -1)
    with pytest.raises(ValueError, match="time_steps"):
        timl.CropClassifier(time_steps=steps).fit(flat, LABELS)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("rate", [1e30, 3e38])
def test_a_learning_rate_that_ends_in_nan_is_refused(rate: float, steps: int) -> None:
    estimator = timl.CropClassifier(protocol="paper", steps=steps, learning_rate=rate)
    with pytest.raises(ValueError, match=r"the loss is \w+ after [1-3] fine-tuning steps on y"):
        estimator.fit(SERIES, LABELS)


@pytest.mark.parametrize("rate", [1e39, 1e300, np.inf, np.nan, 0.0, -1e30])
def test_a_learning_rate_that_is_no_float32_is_refused(rate: float) -> None:
    estimator = timl.CropClassifier(protocol="paper", steps=1, learning_rate=rate)
    with pytest.raises(ValueError, match=r"learning_rate is .*: give a finite number above 0"):
        estimator.fit(SERIES, LABELS)


@given(st.lists(st.floats() | st.integers(-(2**70), 2**70) | st.none() | st.booleans()))
def test_numbers_stay_what_they_are(values: list[Any]) -> None:
    found = real_numbers(np.array(values, object), "x")
    for value, number in zip(values, found, strict=True):
        assert np.isnan(number) if value is None or value != value else number == float(value)


@given(st.lists(st.sampled_from([0, 1, True, False, 0.0, 1.0])))
def test_labels_of_any_kind_of_number_are_taken(values: list[float]) -> None:
    assert class_labels(values, "y", 2).tolist() == values


def test_tensors_and_tables_are_arrays() -> None:
    import pandas as pd

    assert real_numbers(torch.ones(3), "x").dtype == np.float32
    assert real_numbers(pd.DataFrame({"a": [1, 2]}), "x").tolist() == [[1], [2]]
    assert np.finfo(np.float32).max > LARGEST**2 * 1e6
