"""No two draws of the package share a random word, and the documentation lists them all."""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timl
from timl import random
from timl.area import draw_sample
from timl.data import CropHarvest
from timl.evaluation.clusters import clustered_difference
from timl.evaluation.few_shot import nway_benchmark
from timl.meta.strong import fitting, forest
from timl.random import Purpose

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "random-numbers.md"
PLUMBING = ("random.py", "draws.py")
"""Files that draw for others: the place of a draw is their caller."""

SEVERAL_PLACES = {
    # one method for each distribution; the simulator's streams are told apart by the task's index
    "SIMULATION": 3,
    # `descend` makes at once the draws that `BenchmarkTask.sample` makes step by step
    "FINE_TUNING_SAMPLES": 2,
}

Key = tuple[int, int, int, int, int]
"""Seed, task, epoch, step and purpose: two draws with one key begin with the same word."""


def caller() -> str:
    """Return file and line of the draw that is being made."""
    frame: Any = sys._getframe(2)
    while Path(frame.f_code.co_filename).name in PLUMBING:
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Key, set[str]]]:
    """The places of every draw that a run of the whole package makes, all with one seed."""
    found: dict[Key, set[str]] = defaultdict(set)
    draw = random._words

    def recorded(
        count: int, seed: int, task: Any, epoch: Any, step: Any, purpose: Purpose | int
    ) -> Any:
        place = caller()
        for indices in np.broadcast(task, epoch, step):
            found[(seed, *map(int, indices), int(purpose))].add(place)
        return draw(count, seed, task, epoch, step, purpose)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random, "_words", recorded)
        patch.setattr(fitting, "MOST_LABELS", 8)
        patch.setattr(forest, "MOST_OF_TREE", 8)
        use_everything(tmp_path_factory.mktemp("draws"))
    yield found


def use_everything(folder: Path) -> None:
    world = timl.data.simulate(folder / "world", countries=4, samples=1000, seed=0)
    timl.data.simulate_scene(folder / "scene", world, size=64, points=3, seed=0)
    data = CropHarvest(world)
    model = timl.TIML(hidden=16, encoder_sizes=(16, 32))
    timl.meta_train(model, timl.meta_tasks(data), epochs=2, kernel_steps=2, progress=False)
    nway = timl.data.nway_tasks(data, 2, k=2, query=2)
    other = timl.TIML(hidden=16, encoder_sizes=(16, 32))
    timl.meta_train(other, nway, epochs=1, k=2, query=2, kernel_steps=0, progress=False)
    benchmark = data.benchmarks[0]
    timl.finetune(model, benchmark, protocol="paper", steps=2)
    timl.finetune(model, benchmark, protocol="strong")
    timl.finetune_ensemble(model, benchmark, 2, protocol="strong")
    timl.table1(
        data,
        folder / "table1",
        epochs=1,
        rows=["crop-pre-training", "timl"],
        runs=1,
        steps=2,
        sample_sizes=[20, None],
        workers=1,
        progress=False,
    )
    timl.few_shot_benchmark(
        data,
        folder / "few-shot",
        ["nearest-class-mean-pooled"],
        epochs=1,
        budgets=[5],
        draws=1,
        folds=2,
        random_splits=True,
        workers=1,
        progress=False,
    )
    nway_benchmark(
        data, folder / "n-way", ["nearest-class-mean"], ways=2, folds=2, workers=1, progress=False
    )
    clustered_difference([1.0] * 21, range(21))
    task = benchmark.task
    samples = timl.data.TaskSamples(data, task)
    samples.shuffle(0)
    samples.sample(2)
    timl.data.crop_type_task(data, task.bounding_box).subset(2, seed=0)
    chips = timl.data.simulate_chips(folder / "chips", 1, 1, size=64, seed=0)
    timl.data.chip_pixels(timl.data.open_chips(chips), 2, seed=0)
    timl.learning_curve(model, benchmark, [20], draws=1, folds=2)
    draw_sample(write_map(folder / "map.tif"), 20)


def write_map(path: Path) -> Path:
    """Write a map of two classes."""
    rasterio = pytest.importorskip("rasterio")
    classes = np.arange(100, dtype=np.uint8).reshape(10, 10) % 2
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=10, width=10, dtype="uint8", crs="EPSG:32636"
    ) as file:
        file.write(classes, 1)
    return path


def test_no_two_places_share_a_word(places: dict[Key, set[str]]) -> None:
    shared: dict[str, Key] = {}
    for key, at in places.items():
        if len(at) > 1 and Purpose(key[4]).name not in SEVERAL_PLACES:
            shared[", ".join(sorted(at))] = key
    assert not shared, "\n".join(f"{at} with {key}" for at, key in shared.items())


def test_no_two_streams_of_the_simulator_share_a_word(places: dict[Key, set[str]]) -> None:
    simulated = {key: at for key, at in places.items() if key[4] == Purpose.SIMULATION}
    assert len({key[1] for key in simulated}) > 10  # streams
    assert all(len(at) == 1 for at in simulated.values()), simulated


def test_every_purpose_is_drawn_for(places: dict[Key, set[str]]) -> None:
    assert {key[4] for key in places} == set(Purpose)


def test_a_purpose_is_used_at_one_place() -> None:
    uses = Counter(
        name
        for path in (ROOT / "python" / "timl").rglob("*.py")
        for name in re.findall(r"\bPurpose\.([A-Z_]+)", path.read_text("utf-8"))
    )
    assert uses == {purpose.name: SEVERAL_PLACES.get(purpose.name, 1) for purpose in Purpose}


def test_the_page_lists_every_purpose() -> None:
    rows = re.findall(r"^\| (\d+) \| `([A-Z_]+)` \|", PAGE.read_text("utf-8"), re.M)
    assert [(int(number), name) for number, name in rows] == [(p.value, p.name) for p in Purpose]
