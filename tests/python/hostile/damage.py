"""Damaged files, and a process that reads them: it may crash without taking the tests with it."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from pathlib import Path

from hypothesis import strategies as st

SECONDS = 30.0
"""Longer than anything may take, whatever else the machine does."""

_WORKER = Path(__file__).with_name("reading.py")


@st.composite
def damages(draw: st.DrawFn, contents: bytes, head: int) -> bytes:
    """Change, remove or insert bytes among the first ones of a file's contents, or cut them off."""
    damaged = bytearray(contents)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, min(head, len(damaged)) - 1)))
        kind = draw(st.sampled_from(["flip", "set", "cut", "remove", "insert", "copy"]))
        if kind == "flip":
            damaged[place : place + 1] = bytes(
                byte ^ (1 << draw(st.integers(0, 7))) for byte in damaged[place : place + 1]
            )
        elif kind == "set":
            new = draw(st.sampled_from([b"\0", b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff"]))
            damaged[place : place + len(new)] = new
        elif kind == "cut":
            del damaged[place:]
        elif kind == "remove":
            del damaged[place : place + draw(st.integers(1, 64))]
        elif kind == "insert":
            damaged[place:place] = draw(st.binary(min_size=1, max_size=16))
        else:
            source = draw(st.integers(0, max(0, len(damaged) - 1)))
            damaged[place : place + 16] = damaged[source : source + 16]
    return bytes(damaged)


class Reader:
    """Process that reads files one after another and says what became of each."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def require_read_or_refused(self, door: str, path: Path) -> str:
        """Let a file be read; fail unless it is read, or refused with a ValueError, in time.

        Returns
        -------
        str
            "read" or "refused".
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([door, str(path)]).encode() + b"\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], SECONDS)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            self.close()
            code = self._process.returncode
            self._start()
            raise AssertionError(
                f"reading took more than {SECONDS} s" if not ready else f"the reader ended: {code}"
            )
        told: list[str] = json.loads(line)
        assert told[0] in ("read", "refused"), told
        return told[0]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
