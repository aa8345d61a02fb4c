"""The runner: the same cells from any processes, and none lost however a call ends."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import timl
import torch
from numpy.typing import NDArray
from timl.data import BenchmarkTask, TaskSet
from timl.evaluation.rows import Prepared, Row, Settings
from timl.evaluation.runner import CellStore, Workers, worker_count

ROWS = ["logistic-regression", "no-pre-training", "crop-pre-training", "timl"]
SMALL: dict[str, Any] = {"epochs": 2, "runs": 2, "steps": 3, "progress": False}


@pytest.fixture(scope="module")
def data(benchmarked_world: Path) -> timl.CropHarvest:
    return timl.CropHarvest(benchmarked_world)


# --- the same bits -------------------------------------------------------------------------------


def test_the_table_is_the_same_from_one_process_loky_and_dask(
    data: timl.CropHarvest, tmp_path: Path, dask_client: Any
) -> None:
    tables = {}
    for workers, active in (
        (1, nullcontext()),
        (2, nullcontext()),
        (None, joblib.parallel_config(backend="dask")),
    ):
        out = tmp_path / str(workers)
        with active:
            result = timl.table1(data, out, **SMALL, rows=ROWS, workers=workers)
        assert result.provenance["workers"] == (workers or 2)
        tables[workers] = (out / "table1.csv").read_bytes()
        assert not list(out.glob(".jobs-*"))
        for name in ("timl", "crop-pre-training"):
            model = f"{name}/model.safetensors"
            assert (out / model).read_bytes() == (tmp_path / "1" / model).read_bytes()
    assert tables[1] == tables[2] == tables[None]


def test_what_workers_means() -> None:
    assert worker_count(None) == joblib.cpu_count()
    assert (worker_count(1), worker_count(7)) == (1, 7)
    with joblib.parallel_config("loky", n_jobs=3):
        assert (worker_count(None), worker_count(2)) == (3, 2)
    with joblib.parallel_config("threading", n_jobs=3):
        assert worker_count(1) == 1
        with pytest.raises(ValueError, match=r"ThreadingBackend: give one that computes in proc"):
            worker_count(None)
    with pytest.raises(ValueError, match="workers is 0: give at least 1"):
        worker_count(0)


def test_data_of_memory_is_sent_whole_and_mapped_data_as_its_place(
    data: timl.CropHarvest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    positions = data.labels["position"].to_numpy()
    labels = data.labels[(positions >= 0) & (data.labels["is_test"] == 0)]
    series = np.asarray(data.series(labels["position"].to_numpy(), normalize=False))
    memory = timl.CropHarvest.from_series(
        labels, series, mean=data.mean, std=data.std, ndvi=data.ndvi
    )
    copy = pickle.loads(pickle.dumps(memory))
    assert np.array_equal(copy.series([0, 5]), memory.series([0, 5]))
    monkeypatch.chdir(data.root.parent)
    mapped = pickle.dumps(timl.CropHarvest(data.root.name))
    assert len(mapped) < len(pickle.dumps(memory)) - series.nbytes / 2
    monkeypatch.chdir(tmp_path)  # a worker of a cluster is elsewhere
    assert np.array_equal(pickle.loads(mapped).series([0, 5]), data.series([0, 5]))


# --- processes -----------------------------------------------------------------------------------


def about_itself(number: int) -> tuple[int, int, int]:
    if number < 0:
        raise ValueError(f"number is {number}")
    return number**2, os.getpid(), torch.get_num_threads()


def test_processes_have_one_thread_and_stay_for_the_next_call(tmp_path: Path) -> None:
    pids = []
    for _ in range(2):
        with Workers(about_itself, tmp_path, 2) as workers:
            found = dict(workers.run(range(6)))
        assert {number: reply[0] for number, reply in found.items()} == {
            number: number**2 for number in range(6)
        }
        assert {reply[2] for reply in found.values()} == {1}
        pids.append({reply[1] for reply in found.values()})
    assert os.getpid() not in pids[0] | pids[1] and len(pids[0] | pids[1]) <= 2
    with Workers(about_itself, tmp_path, 1) as here:
        assert [reply[1] for _, reply in here.run([1, 2])] == [os.getpid()] * 2


def test_functions_of_no_module_are_sent_and_what_cannot_be_is_refused(tmp_path: Path) -> None:
    lock = threading.Lock()
    with Workers(lambda number: number + 1, tmp_path, 2) as workers:
        assert sorted(workers.run([1, 2])) == [(0, 2), (1, 3)]
    with (
        Workers(lambda number: lock and number, tmp_path, 2) as workers,
        pytest.raises(ValueError, match=r"cannot be sent to another process .* give workers=1"),
    ):
        list(workers.run([1, 2]))
    assert not list(tmp_path.iterdir())


class TwoArgumentsError(Exception):
    """Cannot be read back from a pickle: it takes two arguments and keeps one."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)


def test_an_error_comes_as_it_is_with_its_traceback(tmp_path: Path) -> None:
    def fail(number: int) -> None:
        raise TwoArgumentsError("one", "two")

    with Workers(about_itself, tmp_path, 2) as workers:
        with pytest.raises(ValueError, match="number is -1") as raised:
            list(workers.run([1, -1, 2]))
        assert "in about_itself" in str(raised.value.__cause__)
    with (
        Workers(fail, tmp_path, 2) as workers,
        pytest.raises(RuntimeError, match="TwoArgumentsError: one"),
    ):
        list(workers.run([1, 2]))


