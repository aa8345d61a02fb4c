"""Methods that others bring: estimators, networks and their names, in both experiments."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timl
import torch
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from timl.cli import app
from timl.evaluation.rows import EstimatorRow, ModuleRow, Settings, find_rows, read_row
from torch import nn
from typer.testing import CliRunner, Result

SMALL: dict[str, Any] = {"epochs": 1, "runs": 2, "steps": 1, "progress": False}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


class Flat(nn.Module):
    """A linear network on the numbers in a row."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.linear = nn.Linear(216, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.flatten(1))


def normed() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(216), nn.Linear(216, 1), nn.Flatten(0))


@pytest.fixture(scope="module")
def data(benchmarked_world: Path) -> timl.CropHarvest:
    return timl.CropHarvest(benchmarked_world)


def test_an_object_is_a_row_called_after_its_class() -> None:
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    wide = functools.partial(Flat, outputs=1)
    given = [KNeighborsClassifier(3), ExtraTreesClassifier, pipeline, Flat, normed, wide]
    for one, name, title, kind in zip(
        given,
        ("k-neighbors-classifier", "extra-trees-classifier",
         "standard-scaler-logistic-regression", "flat", "normed", "flat"),
        ("KNeighborsClassifier", "ExtraTreesClassifier",
         "StandardScaler + LogisticRegression", "Flat", "normed", "Flat"),
        (EstimatorRow, EstimatorRow, EstimatorRow, ModuleRow, ModuleRow, ModuleRow),
        strict=True,
    ):  # fmt: skip
        (row,) = find_rows([one])
        assert (row.name, row.title, type(row)) == (name, title, kind)
    with pytest.raises(ValueError, match=r"several rows are called .*EstimatorRow\(name="):
        find_rows([KNeighborsClassifier(3), KNeighborsClassifier(5)])


def test_rows_of_ones_own_are_scored_as_by_hand_and_go_to_other_processes(
    data: timl.CropHarvest, tmp_path: Path
) -> None:
    forest = EstimatorRow(
        name="mine", title="Mine", estimator=RandomForestClassifier(20), balanced=True
    )
    short = ModuleRow(name="short", title="Short", module=normed, epochs=3)
    rows = ["random-forest", KNeighborsClassifier(3), forest, Flat, short]
    one, two = (
        timl.table1(data, tmp_path / str(count), **SMALL, rows=rows, workers=count)
        for count in (1, 2)
    )
    assert [c.scores for c in one.cells] == [c.scores for c in two.cells]
    assert one.titles["k-neighbors-classifier"] == "KNeighborsClassifier"
    task = data.benchmarks[0]
    x, y = task.train_arrays()
    by_hand = KNeighborsClassifier(3).fit(x.reshape(len(x), -1), y)
    expected = by_hand.predict_proba(task.test.x.reshape(len(task.test), -1))[:, 1]
    cells = [c for c in one.cells if c.row == "k-neighbors-classifier" and c.benchmark == task.name]
    assert len(cells) == 1  # nothing in it is drawn
    assert cells[0].scores == timl.evaluate(expected, task)
    drawn = [c.scores for c in one.cells if c.row == "mine" and c.benchmark == task.name]
    assert len(drawn) == 2
    stored = json.loads((tmp_path / "1" / "table1.json").read_text())
    told = stored["provenance"]["rows"]["k-neighbors-classifier"]
    assert told["object"].endswith(":KNeighborsClassifier")
    assert told["parameters"]["n_neighbors"] == "3"
    with pytest.raises(ValueError, match=r"row k-neighbors-classifier = .*'5'"):
        timl.table1(data, tmp_path / "1", **SMALL, rows=[KNeighborsClassifier(5)], workers=1)


def test_a_name_in_a_module_of_the_working_directory_is_a_row(
    benchmarked_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_methods.py").write_text(
        "from sklearn.tree import DecisionTreeClassifier\n"
        "from torch import nn\n"
        "class Shallow(DecisionTreeClassifier):\n"
        "    def __init__(self, max_depth=2, random_state=None):\n"
        "        super().__init__(max_depth=max_depth, random_state=random_state)\n"
        "class Small(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.all = nn.Sequential(nn.Flatten(), nn.Linear(216, 1))\n"
        "    def forward(self, x):\n"
        "        return self.all(x)\n"
    )
    Path("tree.toml").write_text(
        'title = "Described tree"\nmethod = "estimator"\nestimator = "my_methods:Shallow"\n'
        'features = "description"\nbalanced = true\n'
    )
    rows = "nearest-class-mean,my_methods:Shallow,my_methods:Small,tree.toml"
    result = run("table1", "--data", benchmarked_world, "--out", "out", "--rows", rows,
                 "--runs", 1, "--quiet", "--workers", 2)  # fmt: skip
    assert result.exit_code == 0, result.output
    document = json.loads(Path("out/table1.json").read_text())
    assert set(document["provenance"]["rows"]) == {"shallow", "small", "tree"}
    assert isinstance(read_row("tree.toml"), EstimatorRow)
    wrong = run("table1", "--data", benchmarked_world, "--out", "o2", "--rows", "my_methods:None_")
    assert wrong.exit_code == 2 and "cannot be imported" in wrong.stderr


def test_networks_that_return_no_logits_are_named(data: timl.CropHarvest, tmp_path: Path) -> None:
    wide = ModuleRow(name="wide", title="Wide", module=functools.partial(Flat, 2), epochs=1)
    prepared = wide.prepare(Settings(1, 1, 0), None, tmp_path, False)
    with pytest.raises(ValueError, match=r"Flat that returns \[\d+, 2\] for"):
        prepared.adapt(data.benchmarks[0], 0)
    x, y = np.zeros((65, 12, 18), np.float32), np.arange(65) % 2
    fitted = timl.baselines.NetworkClassifier(normed, epochs=1).fit(x, y)  # 64 + 1 in a batch
    assert fitted.predict_proba(x).shape == (65,)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (SVC(), ValueError, "a SVC without predict_proba"),
        (Flat(), ValueError, "module is a Flat: give its class"),
        (3, TypeError, "rows holds a int"),
        (StandardScaler(), ValueError, "a StandardScaler without predict_proba"),
        ("no_such_module:Name", ValueError, "cannot be imported"),
        ("timl:", ValueError, "give module:name"),
    ],
)
def test_what_is_no_method(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        find_rows([given])
    with pytest.raises(ValueError, match="takes no sample_weight"):
        EstimatorRow(name="a", title="A", estimator=KNeighborsClassifier(), balanced=True)
