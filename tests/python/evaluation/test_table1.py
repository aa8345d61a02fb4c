"""Table 1 on a made world: what is written, kept, resumed and repeated."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timl
from rich.console import Console
from timl.evaluation import Table1Result
from timl.evaluation.paper.cells import Cell
from timl.evaluation.paper.result import duration
from timl.evaluation.rows import DEFAULT_ROWS, strong
from timl.evaluation.runner import CellStore
from timl.evaluation.statistics import estimate, estimate_groups, holm, paired_tests, smallest_p

SMALL: dict[str, Any] = {"epochs": 2, "runs": 2, "steps": 3, "workers": 1, "progress": False}
CELLS = 2 * (9 * 2 + 1)
"""Two benchmarks; two runs of every row but logistic regression."""


@pytest.fixture(scope="module", autouse=True)
def briefly_learned() -> Iterator[None]:
    """One step of the deep kernel's learning, not hundreds."""
    learn = strong.learn_deep_kernel
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strong, "learn_deep_kernel", lambda *a, **k: learn(*a, **{**k, "steps": 1}))
        yield


@pytest.fixture(scope="module")
def data(benchmarked_world: Path) -> timl.CropHarvest:
    return timl.CropHarvest(benchmarked_world)


@pytest.fixture(scope="module")
def out(data: timl.CropHarvest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished table."""
    folder = tmp_path_factory.mktemp("table")
    timl.table1(data, folder, **SMALL)
    return folder


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    """The cells that are computed from now on."""
    cells: list[Cell] = []
    add = CellStore.add
    monkeypatch.setattr(CellStore, "add", lambda store, k, c: (cells.extend(c), add(store, k, c)))
    return cells


def test_everything_is_written(data: timl.CropHarvest, out: Path) -> None:
    names = {
        "cells.jsonl",
        "experiment.json",
        "table1.csv",
        "table1.json",
        "table1.md",
        *DEFAULT_ROWS[3:],
    }
    if importlib.util.find_spec("pyarrow") is not None:
        names.add("table1.parquet")
    assert {path.name for path in out.iterdir()} == names
    header, *lines = (out / "table1.csv").read_text().splitlines()
    assert header == (
        "row,benchmark,run,seed,auc_roc,f1,iou,samples,average_precision,accuracy,brier,"
        "true_positives,false_positives,true_negatives,false_negatives,meta_seed,size"
    )
    assert len(lines) == CELLS
    assert lines[0].startswith("random-forest,world_0,0,0,") and lines[0].endswith(",0,all")
    stored = json.loads((out / "table1.json").read_text())
    assert tuple(stored["rows"]) == DEFAULT_ROWS
    forest = stored["rows"]["random-forest"]["scores"]
    assert forest["world_0"]["auc_roc"]["mean"] > 0.9 and forest["mean"]["f1"]["runs"] == 2
    provenance = stored["provenance"]
    assert provenance["settings"] == {
        "epochs": 2, "steps": 3, "seed": 0, "as_published_code": False, "runs": 2,
        "meta_seeds": 1, "sample_sizes": [None], "zero_shot": False, "compare_with": "timl",
    }  # fmt: skip
    assert provenance["data"]["checksum"] == data.checksum
    assert {"timl", "torch", "numpy", "scikit-learn"} <= set(provenance["versions"])
    # the benchmarks' regions have but the one task, which is withheld
    assert provenance["data"]["meta_training_tasks"] == ["R2_crop", "R3_crop"]


def test_the_cells_as_parquet(data: timl.CropHarvest, out: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(out / "table1.parquet")
    first = table.to_pylist()[0]
    header, line = (out / "table1.csv").read_text().splitlines()[:2]
    written = dict(zip(header.split(","), line.split(","), strict=True)) | {"size": "None"}
    assert {name: str(first[name]) for name in written} == written
    assert table.num_rows == CELLS and str(table.schema.field("size").type) == "int64"
    provenance = json.loads(table.schema.metadata[b"provenance"])
    assert provenance["data"]["checksum"] == data.checksum


def test_a_finished_table_is_not_computed_again(
    data: timl.CropHarvest, out: Path, computed: list[Cell]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    table = (out / "table1.csv").read_bytes()
    timl.table1(data, out, **SMALL)
    assert computed == [] and (out / "table1.csv").read_bytes() == table
    for path, time in before.items():
        assert path.name.startswith("table1") or path.stat().st_mtime_ns == time
    timl.table1(data, out, **{**SMALL, "runs": 3})
    assert len(computed) == 2 * 9 and {cell.run for cell in computed} == {2}


def test_an_interrupted_table_goes_on_to_the_same_bytes(
    data: timl.CropHarvest, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = CellStore.add
    added: list[Cell] = []

    def interrupt(store: CellStore[Cell], key: str, cells: list[Cell]) -> None:
        if len(added) == 15:  # within the runs after the meta-trainings
            raise KeyboardInterrupt
        added.extend(cells)
        add(store, key, cells)

    with monkeypatch.context() as patch:
        patch.setattr(CellStore, "add", interrupt)
        with pytest.raises(KeyboardInterrupt):
            timl.table1(data, tmp_path, **SMALL)
    assert added[-1].row == "maml" and not (tmp_path / "table1.csv").exists()
    rest: list[Cell] = []
    monkeypatch.setattr(CellStore, "add", lambda store, k, c: (rest.extend(c), add(store, k, c)))
    timl.table1(data, tmp_path, **SMALL)
    assert len(added) + len(rest) == CELLS
    timl.table1(data, out, **SMALL)
    assert (tmp_path / "table1.csv").read_bytes() == (out / "table1.csv").read_bytes()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 3}, r"epochs = 2 \(now 3\)"),
        ({"steps": 4, "rows": ["no-pre-training"]}, r"steps = 3 \(now 4\)"),
        ({"seed": 3}, r"seed = 0 \(now 3\)"),
        ({"as_published_code": True}, r"as_published_code = False \(now True\)"),
    ],
)
def test_a_table_of_other_settings_is_not_replaced(
    data: timl.CropHarvest, out: Path, changed: dict[str, Any], message: str
) -> None:
    before = (out / "table1.json").read_bytes()
    with pytest.raises(ValueError, match=rf"{message}.*: give the same .* remove .* to start anew"):
        timl.table1(data, out, **{**SMALL, **changed})
    assert (out / "table1.json").read_bytes() == before


def test_another_seed_gives_other_scores(data: timl.CropHarvest, tmp_path: Path) -> None:
    rows = ["no-pre-training", "logistic-regression"]
    first = timl.table1(data, tmp_path / "0", **SMALL, rows=rows)
    assert list(first.titles) == ["logistic-regression", "no-pre-training"]
    seeded = timl.table1(data, tmp_path / "3", **SMALL, rows=rows, seed=3)
    assert {cell.seed for cell in seeded.cells} == {3000, 3001}
    assert first.cells[2].scores != seeded.cells[2].scores


def test_on_a_gpu_the_scores_are_those_of_the_cpu(
    data: timl.CropHarvest, tmp_path: Path, gpu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("timl.meta.strong.forest.TREES", 3)
    rows = ["crop-pre-training", "timl", "strong"]
    options: dict[str, Any] = {**SMALL, "epochs": 1, "runs": 1, "steps": 2, "rows": rows}
    here = timl.table1(data, tmp_path / "cpu", **options)
    there = timl.table1(data, tmp_path / "gpu", **options, device=gpu)
    assert there.provenance["settings"]["device"] == "cuda"
    for one, other in zip(here.cells, there.cells, strict=True):
        np.testing.assert_allclose(one.scores.auc_roc, other.scores.auc_roc, atol=1e-3)
    with pytest.raises(ValueError, match=r"device = 'cuda' \(now None\)"):
        timl.table1(data, tmp_path / "gpu", **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "tpu"}, "device is 'tpu': give 'cpu', 'cuda'"),
        ({"rows": ["timl", "svm"]}, "no row svm: choose of random-forest"),
        ({"rows": []}, "no row is given"),
        ({"runs": 0}, "runs is 0: give 1 to 1000"),
        ({"epochs": 0}, "epochs is 0"),
        ({"steps": -1}, "steps is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"compare_with": "svm"}, "compare_with is 'svm': choose of the rows random-forest"),
        ({"workers": 0}, "workers is 0: give at least 1"),
    ],
)
def test_what_is_refused(
    data: timl.CropHarvest, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        timl.table1(data, tmp_path / "out", **{**SMALL, **arguments})
    assert not (tmp_path / "out").exists()


def test_a_file_of_something_else_is_left_alone(data: timl.CropHarvest, tmp_path: Path) -> None:
    (tmp_path / "cells.jsonl").write_text('{"row": "timl"}\n')
    with pytest.raises(ValueError, match=r"cells\.jsonl, line 1 is not a finished job"):
        timl.table1(data, tmp_path, **SMALL)
    assert (tmp_path / "cells.jsonl").read_text() == '{"row": "timl"}\n'


def test_how_it_is_shown(data: timl.CropHarvest, out: Path) -> None:
    result: Table1Result = timl.table1(data, out, **SMALL)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(result)
    printed = capture.get()
    assert max(len(line) for line in printed.splitlines()) <= 80
    for text in ("AUC ROC", "F1", "world", "mean", "No pre-training", "TIML"):
        assert text in printed
    assert f"{result.estimate('maml', 'world_1', 'auc_roc')}" in printed
    assert "<td>MAML</td>" in result._repr_html_()
    # best of a column: marked in each table by a star
    best = max(result.titles, key=lambda row: result.estimate(row, "mean", "f1").mean)
    text = str(result.estimate(best, "mean", "f1"))
    assert f"{text}*" in printed and f"**{text}**\\*" in str(result)
    assert len(result.table()) == 10 * 3 * 6


def test_mean_and_standard_error() -> None:
    one = estimate([0.5, 0.7, 0.9])
    assert one.mean == pytest.approx(0.7)
    assert one.standard_error == pytest.approx(0.2 / 3**0.5)
    assert str(one) == ".700 ± .115"
    assert str(estimate([1.0])) == "1.000"


def test_the_mean_over_benchmarks_is_taken_in_each_run(data: timl.CropHarvest, out: Path) -> None:
    result = timl.table1(data, out, **SMALL, rows=["random-forest"])
    scores = {(c.benchmark, c.run): c.scores.f1 for c in result.cells}
    runs = [(scores["world_0", run] + scores["world_1", run]) / 2 for run in range(2)]
    assert result.estimate("random-forest", "mean", "f1") == estimate(runs)


def test_times_for_people() -> None:
    assert [duration(s) for s in (4.24, 59.94, 192.4, 7500)] == [
        "4.2 s", "59.9 s", "3 min 12 s", "2 h 5 min"
    ]  # fmt: skip


def test_sample_sizes_zero_shot_and_repeated_meta_training(
    data: timl.CropHarvest, tmp_path: Path, computed: list[Cell]
) -> None:
    options = {**SMALL, "rows": ["logistic-regression", "maml"]}
    alone = timl.table1(data, tmp_path, **options)
    computed.clear()
    result = timl.table1(
        data, tmp_path, **options, meta_seeds=2, sample_sizes=[8, 20, 100, None], zero_shot=True
    )
    # benchmarks x (sizes x runs of logistic regression + maml twice: zero-shot, sizes x runs, all)
    assert len(computed) == 2 * (2 * 2 + 2 * (1 + 2 * 2) + 2)
    assert (tmp_path / "maml-1").is_dir()
    row = "logistic-regression"
    assert result.estimate(row, "mean", "f1") == alone.estimate(row, "mean", "f1")
    repeated = result.estimate("maml", "world_0", "brier")
    means = [
        np.mean(
            [
                c.scores.brier
                for c in result.cells
                if (c.row, c.benchmark, c.size, c.meta_seed) == ("maml", "world_0", None, seed)
            ]
        )
        for seed in range(2)
    ]
    assert (repeated.runs, repeated.meta_seeds) == (4, 2)
    assert repeated.mean == pytest.approx(np.mean(means))
    assert repeated.standard_error == pytest.approx(np.std(means, ddof=1) / 2**0.5)
    assert {c.seed for c in result.cells if c.row == "maml"} == {0, 1, 1000, 1001}
    curves = result.curves()
    assert set(curves.query("row == 'maml'")["size"].dropna()) == {0, 8, 20}
    assert set(curves.query("row == 'logistic-regression'")["size"].dropna()) == {8, 20}
    assert curves["auc_roc"].notna().all()
    stored = json.loads((tmp_path / "table1.json").read_text())
    assert len(stored["sample_sizes"]) == len(curves)
    lines = (tmp_path / "table1.csv").read_text().splitlines()
    assert sum(line.endswith(",1,20") for line in lines) == 4
    with pytest.raises(ValueError, match=r"sample_sizes is \[7, None\]"):
        timl.table1(data, tmp_path, **options, sample_sizes=[7, None])


def test_smaller_samples_are_balanced_and_nested(data: timl.CropHarvest) -> None:
    benchmark = data.benchmarks[0]
    small, large = benchmark.subset(8, seed=5), benchmark.subset(20, seed=5)
    for part in ("positives", "negatives"):
        few, many = getattr(small, part), getattr(large, part)
        assert (len(few), len(many)) == (4, 10)
        assert set(few) <= set(many) <= set(getattr(benchmark, part))
    assert list(benchmark.subset(8, seed=6).positives) != list(small.positives)
    with pytest.raises(ValueError, match="size is 42, and benchmark 'world_0' has 20 positives"):
        benchmark.subset(42, seed=0)


def test_as_published_code_is_another_meta_training(
    data: timl.CropHarvest, out: Path, tmp_path: Path
) -> None:
    timl.table1(data, tmp_path, **SMALL, rows=["maml"], as_published_code=True)
    run = json.loads((tmp_path / "maml" / "run.json").read_text())["run"]
    assert run["first_batch_of_one"] is run["validation_moves_statistics"] is True
    other = json.loads((out / "maml" / "run.json").read_text())["run"]
    assert other["first_batch_of_one"] is other["validation_moves_statistics"] is False


def test_paired_tests_between_rows() -> None:
    runs = {(0, run): run / 10 for run in range(8)}
    better = {key: value + 0.01 * (1 + key[1]) for key, value in runs.items()}
    once = {(0, 0): 2.0}
    found = paired_tests({"a": runs, "b": better, "c": once, "d": dict(runs)}, "a")
    by_row = {test.row: test for test in found}
    assert list(by_row) == ["b", "c", "d"] and {test.other for test in found} == {"a"}
    assert by_row["d"].p == by_row["d"].p_corrected == 1
    # all eight differences have one sign: 2 of 2**8 orders are as extreme
    assert by_row["b"].p == pytest.approx(2 / 2**8) == smallest_p(8, 1)
    assert by_row["b"].p_corrected == pytest.approx(3 * 2 / 2**8) == smallest_p(8, 3)
    assert by_row["b"].difference == pytest.approx(0.045)
    assert by_row["c"].pairs == 8 and by_row["c"].difference > 1
    # the ten rows of the table over ten runs
    assert smallest_p(10, 9) < 0.05 < smallest_p(10, 45)
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def test_the_time_of_the_records_experiment(data: timl.CropHarvest, tmp_path: Path) -> None:
    rows = ["crop-pre-training", "timl"]
    result = timl.table1(data, tmp_path, **SMALL, rows=rows)
    trainings = result.provenance["trainings"]
    history = json.loads((tmp_path / "timl" / "history.json").read_text())
    assert trainings["timl"]["task_visits"] == 2 * 2  # two tasks, of which one validates
    assert trainings["timl"]["seconds"] == pytest.approx(sum(history["seconds"]))
    means = {row: np.mean([c.seconds for c in result.cells if c.row == row]) for row in rows}
    found = result.full_experiment()
    visit = trainings["timl"]["seconds"] / 4
    assert found["timl"] == pytest.approx(visit * 525 * 1000 + 30 * means["timl"])
    pool = trainings["crop-pre-training"]
    expected = pool["seconds"] / pool["series_visits"] * 65_690 * 1000
    assert found["crop-pre-training"] == pytest.approx(expected + 30 * means["crop-pre-training"])
    assert result.describe_full_experiment() in str(Table1Result.load(tmp_path))
    assert f"would take {duration(sum(found.values()))} one after another" in str(result)


def test_two_sources_of_variance() -> None:
    """Means 1 and 3: variance 2 between, of which 1 / 2 is that of two runs each."""
    both = estimate_groups([[0.5**0.5 + 1, 1 - 0.5**0.5], [0.5**0.5 + 3, 3 - 0.5**0.5]])
    assert both.mean == pytest.approx(2) and both.standard_error == pytest.approx(1)
    assert both.run_deviation == pytest.approx(1)
    assert both.meta_deviation == pytest.approx(1.5**0.5)


def test_best_and_second_best_are_marked_and_compared(data: timl.CropHarvest, out: Path) -> None:
    result = timl.table1(data, out, **SMALL)
    order = sorted(
        {result.estimate(row, "mean", "auc_roc").mean for row in result.titles}, reverse=True
    )
    first, second = (
        next(r for r in result.titles if result.estimate(r, "mean", "auc_roc").mean == value)
        for value in order[:2]
    )
    text = str(result)
    assert f"**{result.estimate(first, 'mean', 'auc_roc')}**\\*" in text
    assert f"{result.estimate(second, 'mean', 'auc_roc')}°" in text
    assert "Mean AUC ROC against that of TIML over 2 runs" in text
    stored = json.loads((out / "table1.json").read_text())
    assert stored["compared_with"] == "timl" and len(stored["tests"]["mean"]["auc_roc"]) == 9
    other = timl.table1(data, out, **SMALL, compare_with="random-forest")
    assert {test.other for test in other.tests("mean", "f1")} == {"random-forest"}
    assert "against that of Random Forest over 2 runs" in str(other)
    assert other.compared_with == "random-forest"
    assert timl.table1(data, out, **SMALL, rows=["maml"]).compared_with == "maml"
