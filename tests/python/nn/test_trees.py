"""Trees as arrays vote as scikit-learn's do."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from timl.nn.strong.trees import Trees
from timl.reference.strong import tree_votes


@settings(max_examples=25)
@given(
    st.integers(2, 60),
    st.integers(0, 99),
    st.sampled_from([ExtraTreesClassifier, RandomForestClassifier]),
)
def test_trees_vote_as_scikit_learns(samples: int, seed: int, kind: Any) -> None:
    generator = np.random.default_rng(seed)
    x = generator.integers(-3, 4, size=(samples, 4)).astype(np.float32) / 4  # values on thresholds
    y = generator.integers(0, 2, samples) == 1
    y[:2] = [True, False]
    forest = kind(n_estimators=7, class_weight="balanced", random_state=seed).fit(x, y)
    other = generator.normal(size=(50, 4)).astype(np.float32)
    trees = Trees.from_fitted(forest.estimators_)
    for given_x in (x, other):
        found = tree_votes(torch.from_numpy(given_x), *trees.arrays)
        np.testing.assert_allclose(found, forest.predict_proba(given_x)[:, 1], atol=1e-6)
