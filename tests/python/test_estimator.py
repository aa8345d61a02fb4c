"""`timl.CropClassifier`: scikit-learn's own checks, and timl's fine-tuning behind them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timl
import torch
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator
from timl.bands import BANDS
from timl.evaluation import probabilities
from timl.nn import Classifier, StrongClassifier

NO_WEIGHTS = "its series have one band: that is the paper's protocol, which takes no weights"
SKIPPED = {
    "check_array_api_input": "needs SCIPY_ARRAY_API, an experimental mode of SciPy",
    "check_sample_weights_pandas_series": NO_WEIGHTS,
    "check_sample_weights_not_an_array": NO_WEIGHTS,
    "check_sample_weights_list": NO_WEIGHTS,
    "check_all_zero_sample_weights_error": NO_WEIGHTS,
    "check_sample_weights_shape": NO_WEIGHTS,
    "check_sample_weights_not_overwritten": NO_WEIGHTS,
    "check_sample_weight_equivalence_on_dense_data": NO_WEIGHTS,
}
"""Scikit-learn's checks that do not run or not through, and why."""


def toy(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    x = rng.normal(1000, 300, size=(n, 12, 18))
    x[:, :, 5] += 900 * y[:, None]
    return x, np.where(y == 1, "maize", "else")


@pytest.fixture
def quick() -> timl.CropClassifier:
    return timl.CropClassifier(protocol="paper", steps=40, learning_rate=0.1, random_state=0)


def test_scikit_learns_checks() -> None:
    """Their series are [n, any number]: one time step of so many bands."""
    estimator = timl.CropClassifier(time_steps=1, steps=30, learning_rate=0.5, random_state=0)
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    assert len(results) > 40
    others = {r["check_name"]: r["exception"] for r in results if r["status"] != "passed"}
    assert set(others) <= set(SKIPPED), others


def test_series_flat_or_not_and_a_model_that_learns(quick: timl.CropClassifier) -> None:
    x, y = toy()
    probability = quick.fit(x, y).predict_proba(x)
    assert probability.shape == (60, 2) and list(quick.classes_) == ["else", "maize"]
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    assert quick.score(x, y) > 0.9 and set(quick.predict(x)) == {"else", "maize"}
    flat = clone(quick).fit(x.reshape(60, 216), y).predict_proba(x.reshape(60, 216).tolist())
    np.testing.assert_array_equal(flat, probability)
    again = pickle.loads(pickle.dumps(quick))
    np.testing.assert_array_equal(again.predict_proba(x), probability)


@pytest.mark.parametrize("shares", [0.1, {0: 0.5, 1: 0.4, 2: 0.1}])
def test_probabilities_are_stated_for_a_prevalence(
    quick: timl.CropClassifier, shares: float | dict[int, float]
) -> None:
    x, y = toy()
    labels, each = (y, [0.9, 0.1])
    if isinstance(shares, dict):
        labels, each = np.arange(60) % 3, list(shares.values())
    even = quick.fit(x, labels).predict_proba(x)
    stated = clone(quick).set_params(prevalence=shares).fit(x, labels)
    expected = even * each  # Bayes' rule
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(stated.predict_proba(x), expected, atol=1e-6)
    np.testing.assert_array_equal(stated.predict(x), stated.classes_[expected.argmax(axis=1)])
    with pytest.raises(ValueError, match="prevalence is"):
        clone(quick).set_params(prevalence={"maize": 1.0}).fit(x, labels).predict_proba(x)


def test_in_cross_validation(quick: timl.CropClassifier) -> None:
    x, y = toy()
    assert cross_val_score(quick, x, y, cv=3, scoring="roc_auc").mean() > 0.9
    piped = make_pipeline(FunctionTransformer(lambda x: x), quick)
    assert cross_val_score(piped, x.reshape(60, -1), y, cv=3).mean() > 0.8


def test_a_pretrained_model_is_fine_tuned_as_timl_does(
    benchmarked_world: Path, tmp_path: Path
) -> None:
    data = timl.CropHarvest(benchmarked_world)
    with timl.nn.seeded(0):
        model = timl.TIML(hidden=16)
    timl.meta_train(
        model, timl.meta_tasks(data), epochs=1, kernel_steps=1, out=tmp_path, progress=False
    )
    benchmark = data.benchmarks[0]
    paper: dict[str, Any] = {"protocol": "paper", "steps": 5}
    expected = timl.finetune(model, benchmark, **paper, seed=3)
    lat, lon = benchmark.task.bounding_box.centre
    positions = np.concatenate([benchmark.positives, benchmark.negatives])
    raw, y = data.series(positions, normalize=False), benchmark.train_arrays()[1]
    for pretrained in (model, tmp_path, str(tmp_path)):
        adapted = timl.CropClassifier(pretrained, lat, lon, **paper, random_state=3).fit(raw, y)
        found = adapted.predict_proba(raw)[:, 1]
        np.testing.assert_array_equal(found, probabilities(expected, data.series(positions)))
    alone = timl.CropClassifier(model.for_task(benchmark.info), **paper, random_state=3)
    np.testing.assert_array_equal(clone(alone).fit(raw, y).predict_proba(raw)[:, 1], found)
    cereals = timl.CropClassifier(model, lat, lon, "cereals", **paper, random_state=3).fit(raw, y)
    assert not np.array_equal(cereals.predict_proba(raw)[:, 1], found)

    expected = timl.finetune(model, benchmark, seed=3)
    strong = timl.CropClassifier(tmp_path, random_state=3).fit(raw, y)
    found = strong.predict_proba(raw)[:, 1]
    np.testing.assert_array_equal(found, probabilities(expected, data.series(positions)))
    assert isinstance(strong.classifier_, StrongClassifier)
    kernel = timl.CropClassifier(model.deep_kernel, random_state=3).fit(raw, y)
    np.testing.assert_allclose(kernel.predict_proba(raw)[:, 1], found)


@pytest.fixture(scope="module")
def kernel(benchmarked_world: Path) -> timl.nn.DeepKernel:
    learned = timl.meta.learn_deep_kernel(
        timl.meta_tasks(timl.CropHarvest(benchmarked_world)), steps=1
    )
    assert learned is not None
    return learned


def test_the_positives_are_those_that_are_named(kernel: timl.nn.DeepKernel) -> None:
    x, y = toy()
    numbers = timl.CropClassifier(kernel, crop="cereals", random_state=0).fit(x, y == "maize")
    expected = numbers.predict_proba(x)
    assert numbers.pos_label_
    for names, options in (
        ({"maize": "maize", "else": "other"}, {"pos_label": "maize"}),
        ({"maize": "maize", "else": "other"}, {"label": "maize"}),
        ({"maize": "yes", "else": "no"}, {"pos_label": "yes"}),
    ):
        renamed = np.array([names[label] for label in y])
        made = timl.CropClassifier(kernel, crop="cereals", random_state=0, **options)
        made.fit(x, renamed)
        assert made.pos_label_ == names["maize"]
        place = list(made.classes_).index(names["maize"])
        if "label" not in options:  # which changes what is expected of the positives
            np.testing.assert_array_equal(made.predict_proba(x)[:, place], expected[:, 1])
        likelier = made.classes_[made.predict_proba(x).argmax(axis=1)]
        np.testing.assert_array_equal(made.predict(x), likelier)
    other = np.where(y == "maize", "maize", "other")
    with pytest.raises(ValueError, match="pos_label is None, and y is of 'maize' and 'other'"):
        timl.CropClassifier(kernel).fit(x, other)
    with pytest.raises(ValueError, match="pos_label is 'rice', and y is of 'maize' and 'other'"):
        timl.CropClassifier(pos_label="rice").fit(x, other)


def several(n: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Series as measured, of three classes with a season of their own."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    x = rng.normal(1000, 300, size=(n, 12, 18))
    for number in range(3):
        x[y == number, 4 * number : 4 * number + 3, 8] += 900
    return x, np.array(["barley", "maize", "rice"])[y]


@pytest.mark.parametrize("protocol", ["strong", "paper"])
def test_several_classes(kernel: timl.nn.DeepKernel, protocol: str) -> None:
    x, y = several()
    options: dict[str, Any] = {"protocol": protocol, "random_state": 0}
    if protocol == "paper":
        options |= {"steps": 60, "learning_rate": 0.3}
    for model in (None, kernel if protocol == "strong" else Classifier()):
        made = timl.CropClassifier(model, **options).fit(x[:60], y[:60])
        probability = made.predict_proba(x[60:])
        assert probability.shape == (30, 3) and made.pos_label_ is None
        np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-6)
        np.testing.assert_array_equal(
            made.predict(x[60:]), made.classes_[probability.argmax(axis=1)]
        )
        if model is None:
            seen = slice(60) if protocol == "paper" else slice(60, 90)
            assert made.score(x[seen], y[seen]) > 0.8


def test_the_crops_of_several_classes_are_told_by_a_dict(kernel: timl.nn.DeepKernel) -> None:
    x, y = several()
    plain, told = (
        timl.CropClassifier(kernel, crop=crop, random_state=0).fit(x[:30], y[:30]).predict_proba(x)
        for crop in (None, {"barley": "cereals", "rice": "cereals"})
    )
    assert not np.array_equal(plain, told)
    for options, message in (
        ({"crop": "cereals"}, "crop is 'cereals', .* for y of 3 classes: give crop as a dict"),
        ({"pos_label": "rice"}, "and pos_label 'rice' for y of 3 classes"),
        ({"crop": {"oats": "cereals"}}, "crop has 'oats': 'cereals': give classes of y"),
        ({"crop": {"rice": "grain"}}, "with FAO classes of crop, non_crop, cereals"),
    ):
        with pytest.raises(ValueError, match=message):
            timl.CropClassifier(kernel, **options).fit(x, y)


def test_missing_values_are_completed_where_there_is_a_deep_kernel(
    kernel: timl.nn.DeepKernel,
) -> None:
    x, y = toy()
    x[::3, 4] = np.nan
    made = timl.CropClassifier(kernel, random_state=0).fit(x, y == "maize")
    assert np.isfinite(made.predict_proba(x)).all()
    for options in ({}, {"protocol": "paper", "steps": 1}):
        with pytest.raises(ValueError, match="X contains NaN"):
            timl.CropClassifier(**options).fit(x, y)
    descended = timl.CropClassifier(protocol="paper", steps=1).fit(toy()[0], y)
    with pytest.raises(ValueError, match="X contains NaN"):
        descended.predict(x)


def test_a_weight_is_a_number_of_copies(kernel: timl.nn.DeepKernel) -> None:
    x, y = toy(40)
    x[::5, 3] = np.nan
    weight = np.random.default_rng(1).integers(0, 4, 40)
    made = timl.CropClassifier(kernel, pos_label="maize", random_state=0)
    weighted = made.fit(x, y, weight).predict_proba(x)
    copies = np.repeat(np.arange(40), weight)
    again = clone(made).fit(x[copies], y[copies])
    one, many = made.classifier_, again.classifier_
    for name in ("task_mean", "levels", "kernel_weight", "slope", "shift"):
        torch.testing.assert_close(getattr(one, name), getattr(many, name), rtol=1e-4, atol=1e-5)
    # the copies' coefficients add up to those of what they are copies of; positives are first
    order = [
        i for side in (y == "maize", y != "maize") for i in np.flatnonzero(side & (weight > 0))
    ]
    owners = np.repeat(np.arange(len(order)), weight[order])
    summed = torch.zeros_like(one.coefficients)
    summed.index_add_(1, torch.from_numpy(owners), many.coefficients)
    torch.testing.assert_close(summed, one.coefficients, rtol=1e-3, atol=1e-4)
    assert np.abs(weighted - again.predict_proba(x)).max() < 0.1  # trees, where splits tie
    assert np.abs(weighted - clone(made).fit(x, y).predict_proba(x)).max() > 0.01
    # through a pipeline, too; ones change nothing but roundings
    pipe = make_pipeline(FunctionTransformer(np.asarray), clone(made))
    ones = pipe.fit(x, y, cropclassifier__sample_weight=np.ones(40)).predict_proba(x)
    np.testing.assert_allclose(ones, clone(made).fit(x, y).predict_proba(x), atol=1e-5)
    for bad, message in (
        (weight - 1, "Negative"), (weight[:9], "sample_weight.shape"), ([np.nan] * 40, "NaN")
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            made.fit(x, y, bad)
    with pytest.raises(ValueError, match="the paper's protocol does not take"):
        timl.CropClassifier(protocol="paper", steps=1).fit(toy()[0], toy()[1], np.ones(60))


def test_series_that_are_standardised_or_in_another_order_are_noticed() -> None:
    x, y = toy()
    with pytest.warns(UserWarning, match="in temperature_2m, which the record has in kelvin"):
        timl.CropClassifier(random_state=0).fit((x - x.mean((0, 1))) / x.std((0, 1)), y)
    flat = x.reshape(60, 216)
    names = [f"{band}_{month}" for month in range(12) for band in BANDS]
    made = timl.CropClassifier(random_state=0).fit(pd.DataFrame(flat, columns=names), y)
    assert list(made.feature_names_in_) == names
    by_band = pd.DataFrame(flat, columns=names)[[f"{b}_{m}" for b in BANDS for m in range(12)]]
    with pytest.raises(ValueError, match="column 'VV_1' at place 1, where VH of time step 0"):
        timl.CropClassifier().fit(by_band, y)
    timl.CropClassifier().fit(pd.DataFrame(flat).add_prefix("x"), y)


def test_without_a_model_the_same_head_has_learned_nothing_elsewhere() -> None:
    x, y = toy()
    made = timl.CropClassifier(random_state=0).fit(x[:20], y[:20])
    assert isinstance(made.classifier_, StrongClassifier)
    assert made.score(x[20:], y[20:]) > 0.9
    descended = timl.CropClassifier(protocol="paper", steps=2, random_state=0).fit(x, y)
    assert isinstance(descended.classifier_, Classifier)
    other = timl.CropClassifier(time_steps=2, steps=2, random_state=0).fit(x[:, :2], y)
    assert isinstance(other.classifier_, Classifier)
    with pytest.raises(ValueError, match="steps is 2, k is 5, which only the paper's"):
        timl.CropClassifier(steps=2, k=5).fit(x, y)
    with pytest.raises(ValueError, match=r"of shape \[2, 18\]: give \[T, 18\]"):
        timl.CropClassifier(time_steps=2, protocol="strong").fit(x[:, :2], y)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pretrained": timl.TIML(hidden=8)}, "lat is None, lon is None: give both in degrees"),
        ({"pretrained": timl.TIML(bands=4, encoder=False)}, r"\[12, 18\]: give \[12, 4\]"),
        ({"pretrained": timl.TIML(hidden=8), "lat": 91, "lon": 0}, r"min_lat is 91"),
        ({"protocol": "paper", "k": 0}, "k is 0"),
        ({"protocol": "paper", "steps": -1}, "steps is -1"),
        ({"time_steps": 6}, r"X is of shape \[60, 12, 18\]: give \[n, 6, bands\]"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], message: str) -> None:
    x, y = toy()
    with pytest.raises(ValueError, match=message):
        timl.CropClassifier(**arguments).fit(x, y == "maize")
    with pytest.raises(ValueError, match="215 numbers a series, which time_steps = 12"):
        timl.CropClassifier().fit(x.reshape(60, 216)[:, :215], y)
    with pytest.raises(ValueError, match="crop is 'maize': give one of non_crop, cereals"):
        timl.CropClassifier(crop="maize").fit(x, y)
    with pytest.raises(ValueError, match="label is 'maize', crop is None"):
        timl.CropClassifier(label="maize").fit(x, y)
    with pytest.raises(TypeError, match="pretrained is a int"):
        timl.CropClassifier(3).fit(x, y == "maize")


@pytest.mark.parametrize("options", [{}, {"protocol": "paper", "steps": 3}])
def test_on_a_gpu_it_predicts_what_it_does_on_the_cpu(gpu: str, options: dict[str, Any]) -> None:
    x, y = toy()
    bound = 1e-3 if torch.cuda.is_available() else 0
    here = timl.CropClassifier(random_state=0, **options).fit(x, y)
    there = clone(here).set_params(device=gpu).fit(x, y)
    assert {t.device.type for t in there.classifier_.state_dict().values()} == {"cuda"}
    assert np.abs(there.predict_proba(x) - here.predict_proba(x)).max() <= bound
    with pytest.raises(ValueError, match="device is 'gpu': give 'cpu', 'cuda' or"):
        timl.CropClassifier(device="gpu").fit(x, y)