@dataclass(frozen=True, kw_only=True)
class Interruptible(Row):
    """A row that waits in its second run, or kills its process, until it is let go on."""

    folder: str
    kills: bool = False

    def configuration(self, settings: Settings, tasks: TaskSet | None) -> dict[str, Any]:
        return {"name": self.name}  # however it ends: its predictions are the same

    def prepare(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> Prepared:
        def adapt(benchmark: BenchmarkTask, seed: int) -> NDArray[np.float64]:
            marks = Path(self.folder)
            (marks / f"{os.getpid()}.pid").touch()
            if seed == 1 and not (marks / "go").exists():
                while not (marks / "kept").exists():  # the cells of the first run
                    time.sleep(0.01)
                if self.kills:
                    os.kill(os.getpid(), signal.SIGKILL)
                try:
                    (marks / "waiting").touch()
                    time.sleep(600)
                except KeyboardInterrupt:
                    (marks / "checkpoint").touch()
                    raise
            return np.full(len(benchmark.test.y), 0.5)

        return Prepared(adapt)


def alive(marks: Path) -> list[int]:
    """Return which of the processes that computed are still there."""
    found = []
    for pid in (int(path.stem) for path in marks.glob("*.pid")):
        try:
            os.kill(pid, 0)
            found.append(pid)
        except ProcessLookupError:
            pass
    return found


def test_a_process_that_dies_is_told_of_and_no_cell_is_lost(
    data: timl.CropHarvest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    row = Interruptible(name="own", title="Own", folder=str(marks), kills=True)
    add, keys = CellStore.add, []

    def mark(store: CellStore[Any], key: str, cells: list[Any]) -> None:
        add(store, key, cells)
        keys.append(key)
        if len(keys) == 2:  # the first run on both benchmarks
            (marks / "kept").touch()

    monkeypatch.setattr(CellStore, "add", mark)
    with pytest.raises(RuntimeError, match=r"a worker process died.*give fewer workers"):
        timl.table1(data, tmp_path, **SMALL, rows=[row], workers=2)
    assert not alive(marks) and not list(tmp_path.glob(".jobs-*"))
    assert len((tmp_path / "cells.jsonl").read_text().splitlines()) == len(keys) == 2
    with (tmp_path / "cells.jsonl").open("a") as file:
        file.write('{"key": "ab')  # as a power failure leaves it
    (marks / "go").touch()
    result = timl.table1(data, tmp_path, **SMALL, rows=[row], workers=1)
    assert len(result.cells) == len(set(keys)) == len(keys) == 4
    assert len((tmp_path / "cells.jsonl").read_text().splitlines()) == 4


def test_a_consumer_that_stops_leaves_no_process(tmp_path: Path) -> None:
    marks = tmp_path

    def wait(number: int) -> int:
        (marks / f"{os.getpid()}.pid").touch()
        if number == 0:
            while not (marks / "waiting").exists():
                time.sleep(0.01)
            return 0
        try:
            (marks / "waiting").touch()
            time.sleep(600)
        except KeyboardInterrupt:
            (marks / "checkpoint").touch()
            raise
        return number

    with Workers(wait, tmp_path, 2) as workers:
        results = workers.run(range(8))
        assert next(results) == (0, 0)
        results.close()
        assert (marks / "checkpoint").exists() and not alive(marks)


SCRIPT = """
    import sys
    from pathlib import Path
    import timl
    from timl.evaluation.runner import CellStore

    sys.path.insert(0, {tests!r})
    from test_runner import Interruptible, SMALL

    class Own(Interruptible):
        "A class of a script without a main guard."

    add, kept = CellStore.add, []

    def mark(store, key, cells):
        add(store, key, cells)
        kept.append(key)
        if len(kept) == 2:
            Path({marks!r}, "kept").touch()

    CellStore.add = mark
    row = Own(name="own", title="Own", folder={marks!r})
    timl.table1(timl.CropHarvest({data!r}), {out!r}, **SMALL, rows=[row], workers=2)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_script_that_is_stopped_leaves_no_process_and_keeps_its_cells(
    data: timl.CropHarvest, tmp_path: Path, number: signal.Signals
) -> None:
    marks, out = tmp_path / "marks", tmp_path / "out"
    marks.mkdir()
    places = {"tests": str(Path(__file__).parent), "marks": str(marks)}
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT).format(**places, data=str(data.root), out=str(out)))
    started = subprocess.Popen(
        [sys.executable, script], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        wait_for(lambda: (marks / "waiting").exists() or started.poll() is not None, 300)
        assert started.poll() is None, started.communicate()[1]
        # Ctrl-C reaches all processes of a terminal
        (os.killpg if number == signal.SIGINT else os.kill)(started.pid, number)
        error = started.communicate(timeout=60)[1]
    finally:
        started.kill()
    if number == signal.SIGINT:
        assert error.rstrip().endswith("KeyboardInterrupt") and error.count("Traceback") == 1
    wait_for(lambda: not alive(marks), 60)
    assert (marks / "checkpoint").exists()  # the running job had time to keep what it had
    assert len((out / "cells.jsonl").read_text().splitlines()) == 2
    (marks / "go").touch()
    row = Interruptible(name="own", title="Own", folder=str(marks))
    timl.table1(data, out, **SMALL, rows=[row], workers=1)
    assert len((out / "cells.jsonl").read_text().splitlines()) == 4


def wait_for(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
