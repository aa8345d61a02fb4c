"""Kills at random moments: a few of those that tests/kill_and_rerun.py makes by the hundred."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "kill_and_rerun.py"


def test_a_killed_command_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    """TIML_TEST_KILLS sets the number of kills, for a longer run by hand."""
    pytest.importorskip("rasterio")
    kills = os.environ.get("TIML_TEST_KILLS", "1")
    words = ["--kills", kills, "--folder", tmp_path, "--commands", "simulate again"]
    told = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "0 differences and leftovers" in told.stdout.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_texts_that_only_tell_other_times_are_alike() -> None:
    text_of = runpy.run_path(str(SCRIPT))["text_of"]
    assert text_of(b"Time: 0.2 s, 59 min 54 s.") == text_of(b"Time: 12.5 s, 1 h 2 min.")
    assert text_of(b"Best: TIML 0.7") != text_of(b"Best: MAML 0.7")
