"""Maps of chips, and their scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from timl.area import open_map
from timl.data import Chip, open_chips, simulate_chips
from timl.maps import evaluate_chips, predict_chip
from timl.nn import Classifier, seeded
from timl.nn.devices import device_of

rasterio = pytest.importorskip("rasterio")


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> list[Chip]:
    return open_chips(simulate_chips(tmp_path_factory.mktemp("c") / "chips", 3, 1, size=64, seed=5))


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    with seeded(0):
        made = Classifier(6, 3, 8, outputs=13).eval()
    made.normalization = {"mean": np.full(6, 1500.0), "std": np.full(6, 800.0), "ndvi": "unknown"}
    return made


def test_a_map_holds_the_class_of_each_pixel(
    chips: list[Chip], classifier: Classifier, tmp_path: Path
) -> None:
    for chip in chips:
        found = predict_chip(classifier, chip, tmp_path / "map.tif")
        series = chip.series()
        missing = np.isnan(series).any(axis=(2, 3))
        assert (found[missing] == -1).all() and (found[~missing] >= 0).all()
        x = torch.from_numpy(((series[~missing].astype(np.float64) - 1500) / 800).astype("f4"))
        with torch.no_grad():
            expected = classifier(x).argmax(1).numpy()
        np.testing.assert_array_equal(found[~missing], expected)
        with open_map(tmp_path / "map.tif") as opened:
            assert tuple(opened.names.values()) == chip.class_names
            (strip,) = opened.strips()
        np.testing.assert_array_equal(np.where(strip.valid, strip.classes, -1), found)


def test_scores_count_every_labelled_pixel_of_all_chips(
    chips: list[Chip], classifier: Classifier
) -> None:
    scores = evaluate_chips(classifier, chips)
    right = labelled = 0
    for chip in chips:
        labels, found = chip.labels(), predict_chip(classifier, chip)
        labelled += (labels >= 0).sum()
        right += ((labels >= 0) & (labels == found)).sum()
    assert scores.samples == labelled
    assert scores.overall_accuracy == right / labelled


def test_on_a_gpu_maps_are_those_of_the_cpu(
    gpu: str, chips: list[Chip], classifier: Classifier
) -> None:
    here, there = (predict_chip(classifier, chips[0], device=device) for device in (None, gpu))
    assert (here == there).mean() >= (0.999 if torch.cuda.is_available() else 1)
    scores = evaluate_chips(classifier, chips[:1], device=gpu)
    assert scores.overall_accuracy == pytest.approx(
        evaluate_chips(classifier, chips[:1]).overall_accuracy, abs=0.01
    )
    assert device_of(classifier).type == "cpu"
    with pytest.raises(ValueError, match="device is 'gpu': give 'cpu'"):
        predict_chip(classifier, chips[0], device="gpu")


def test_what_does_not_fit_is_refused(
    chips: list[Chip], classifier: Classifier, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="13 outputs, and classes is"):
        predict_chip(classifier, chips[0], classes=["a", "b"])
    with pytest.raises(ValueError, match="no normalization"):
        predict_chip(Classifier(6, 3, 8, outputs=13), chips[0])
    with pytest.raises(ValueError, match="out is"):
        predict_chip(classifier, chips[0], tmp_path / "map.png")
    other = Chip(chips[0].image, bands=("a", "b", "c"))
    with pytest.raises(ValueError, match="6 dates and 3 bands: give one of 3 and 6"):
        predict_chip(classifier, other)
    with pytest.raises(ValueError, match="an empty list"):
        evaluate_chips(classifier, [])
