"""Baselines: they learn, they repeat, and they refuse what they cannot learn from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import timl
from timl.baselines import Baseline, logistic_regression, random_forest
from timl.data import CropHarvest


def toy(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = rng.normal(size=(n, 12, 18))
    x[:, :, 5] += 2 * y[:, None]
    return x, y


@pytest.mark.parametrize("make", [random_forest, logistic_regression])
def test_a_baseline_learns_which_class_is_positive(make: Callable[[], Baseline]) -> None:
    x, y = toy(60, seed=0)
    probability = make().fit(x, y).predict_proba(toy(40, seed=1)[0])
    assert probability.shape == (40,) and probability.dtype == np.float64
    assert ((probability > 0.5) == (np.arange(40) % 2)).mean() > 0.9


def test_the_seed_fixes_the_forest() -> None:
    x, y = toy(60, seed=0)
    one, same, other = (random_forest(seed).fit(x, y).predict_proba(x) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_what_cannot_be_learned_from() -> None:
    x, y = toy(4, seed=0)
    for labels in (np.zeros(4), [0, 1, 2, 1], [0, 1], y[:, None]):
        with pytest.raises(ValueError, match=r"y is of shape .*: give shape \[4\] with both"):
            random_forest().fit(x, labels)
    for series in (x[0], x[:0], x.reshape(4, -1)):
        with pytest.raises(ValueError, match=r"x is of shape .*: give \[n, T, F\]"):
            random_forest().fit(series, y)


@pytest.mark.parametrize(
    ("name", "forest", "logistic"),
    [
        ("kenya_maize", 0.808, 0.850),
        ("fergana_rice", 0.918, 0.978),
        ("atlantic-canada_crop", 0.879, 0.849),
    ],
)
def test_known_figures_on_real_series(
    realcrops: CropHarvest, name: str, forest: float, logistic: float
) -> None:
    """AUC ROC of the table in docs/explanation/evaluation.md."""
    benchmark = realcrops.benchmark(name)
    x, y = benchmark.train_arrays()
    predicted = logistic_regression().fit(x, y).predict_proba(benchmark.test.x)
    assert timl.evaluate(predicted, benchmark).auc_roc == pytest.approx(logistic, abs=0.002)
    predicted = random_forest().fit(x, y).predict_proba(benchmark.test.x)
    assert timl.evaluate(predicted, benchmark).auc_roc == pytest.approx(forest, abs=0.04)
