"""A small classifier, an export, and maps without the files beside them."""

from __future__ import annotations

from pathlib import Path

import exports
import numpy as np
import pytest
import timl
import torch


@pytest.fixture(scope="session")
def classifier() -> timl.nn.Classifier:
    """Classifier of random weights, whose series start in February."""
    with timl.nn.seeded(0):
        made = timl.nn.Classifier(hidden=8).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(3)  # so that probabilities spread
    made.normalization = {
        "mean": np.linspace(1000, 3000, 18),
        "std": np.linspace(900, 1500, 18),
        "ndvi": "true",
        "start_months": [2],
    }
    return made


@pytest.fixture
def empty_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no picture of a map: that takes longer than the map."""
    module = "timl.maps.drawing.quicklook"
    monkeypatch.setattr(f"{module}.write_quicklook", lambda map, out, **_: Path(out).touch())


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Export of 30 x 40 pixels with some values missing, and a pixel without any radar."""
    raw = exports.bands(30, 40, seed=1)
    raw[5, 3, 4] = raw[-1, :, 0] = np.nan
    raw[0:-2:17, 7, 7] = np.nan
    return exports.write_export(tmp_path / "source" / "a_2019-02-06_2020-02-01.tif", raw)
