"""Simulating a whole world in the layout of CropHarvest's record."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from timl.data.simulator.draws import Draws
from timl.data.simulator.places import MOST_COUNTRIES, draw_places
from timl.data.simulator.samples import choose_evaluations, draw_samples
from timl.data.simulator.writing import Progress, World, write_json, write_world
from timl.files import atomic_folder

_MARK = "world.json"
"""Name of the file that marks a simulated world and holds the arguments that made it."""

_VERSION = 1
_FEWEST_SAMPLES = 800
_FEWEST_PER_COUNTRY = 200


def simulate(
    out: str | Path,
    countries: int = 20,
    samples: int = 8000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Simulate a world of labelled satellite series, in the layout of CropHarvest's record.

    Invented countries with climates by latitude, crops with their calendars, and what Sentinel-1,
    Sentinel-2 and ERA5 would tell of them; three evaluation tasks with test samples in places
    apart. It is made for demonstrations, tests and trials of scale: no result on it says anything
    of real crops.

    Parameters
    ----------
    out
        Folder to make, which is returned. A world of the same arguments that is there already stays
        as it is; a world of others is replaced.
    countries
        Number of countries, 1 to 540.
    samples
        Number of series in all, test samples included: at least 800, and 200 per country. 8,000 in
        20 countries make about 100 tasks; 90,000 make about 500 in 32 countries, 900 in 100.
    seed
        Seed in [0, 2**64). The same arguments give the same bytes, with any number of threads.
    progress
        Function that is called as ``progress(made, total)`` while series are made.

    Raises
    ------
    TypeError
        If a number is no integer.
    ValueError
        If a number is out of range.
    FileExistsError
        If ``out`` is there and is neither empty nor a simulated world.
    """
    _check(countries, samples, seed)
    out = Path(out)
    _check_target(out)
    arguments = {"version": _VERSION, "countries": countries, "samples": samples, "seed": seed}
    mark = {"made_by": "timl.data.simulate", **arguments}
    if (out / _MARK).is_file() and json.loads((out / _MARK).read_text(encoding="utf-8")) == mark:
        return out
    draws = Draws(seed)
    places = draw_places(countries, draws)
    evaluations = choose_evaluations(places)
    world = World(places, evaluations, draw_samples(places, evaluations, samples, draws), seed)
    out.parent.mkdir(parents=True, exist_ok=True)

    def replace() -> bool:
        _check_target(out)  # while the world was made, something else may have come there
        return True

    with atomic_folder(out, replace) as folder:
        write_world(folder, world, progress or (lambda made, total: None))
        write_json(folder / _MARK, mark)
    return out


def world_arguments(world: str | Path) -> dict[str, int]:
    """Return the arguments that made a simulated world: version, countries, samples and seed.

    Raises
    ------
    FileNotFoundError
        If the folder is no simulated world.
    ValueError
        If it was made by another version of the simulator.
    """
    mark = Path(world) / _MARK
    if not mark.is_file():
        raise FileNotFoundError(
            f"world is {world}, which is no simulated world (it has no {_MARK}): give a folder "
            "that timl.data.simulate made"
        )
    found = json.loads(mark.read_text(encoding="utf-8"))
    if found.get("version") != _VERSION:
        raise ValueError(
            f"world is {world}, of version {found.get('version')} of the simulator: simulate it "
            f"anew, with version {_VERSION}"
        )
    return {key: int(found[key]) for key in ("version", "countries", "samples", "seed")}


def _check(countries: int, samples: int, seed: int) -> None:
    for name, value in (("countries", countries), ("samples", samples), ("seed", seed)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise TypeError(f"{name} is {value!r}: give an integer")
    if not 1 <= countries <= MOST_COUNTRIES:
        raise ValueError(f"countries is {countries}: give 1 to {MOST_COUNTRIES}")
    fewest = max(_FEWEST_SAMPLES, _FEWEST_PER_COUNTRY * countries)
    if samples < fewest:
        raise ValueError(f"samples is {samples}: give at least {fewest} for {countries} countries")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed}: give a number in [0, 2**64)")


def _check_target(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir() or (any(out.iterdir()) and not (out / _MARK).is_file()):
        raise FileExistsError(
            f"out is {out}, which is no simulated world (it has no {_MARK}): give a new folder, or "
            "empty this one"
        )
