"""The engine in processes that are interrupted, short of memory, or forked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def scripts() -> Iterator[subprocess.Popen[str]]:
    """The process that runs the scripts, see scripts.py."""
    with subprocess.Popen(
        [sys.executable, HERE / "scripts.py"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


def output(scripts: subprocess.Popen[str], script: str) -> Any:
    """Run a script in a process of its own, with the calls of calls.py; return what it prints."""
    start = "import json, os, signal, sys, threading, time\nfrom calls import *\n"
    assert scripts.stdin is not None and scripts.stdout is not None
    print(json.dumps(start + script), file=scripts.stdin, flush=True)
    printed, status = json.loads(scripts.stdout.readline())
    assert status == 0, "what it said is on standard error"
    return json.loads(printed)


LONG = {  # each takes seconds at least
    "evaluation": "evaluation(100_000)",
    "one large pass": "passes(20_000, 1)",
    "many small passes": "passes(20, 10_000)",
    "many tasks": "meta_gradient(1000, 3)",
    "a task of many steps": "meta_gradient(1, 2000)",
    "three tasks of many steps": "meta_gradient(3, 600)",
    "inner steps alone": "adaptation(5000)",
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
        while True:  # on a fast machine one call may end before
            call()
    except BaseException as error:
        found[name] = type(error).__name__, str(error), time.monotonic() - sent[0]
    timer.join()
print(json.dumps(found))
"""


@pytest.fixture(scope="module", params=[2])
def interrupted(
    request: pytest.FixtureRequest, scripts: subprocess.Popen[str]
) -> dict[str, tuple[str, str, float]]:
    """How each long call ended that was interrupted after a quarter of a second."""
    calls = "{" + ", ".join(f"{name!r}: lambda: {call}" for name, call in LONG.items()) + "}"
    found: dict[str, tuple[str, str, float]] = output(
        scripts, INTERRUPT.format(threads=request.param, calls=calls)
    )
    return found


@pytest.mark.parametrize("name", LONG)
def test_interrupting_a_call_takes_less_than_half_a_second(
    interrupted: dict[str, tuple[str, str, float]], name: str
) -> None:
    assert interrupted[name][:2] == ["KeyboardInterrupt", ""]
    assert interrupted[name][2] < 0.5


def test_an_interrupted_program_ends_at_once(scripts: subprocess.Popen[str]) -> None:
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
    seconds, last = output(scripts, "\n".join(line.strip() for line in script.splitlines()))
    assert last == "KeyboardInterrupt" and seconds < 6  # the whole call takes longer on any machine


def test_a_handler_of_ones_own_decides_and_the_next_call_is_whole(
    scripts: subprocess.Popen[str],
) -> None:
    """What the handler raises ends the call; where it raises nothing, the call goes on."""
    script = """
class Enough(Exception):
    pass
def enough(number, frame):
    raise Enough("now")
call = meta_gradient(60, 3)
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
    assert output(scripts, script) == [1, True, "now", True]


LARGE = {  # call, what it asks for, and on how many threads
    "a large pass": ("passes(30_000, 1)", "timl::network: 1.44 GiB", 1),
    "a task": ("meta_gradient(1, 1000)", "timl::meta_gradient: 1.81 GiB", 1),
    "tasks on several threads": ("meta_gradient(3, 1000)", "timl::meta_gradient: 1.81 GiB", 2),
    "descriptions": ("description(250_000)", "timl::describe: 0.427 GiB", 2),
}


@pytest.mark.parametrize("name", LARGE)
def test_memory_that_is_not_there_is_named_and_the_process_goes_on(
    scripts: subprocess.Popen[str], name: str
) -> None:
    call, asked, threads = LARGE[name]
    script = f"""
import resource
torch.set_num_threads({threads})
small, large = meta_gradient(2, 2), {call}
small()
used = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGESIZE")
resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 2**20,) * 2)
try:
    large()
    found = "finished"
except MemoryError as error:
    found = str(error)
small()
print(json.dumps(found))
"""
    assert output(scripts, script) == (
        f"{asked} of memory are needed at once, which the system does not give: give fewer series, "
        f"tasks or steps in a call"
    )


FORKS = {  # what the parent ran, and what the child is told of a large and of a small call
    "threads were used": ("call()", "fork", "done"),
    "nothing was computed": ("None", "done", "done"),
    "on one thread": ("torch.set_num_threads(1); call(); torch.set_num_threads(2)", "done", "done"),
    "the child takes one thread": ("call(); in_child.append(1)", "done", "done"),
}


@pytest.mark.parametrize("name", FORKS)
def test_a_fork_that_would_wait_for_ever_is_refused(
    scripts: subprocess.Popen[str], name: str
) -> None:
    before, *expected = FORKS[name]
    script = f"""
torch.set_num_threads(1)
call, small, in_child = evaluation(2000), evaluation(10), []
torch.set_num_threads(2)
{before}
reading, writing = os.pipe()
if os.fork() == 0:
    if in_child:
        torch.set_num_threads(1)
    found = []
    for one in (call, small):
        try:
            one()
            found.append("done")
        except RuntimeError as error:
            found.append(str(error))
    os.write(writing, json.dumps(found).encode())
    os._exit(0)
os.wait()
call()
print(os.read(reading, 10000).decode())
"""
    found = output(scripts, script)
    told = (
        "timl::network_evaluate: this process is a fork of one that had computed on several "
        'threads, and would wait for them for ever: start processes by "spawn" or "forkserver", or '
        "call torch.set_num_threads(1) in this one"
    )
    assert found == [told if e == "fork" else e for e in expected]
