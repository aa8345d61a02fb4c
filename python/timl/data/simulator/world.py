"""Simulating a whole world in the layout of CropHarvest's record."""

from __future__ import annotations

from pathlib import Path

from timl.data.simulator.draws import Draws, require_integers
from timl.data.simulator.places import MOST_COUNTRIES, draw_places
from timl.data.simulator.samples import choose_evaluations, draw_samples
from timl.data.simulator.target import Target
from timl.data.simulator.writing import FILES, Progress, World, write_json, write_world
from timl.files import read_json

_MADE_BY = "timl.data.simulate"
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
        as it is; a world of others is replaced, and with it what timl packed of it.
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
        If ``out`` is there and is neither empty nor a simulated world, or holds other files too.
    BlockingIOError
        If another process is simulating a world there.
    """
    _check(countries, samples, seed)
    target = _target(Path(out))
    arguments = {"version": _VERSION, "countries": countries, "samples": samples, "seed": seed}
    mark = {"made_by": _MADE_BY, **arguments}
    with target.writing(mark) as folder:
        if folder is not None:
            draws = Draws(seed)
            places = draw_places(countries, draws)
            evaluations = choose_evaluations(places)
            made = draw_samples(places, evaluations, samples, draws)
            world = World(places, evaluations, made, seed)
            write_world(folder, world, progress or (lambda made, total: None))
            write_json(folder / target.mark, mark)
    return target.out


def world_arguments(world: str | Path) -> dict[str, int]:
    """Return the arguments that made a simulated world: version, countries, samples and seed.

    Raises
    ------
    FileNotFoundError
        If the folder is no simulated world.
    ValueError
        If it was made by another version of the simulator.
    """
    target = _target(Path(world))
    if not target.is_made(target.out):
        raise FileNotFoundError(
            f"world is {world}, which is no simulated world (no {target.mark} in it is of "
            f"{_MADE_BY}): give a folder that it made"
        )
    found = read_json(target.out / target.mark, "simulate it anew")
    if found.get("version") != _VERSION:
        raise ValueError(
            f"world is {world}, of version {found.get('version')} of the simulator: simulate it "
            f"anew, with version {_VERSION}"
        )
    return {key: int(found[key]) for key in ("version", "countries", "samples", "seed")}


def _check(countries: int, samples: int, seed: int) -> None:
    require_integers(seed, countries=countries, samples=samples)
    if not 1 <= countries <= MOST_COUNTRIES:
        raise ValueError(f"countries is {countries}: give 1 to {MOST_COUNTRIES}")
    fewest = max(_FEWEST_SAMPLES, _FEWEST_PER_COUNTRY * countries)
    if samples < fewest:
        raise ValueError(f"samples is {samples}: give at least {fewest} for {countries} countries")


def _target(out: Path) -> Target:
    return Target(out, "world", _MADE_BY, FILES)
