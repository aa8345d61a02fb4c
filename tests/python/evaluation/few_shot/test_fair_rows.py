"""Rows that simple methods and frozen encoders get with the same features and class weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timl
from timl.data import CropHarvest
from timl.evaluation.few_shot import FewShotFold
from timl.evaluation.rows import BaselineRow, EmbeddingRow, Settings, find_rows, read_row
from timl.evaluation.rows.features import Features, class_weights

SETTINGS = Settings(1, 1, 0)

ENCODER = """
import numpy as np

def load(folder):
    scale = float((folder / "scale.txt").read_text())

    def encode(series, latitudes, longitudes):
        assert series.dtype == np.float32 and len(series) == len(latitudes) == len(longitudes)
        return scale * series.mean(axis=1)

    return encode
"""


@pytest.mark.parametrize(
    "name",
    [
        "extra-trees-described",
        "logistic-regression-described",
        "gradient-boosting-described",
        "extra-trees-described-pooled",
        "logistic-regression-described-pooled",
    ],
)
def test_described_rows_learn_from_ten_labels(
    folds: list[FewShotFold], name: str, tmp_path: Path
) -> None:
    prepared = find_rows([name])[0].prepare(SETTINGS, folds[0].training, tmp_path, False)
    task = folds[0].draw(0)
    once, again = (prepared.adapt(task.with_labels(5), 0) for _ in range(2))
    assert np.array_equal(np.asarray(once), np.asarray(again))
    assert timl.evaluate(once, task).auc_roc > 0.6


def test_an_encoder_of_ones_own_is_a_row(
    folds: list[FewShotFold], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_encoder.py").write_text(ENCODER)
    (tmp_path / "scale.txt").write_text("2.0")
    (tmp_path / "embeddings.toml").write_text(
        f'title = "Mine"\nmethod = "embedding"\nload = "my_encoder:load"\nweights = "{tmp_path}"\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    row = read_row(tmp_path / "embeddings.toml")
    assert isinstance(row, EmbeddingRow) and row.deterministic
    task = folds[0].draw(0)
    prepared = row.prepare(SETTINGS, None, tmp_path, False)
    assert timl.evaluate(prepared.adapt(task.with_labels(5), 0), task).auc_roc > 0.6
    with pytest.raises(ValueError, match="load is 'no_module:load', which cannot be imported"):
        EmbeddingRow(name="x", title="x", load="no_module:load").prepare(
            SETTINGS, None, tmp_path, False
        )
    with pytest.raises(ValueError, match="load is 'encoder': give module:name"):
        EmbeddingRow(name="x", title="x", load="encoder")


def test_features_are_standardised_over_the_data_set(data: CropHarvest) -> None:
    described = Features(data, "description")(data.series(np.arange(len(data))))
    assert described.shape == (len(data), 1, 459)
    spread = described.std(axis=(0, 1))
    assert (
        np.abs(described.mean(axis=(0, 1))).max() < 0.2 and ((spread < 1e-6) | (spread > 0.5)).all()
    )


def test_balanced_classes_weigh_the_same() -> None:
    y = np.array([1, 0, 0, 0], np.int8)
    weights = class_weights(y)
    assert weights[y == 1].sum() == weights[y == 0].sum() == 2


def test_a_network_over_time_takes_no_description() -> None:
    with pytest.raises(ValueError, match="give features 'series' and balanced false"):
        BaselineRow(name="x", title="x", classifier="temporal-cnn", features="description")
    with pytest.raises(ValueError, match="features is 'words': choose of series, description"):
        BaselineRow(name="x", title="x", classifier="extra-trees", features="words")
