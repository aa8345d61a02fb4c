"""The engine's operators in processes that are interrupted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def output(script: str, **variables: str) -> Any:
    """Run a script in a process of its own, with the calls of calls.py; return what it prints."""
    start = "import json, os, signal, sys, threading, time\nfrom calls import *\n"
    found = subprocess.run(
        [sys.executable, "-c", start + script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


LONG = {  # each takes seconds at least
    "evaluation": "evaluation(100_000)",
    "one large pass": "passes(20_000, 1)",
    "many small passes": "passes(20, 10_000)",
    "many tasks": "meta_gradient(1000, 3)",
    "a task of many steps": "meta_gradient(1, 2000)",
    "three tasks of many steps": "meta_gradient(3, 600)",
    "descriptions": "description(200_000)",
    "strong evaluation": "strong_evaluation(50_000)",
}
INTERRUPT = """
torch.set_num_threads({threads})
found = {{}}
for name, make in {calls}.items():
    call, sent = make(), []
    def interrupt():
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)
    timer = threading.Timer(0.25, interrupt)
    timer.start()
    try:
        call()
        found[name] = "finished"
    except BaseException as error:
        found[name] = type(error).__name__, str(error), time.monotonic() - sent[0]
    timer.join()
print(json.dumps(found))
"""


@pytest.fixture(scope="module", params=[1, 2])
def interrupted(request: pytest.FixtureRequest) -> dict[str, tuple[str, str, float]]:
    """How each long call ended that was interrupted after a quarter of a second."""
    calls = "{" + ", ".join(f"{name!r}: lambda: {call}" for name, call in LONG.items()) + "}"
    found: dict[str, tuple[str, str, float]] = output(
        INTERRUPT.format(threads=request.param, calls=calls)
    )
    return found


@pytest.mark.parametrize("name", LONG)
def test_interrupting_a_call_takes_less_than_half_a_second(
    interrupted: dict[str, tuple[str, str, float]], name: str
) -> None:
    assert interrupted[name][:2] == ["KeyboardInterrupt", ""]
    assert interrupted[name][2] < 0.5


def test_an_interrupted_program_ends_at_once() -> None:
    script = """
        import subprocess, json
        child = subprocess.Popen(
            [sys.executable, "-c", "from calls import *; call = meta_gradient(500, 5); "
             "print('ready', flush=True); call()"], stdout=-1, stderr=-1, text=True)
        child.stdout.readline()
        time.sleep(0.25)
        start = time.monotonic()
        child.send_signal(signal.SIGINT)
        errors = child.communicate()[1]
        print(json.dumps([time.monotonic() - start, errors.splitlines()[-1]]))
    """
    seconds, last = output("\n".join(line.strip() for line in script.splitlines()))
    assert last == "KeyboardInterrupt" and seconds < 1.5


def test_a_handler_of_ones_own_decides_and_the_next_call_is_whole() -> None:
    """What the handler raises ends the call; where it raises nothing, the call goes on."""
    script = """
class Enough(Exception):
    pass
def enough(number, frame):
    raise Enough("now")
call = meta_gradient(150, 3)
whole = call()
seen = []
signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.2)
same = all(torch.equal(a, b) for a, b in zip(call(), whole))
signal.signal(signal.SIGALRM, enough)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    call()
    raised = "nothing"
except Enough as error:
    raised = str(error)
again = all(torch.equal(a, b) for a, b in zip(call(), whole))
print(json.dumps([len(seen), same, raised, again]))
"""
    assert output(script) == [1, True, "now", True]
