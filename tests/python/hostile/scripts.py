"""A process that has loaded the engine and calls.py once, and runs each script in a fork of itself.

It has computed nothing itself, and so started no thread. A line of its input is a script, in JSON;
a line of its output what the script printed and its exit status, those of `os.waitpid`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import traceback

LONGEST = 60.0  # seconds


def run(script: str) -> tuple[str, int]:
    """Run a script in a fork of this process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, sys.stdout.fileno())
        for end in (reading, writing):
            os.close(end)
        try:
            exec(script, {})
            sys.stdout.flush()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(writing)
    printed = b""
    while True:
        if not select.select([reading], [], [], LONGEST)[0]:
            os.kill(child, signal.SIGKILL)
        part = os.read(reading, 65536)
        printed += part
        if not part:
            break
    os.close(reading)
    return printed.decode(), os.waitpid(child, 0)[1]


if __name__ == "__main__":
    import calls  # noqa: F401

    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)
