"""Jobs over processes: results, errors, deaths, stops, and scripts without a main guard."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from timl.evaluation.parallel import default_workers, run_jobs


def square(number: int) -> tuple[int, int, int, str | None]:
    if number < 0:
        raise ValueError(f"number is {number}")
    print("what jobs print does not disturb", flush=True)
    return number**2, os.getpid(), torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")


def add(state: list[int], number: int) -> int:
    state.append(number)
    return state[0] + number


def start() -> list[int]:
    return [100]


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait(folder: Path, number: int) -> int:
    """Finish job 0 once job 1 waits; that one until it is stopped."""
    started = folder / "started"
    if number == 0:
        while not started.exists():
            time.sleep(0.01)
        return 0
    try:
        started.write_text(str(os.getpid()))
        time.sleep(600)
    except KeyboardInterrupt:
        (folder / "kept").touch()
        raise
    return number


class OwnError(Exception):
    """Cannot be unpickled: it takes two arguments and tells one."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)


def fail(number: int) -> None:
    raise OwnError("one", "two")


def test_results_come_with_their_index_from_processes_of_one_thread() -> None:
    found = dict(run_jobs(square, range(5), workers=2))
    assert {index: result[0] for index, result in found.items()} == {i: i * i for i in range(5)}
    processes = {result[1] for result in found.values()}
    assert os.getpid() not in processes and len(processes) <= 2
    assert {result[2:] for result in found.values()} == {(1, "1")}
    assert 1 <= default_workers() <= (os.cpu_count() or 1)


def test_one_worker_is_this_process_and_needs_no_pickling() -> None:
    here = list(run_jobs(lambda number: (number, os.getpid()), [3, 4], workers=1))
    assert here == [(0, (3, os.getpid())), (1, (4, os.getpid()))]
    assert list(run_jobs(add, [1, 2], workers=1, prepare=start)) == [(0, 101), (1, 102)]
    assert list(run_jobs(square, [], workers=3)) == []
    with pytest.raises(ValueError, match="workers is 0: give at least 1"):
        run_jobs(square, [1], workers=0)


def test_state_is_made_in_each_process() -> None:
    assert sorted(run_jobs(add, [1, 2, 3], workers=2, prepare=start)) == [
        (0, 101), (1, 102), (2, 103),
    ]  # fmt: skip


def test_an_error_comes_as_it_is_with_its_traceback() -> None:
    with pytest.raises(ValueError, match="number is -1") as raised:
        list(run_jobs(square, [1, -1, 2], workers=2))
    assert "in square" in str(raised.value.__cause__)
    with pytest.raises(RuntimeError, match="OwnError: one"):
        list(run_jobs(fail, [1, 2], workers=2))


def test_a_process_that_dies_is_told_of() -> None:
    with pytest.raises(RuntimeError, match=r"killed by SIGKILL.*give fewer workers"):
        list(run_jobs(die, [1, 2], workers=2))


def test_what_cannot_be_sent_is_refused() -> None:
    with pytest.raises(pickle.PicklingError, match="workers=1"):
        run_jobs(lambda number: number, [1, 2], workers=2)


def test_an_error_in_the_consumer_stops_the_jobs(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        for _, result in run_jobs(partial(wait, tmp_path), [0, 1], workers=2):
            assert result == 0
            raise KeyboardInterrupt
    assert (tmp_path / "kept").exists()  # it had time for that
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "started").read_text()), 0)


SCRIPT = """
import math
from timl.evaluation.parallel import run_jobs
{definition}
print(sorted(run_jobs({function}, [4, 9], workers=2)))
"""


@pytest.mark.parametrize(
    ("definition", "function", "expected"),
    [
        ("", "math.sqrt", "[(0, 2.0), (1, 3.0)]\n"),
        ("def own(x): return x", "own", "own is defined in the main script or notebook"),
    ],
)
def test_a_script_without_a_main_guard(
    tmp_path: Path, definition: str, function: str, expected: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(definition=definition, function=function))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert expected in done.stdout + done.stderr and ("own" in done.stderr) == bool(definition)
