"""The house's order: every module imports only what lies below it, and no two import each other."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "python"

ROOMS = (
    # what everything may use
    "timl.version timl.defaults timl._core timl.files timl.random timl.bands timl.normalization "
    "timl.parameters timl.crop_classes timl.completion timl.text timl.arrays "
    "timl.model_folders",
    "timl.reference",
    # data: files, regions, tasks, the data set, places of one's own
    "timl.data.record timl.data.regions",
    "timl.data.download",
    "timl.data.tasks",
    "timl.data.simulator",
    "timl.data.cropharvest",
    "timl.data.cropharvest_interface timl.data.own",
    "timl.data.simulator.scene timl.data.sources",
    "timl.data.rasters",
    "timl.data.chips",
    "timl.data.simulator.chips",
    "timl.data",
    # models, and learning
    "timl.nn",
    "timl.meta",
    "timl.baselines",
    # scores and experiments
    "timl.evaluation.prediction timl.evaluation.class_scores timl.evaluation.scores "
    "timl.evaluation.statistics "
    "timl.evaluation.clusters timl.evaluation.prevalence "
    "timl.evaluation.plotting",
    "timl.evaluation.runner",
    "timl.evaluation.rows",
    "timl.evaluation.paper timl.evaluation.few_shot",
    "timl.evaluation.cross_validation",
    "timl.evaluation.in_season",
    "timl.evaluation.report",
    "timl.evaluation",
    # areas; maps, and what lies beside them
    "timl.area",
    "timl.maps.drawing",
    "timl.maps",
    # what users hold
    "timl.estimator timl.demo timl.default_model",
    "timl",
    "timl.cli",
    "timl.__main__",
)
"""From the lowest to the highest: a room imports those above it in this list."""

MOST_FILES, MOST_LINES = 14, 500


def modules() -> dict[str, Path]:
    """Return every module of the package by its dotted name."""
    found = {}
    for path in SOURCES.rglob("*.py"):
        name = ".".join(path.relative_to(SOURCES).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """Return the package's modules that a file imports, within functions and for types too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                inside = submodule in known or submodule == "timl._core"
                found.add(submodule if inside else node.module)
    return {name for name in found if name in known or name == "timl._core"}


def floor_of(module: str) -> int:
    """Return the number of the room that a module is in: that of the longest name that fits."""
    fitting = [
        (len(room), floor)
        for floor, rooms in enumerate(ROOMS)
        for room in rooms.split()
        if module == room or module.startswith(f"{room}.")
    ]
    assert fitting, f"{module} is in no room: name its room in ROOMS"
    return max(fitting)[1]


GRAPH = {name: imports(path, modules()) for name, path in modules().items()}


def test_no_module_imports_a_higher_room():
    upward = [
        f"{module} imports {imported}"
        for module, found in GRAPH.items()
        for imported in found
        if floor_of(imported) > floor_of(module)
    ]
    assert not upward, "\n".join(sorted(upward))


def test_models_know_nothing_of_data():
    found = {m: {i for i in GRAPH[m] if i.startswith("timl.data")} for m in GRAPH}
    assert not [m for m in found if m.startswith("timl.nn") and found[m]]


def test_no_two_modules_import_each_other():
    # raises CycleError, which names the circle; a package's own file counts as a module
    list(TopologicalSorter(GRAPH).static_order())


def test_a_module_without_a_room_is_noticed():
    with pytest.raises(AssertionError, match="in no room"):
        floor_of("other.module")


@pytest.mark.parametrize("folder", sorted({path.parent for path in modules().values()}))
def test_no_folder_is_crowded(folder: Path):
    files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= MOST_FILES, f"{folder.name} holds {len(files)} files: divide it"


def test_no_file_is_long():
    long = {
        name: count
        for name, path in modules().items()
        if (count := len(path.read_text("utf-8").splitlines())) > MOST_LINES
    }
    assert not long, f"more than {MOST_LINES} lines: {long}"
