"""Fixtures shared by all tests: where the real data are, and the data set packed once."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from timl.data import CropHarvest
from worlds import write_benchmarked_world
from zenodo_server import Server


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


@pytest.fixture(scope="session")
def realcrops(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> CropHarvest:
    """The real data set, packed into a temporary folder."""
    if not (shared_data / "realcrops").is_dir():
        pytest.skip(f"{shared_data} has no folder realcrops")
    return CropHarvest(shared_data / "realcrops", cache=tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def benchmarked_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a made data set with two benchmarks."""
    return write_benchmarked_world(tmp_path_factory.mktemp("world") / "data")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that answers as Zenodo does, on this machine."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "TIML_ZENODO_URL"):
        monkeypatch.delenv(name, raising=False)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.stopping.set()
    server.shutdown()
    server.server_close()
    thread.join(5)
