"""Scores in season: more months tell more, completion beats the mean, divisions, files, errors."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timl
import torch
from timl.data import BenchmarkTask
from timl.evaluation.in_season import InSeasonTask
from timl.meta import fit_strong, learn_metric_kernel
from timl.nn import Classifier, DeepKernel


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> timl.CropHarvest:
    """A simulated world of a few countries."""
    folder = tmp_path_factory.mktemp("world") / "data"
    timl.data.simulate(folder, countries=6, samples=3000, seed=1)
    return timl.CropHarvest(folder)


@pytest.fixture(scope="module")
def kernel(world: timl.CropHarvest) -> DeepKernel:
    """Metric and correlation of the other countries."""
    found = learn_metric_kernel(timl.meta_tasks(world))
    assert found is not None
    return found


def by_the_mean(kernel: DeepKernel) -> DeepKernel:
    """Return a kernel that completes by the mean of the task's series."""
    plain = copy.deepcopy(kernel)
    plain.covariance.copy_(torch.eye(len(plain.covariance)))
    return plain


def test_more_months_tell_more(world: timl.CropHarvest, kernel: DeepKernel) -> None:
    found = [timl.in_season(kernel, task, [3, 12]).to_frame() for task in world.benchmarks]
    mean = pd.concat(found).groupby("months")["auc_roc"].mean()
    assert mean[12] > mean[3] + 0.02


def test_all_months_are_the_task_itself(world: timl.CropHarvest, kernel: DeepKernel) -> None:
    task = world.benchmarks[0]
    (cell,) = timl.in_season(kernel, task, [12], seed=3).cells
    scores = timl.evaluate(timl.finetune(kernel, task, seed=3), task)
    assert (cell.auc_roc, cell.f1, cell.test_samples) == (
        scores.auc_roc,
        scores.f1,
        scores.samples,
    )


def gains_of_completion(data: timl.CropHarvest, kernel: DeepKernel) -> list[float]:
    """Return AUC ROC above that of filling with the mean, where series have gaps of their own."""
    assert kernel.normalization is not None
    gains = []
    for task in data.benchmarks:
        x, y = task.train_arrays()
        test = task.test
        for series in (x, test.x):
            cloudy = np.random.default_rng(len(series)).random(series.shape[:2]) < 0.5
            cloudy[:, 0] = False
            series[cloudy] = np.nan
        complete, mean = (
            timl.evaluate(fit_strong(rule, x, y, normalization=kernel.normalization), test).auc_roc
            for rule in (kernel, by_the_mean(kernel))
        )
        gains.append(complete - mean)
    return gains


def test_completion_is_better_than_the_mean(world: timl.CropHarvest, kernel: DeepKernel) -> None:
    assert np.mean(gains_of_completion(world, kernel)) > 0.005


def test_completion_is_better_than_the_mean_on_real_series(realcrops: timl.CropHarvest) -> None:
    learned = learn_metric_kernel(timl.meta_tasks(realcrops))
    assert learned is not None
    assert np.mean(gains_of_completion(realcrops, learned)) > 0.01


def test_the_papers_protocol_takes_the_completed_series(
    world: timl.CropHarvest, kernel: DeepKernel
) -> None:
    model = timl.TIML(hidden=8)
    task = world.benchmarks[0]
    with pytest.raises(ValueError, match="model is a TIML without deep kernel"):
        timl.in_season(model, task, [4])
    with pytest.raises(ValueError, match="model is a Classifier without deep kernel"):
        timl.in_season(Classifier(hidden=8), task, [4])
    model.deep_kernel = kernel
    found = timl.in_season(model, task, [4], protocol="paper")
    seen = InSeasonTask(task, 4, completed_by=kernel)
    x, _ = InSeasonTask(task, 4).train_arrays()
    np.testing.assert_array_equal(seen.train_arrays()[0], kernel.complete(x, kernel.task_mean(x)))
    expected = timl.evaluate(timl.finetune(model, seen, protocol="paper"), seen)
    assert found.cells[0].auc_roc == expected.auc_roc
    x = torch.from_numpy(task.test.x[:2]) * torch.nan
    with pytest.raises(ValueError, match="NaN"):
        timl.finetune(model, seen, protocol="paper")(x)


def test_on_a_gpu_scores_are_those_of_the_cpu(
    gpu: str, world: timl.CropHarvest, kernel: DeepKernel
) -> None:
    here, there = (
        timl.in_season(kernel, world.benchmarks[0], [6], device=device) for device in (None, gpu)
    )
    assert there.cells[0].auc_roc == pytest.approx(here.cells[0].auc_roc, abs=1e-3)
    assert there.provenance["settings"]["device"] == "cuda:0"


def test_a_task_without_test_set_is_divided_in_space(
    world: timl.CropHarvest, kernel: DeepKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = world.benchmarks[0]
    monkeypatch.setattr(BenchmarkTask, "test", property(no_test))
    found = timl.in_season(kernel, task, [12], draws=2)
    table = found.to_frame()
    assert table["divisions"].tolist() == [4]
    assert table["last_month"].tolist() == ["Jan"]  # the world's series start in February
    for first, second in zip(found.cells[::2], found.cells[1::2], strict=True):
        assert first.labels == second.test_samples and second.labels == first.test_samples
    few = task.subset(10, 0)
    with pytest.raises(ValueError, match="5 positives and 5 negatives cannot be divided"):
        timl.in_season(kernel, few, [3])


def no_test(self: BenchmarkTask) -> None:
    raise FileNotFoundError


def test_months_have_names_and_the_table_is_written(
    world: timl.CropHarvest, kernel: DeepKernel, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    found = timl.in_season(kernel, world.benchmarks[0], [4, 2], first_month=10)
    table = found.to_frame()
    assert table[["months", "last_month"]].to_numpy().tolist() == [[2, "Nov"], [4, "Jan"]]
    found.save(tmp_path / "made")
    written = pd.read_csv(tmp_path / "made" / "in-season.csv")
    pd.testing.assert_frame_equal(written, table)
    assert len(json.loads((tmp_path / "made" / "in-season.json").read_text())["cells"]) == 2
    assert (tmp_path / "made" / "in-season.png").read_bytes().startswith(b"\x89PNG")
    assert f"| 4 (Jan) | {table['auc_roc'][1]:.3f} |" in found.to_markdown()
    assert "| 4 (Jan) |" in (tmp_path / "made" / "in-season.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"months": [0, 3]}, r"months is \[0, 3\]: give numbers from 1 to 12"),
        ({"months": []}, r"months is \[\]: give numbers"),
        ({"first_month": 13}, "first_month is 13: give a number from 1 to 12"),
        ({"draws": 0}, "draws is 0: give at least 1"),
    ],
)
def test_arguments_out_of_range_are_refused(
    world: timl.CropHarvest, kernel: DeepKernel, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        timl.in_season(kernel, world.benchmarks[0], **options)  # type: ignore[arg-type]
