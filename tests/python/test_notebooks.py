"""The notebooks run from top to bottom, and are kept as a reader needs them: small and clean."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
LARGEST = 150_000
FOREIGN = re.compile(
    r"/(?:home|root|tmp|work|Users|usr|opt)/|Traceback|Warning\b|object at 0x|\bseconds\b"
)

START = """
%reset -f
from timl.meta.strong import forest
forest.TREES = 10
del forest
"""
"""What is run before each: no names of another, and forests that grow in a tenth of the time."""

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The process that runs all of them, in one folder: libraries are loaded once."""
    for module in ("nbclient", "nbformat", "ipykernel", "matplotlib", "rasterio"):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install 'timl[test]'")
    from jupyter_client import KernelManager

    # one thread and process, since so little work is slower on more
    quick = {"TIML_NOTEBOOK_QUICK": "1", "OMP_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": "1"}
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(tmp_path_factory.mktemp("notebooks")), env=os.environ | quick)
    yield manager
    manager.shutdown_kernel(now=True)


@each
def test_it_runs_from_top_to_bottom(path: Path, kernel: Any) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    start = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(START)])
    for part in (start, notebook):
        NotebookClient(part, km=kernel, startup_timeout=300, timeout=300).execute()
    assert [out.text for out in outputs(notebook) if out.get("name") == "stderr"] == []


@each
def test_its_outputs_are_kept_small_and_of_one_run(path: Path) -> None:
    notebook = read(path)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert any("image/png" in out.get("data", {}) for out in outputs(notebook))
    assert path.stat().st_size < LARGEST


@each
def test_it_holds_nothing_of_the_machine_it_ran_on(path: Path) -> None:
    notebook = read(path)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    assert all(cell["metadata"] == {} for cell in notebook["cells"])
    for out in outputs(notebook):
        assert out.get("name") != "stderr"
        texts = [out.get("text", []), *(v for k, v in out.get("data", {}).items() if k[0] == "t")]
        assert FOREIGN.findall("\n".join("".join(text) for text in texts)) == []


@each
def test_the_files_it_links_to_are_there(path: Path) -> None:
    cells = [cell for cell in read(path)["cells"] if cell["cell_type"] == "markdown"]
    text = "\n".join("".join(cell["source"]) for cell in cells)
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert links
    assert [link for link in links if not (path.parent / link).exists()] == []


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def outputs(notebook: Any) -> list[Any]:
    return [out for cell in notebook["cells"] for out in cell.get("outputs", [])]
