"""Fixtures shared by all tests: the real data set, packed once, and small ones."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from pretended_gpu import pretended_gpu
from timl._core import HAS_CUDA
from timl.data import CropHarvest
from timl.demo import demo
from worlds import Files, hdf5, measured, write_benchmarked_world, write_world
from zenodo_server import Server

# No test asserts how long something takes: a first example may import a library, on a busy machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# In the background of a shell processes start with Ctrl-C ignored, and so would those that tests
# interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


PROCESSES = (
    "test_runner.py",
    "test_few_shot.py",
    "test_nway_benchmark.py",
    "test_given_rows.py",
    "test_cubes.py",
)
"""Files whose tests send work to joblib's processes and to the Dask cluster's."""

LONGEST = (*PROCESSES, "test_notebooks.py", "test_documentation.py", "test_demo.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with what takes longest, so that no process waits for it in the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give whole files to a process, and all of `PROCESSES` to one: what they share is made once.

    pytest-xdist's own way, marks of groups, does nothing under pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return "processes" if file.endswith(PROCESSES) else file

    config.option.loadscopereorder = False
    return ByFile(config, log)


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
def small_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forests of ten trees, not a hundred: growing them is most of the strong protocol's time."""
    monkeypatch.setattr("timl.meta.strong.forest.TREES", 10)


@pytest.fixture(scope="module")
def few_labels() -> Iterator[None]:
    """Score with five labels alone in the demonstration: its command has no option for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(demo.__kwdefaults__, "budgets", (5,))
        yield


@pytest.fixture(scope="session")
def dask_cluster() -> Iterator[Any]:
    """A Dask cluster of two processes with a thread each."""
    distributed = pytest.importorskip("distributed", reason="dask[distributed] is not installed")
    from dask import config

    # it stays to the end, and would watch itself all the time
    rarely = {
        "worker.profile.enabled": False,
        "worker.memory.monitor-interval": "10s",
        "admin.tick.interval": "10s",
        "admin.system-monitor.interval": "10s",
    }
    with (
        config.set({f"distributed.{name}": value for name, value in rarely.items()}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def dask_client(dask_cluster: Any) -> Iterator[Any]:
    """A client of that cluster, for joblib and Dask to find."""
    with dask_cluster.get_client() as client:
        yield client


@pytest.fixture
def gpu() -> Iterator[str]:
    """Device of the machine's GPU; where there is none, of one that is pretended."""
    if HAS_CUDA and torch.cuda.is_available():
        yield "cuda"
        return
    with pretended_gpu():
        yield "cuda"


@pytest.fixture
def features() -> Files:
    """Five series, 0 to 4, of data set "made"."""
    return {f"features/arrays/{i}_made.h5": hdf5(array=measured(i)) for i in range(5)}


@pytest.fixture
def tests() -> Files:
    """One test file of three series."""
    x = np.stack([measured(100 + i) for i in range(3)])
    contents = hdf5(x=x, y=np.array([1, 0, -1]), lats=np.zeros(3), lons=np.ones(3))
    return {"test_features/made_crop.h5": contents}


@pytest.fixture
def world(tmp_path: Path, features: Files, tests: Files) -> Callable[..., Path]:
    """Write the small world, with some files added or replaced, and give its folder."""

    def write(extra: Files | None = None, archived: bool = True, name: str = "world") -> Path:
        return write_world(tmp_path / name, features | (extra or {}), tests, archived)

    return write


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
