"""Fixtures: a data set of four regions and three surveys, and its folds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from few_shot_boxes import BOXES
from timl.data import CropHarvest
from timl.evaluation.few_shot import FewShotFold, few_shot_folds


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> CropHarvest:
    """Four regions of three surveys, 120 scattered samples each; the last two boxes overlap."""
    rng = np.random.default_rng(0)
    count = 480
    region = np.repeat(np.arange(4), count // 4)
    is_crop = np.arange(count) % 2
    series = rng.normal(size=(count, 12, 18)).astype(np.float32)
    series[:, :, 7] += 4 * is_crop[:, None]
    labels = pd.DataFrame(
        {
            "dataset": np.array(["first", "second", "third", "third"])[region],
            "index": np.arange(count),
            "lat": rng.uniform(0, 0.9, count) + np.array([0, 10, 20, 20.5])[region],
            "lon": rng.uniform(0, 0.9, count),
            "label": np.where(is_crop & (np.arange(count) % 4 == 1), "maize", None),
            "classification_label": "cereals",
            "is_crop": is_crop,
            "is_test": 0,
        }
    )
    root = tmp_path_factory.mktemp("few-shot")
    (root / "labels.geojson").write_text(labels.to_json())
    statistics = {"mean": np.zeros(18), "std": np.ones(18)}
    return CropHarvest.from_series(labels, series, **statistics, ndvi="true", root=root)


@pytest.fixture(scope="session")
def folds(data: CropHarvest) -> list[FewShotFold]:
    return few_shot_folds(data, BOXES)
