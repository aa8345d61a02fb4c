"""Where the real data are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real data for tests: TIML_SHARED_DATA, or shared/data near the checkout."""
    here = Path(__file__).resolve()
    candidates = [parent.parent / "shared" / "data" for parent in here.parents]
    if os.environ.get("TIML_SHARED_DATA"):
        candidates = [Path(os.environ["TIML_SHARED_DATA"])]
    for folder in candidates:
        if folder.is_dir():
            return folder
    pytest.skip("no real data here: set TIML_SHARED_DATA to the folder that holds realcrops")
