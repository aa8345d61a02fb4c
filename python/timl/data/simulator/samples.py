"""Which samples a world has: where each lies, what grows there, and what its label tells."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from timl.data.simulator.covers import COVERS, CROPS, NON_CROPS, Regime, grown_in, number
from timl.data.simulator.draws import Draws, Floats, Integers, Stream
from timl.data.simulator.places import BLOCKS, NEIGHBOURS, Places

_NAMED_SHARE = 1 / 3
"""Share of the samples whose label says more than crop or non-crop; as in the record."""

_MOST_TESTS = 1000
"""Most test samples of an evaluation task."""

_MARGIN = 0.06
"""Share of a block along each of its edges that holds no sample, so that blocks lie apart."""

_MOST_CROPS = 12
"""Most named crops of a country."""


class Evaluation(NamedTuple):
    """One evaluation task of the world.

    Parameters
    ----------
    name
        Name of the task.
    place
        Number of the country.
    target
        Number of the cover; None for crop versus non-crop.
    """

    name: str
    place: int
    target: int | None


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples, one entry of each array per sample; a world's training samples come first.

    Then come the test samples, evaluation task by evaluation task.

    Parameters
    ----------
    place, cover, block : int64 arrays of shape [n]
        Numbers of the country, of the cover in `COVERS`, and of the country's block.
    latitude, longitude : float64 arrays of shape [n]
        Degrees, of six decimals.
    named : bool array of shape [n]
        Whether the label tells the cover, not only crop or non-crop.
    evaluation : int64 array of shape [n]
        Number of the evaluation task whose test sample it is; -1 for training.
    """

    place: Integers
    cover: Integers
    block: Integers
    latitude: Floats
    longitude: Floats
    named: NDArray[np.bool_]
    evaluation: Integers

    def __len__(self) -> int:
        return len(self.place)

    def part(self, rows: slice) -> Samples:
        """Return some of the samples."""
        return Samples(*(getattr(self, field.name)[rows] for field in fields(self)))


def choose_evaluations(places: Places) -> list[Evaluation]:
    """Return the three evaluation tasks: a cereal, a rarer crop, and crop versus non-crop.

    They lie in different groups of neighbours, where there are countries enough.
    """
    last = len(places.boxes) - 1
    chosen = [(min(6, last), "maize"), (0, "sunflower"), (min(9, last), None)]
    return [
        Evaluation(
            f"{places.boxes[place].name}_{label or 'crop'}".casefold(),
            place,
            None if label is None else number(label),
        )
        for place, label in chosen
    ]


def draw_samples(
    places: Places, evaluations: list[Evaluation], count: int, draws: Draws
) -> Samples:
    """Draw a world's samples.

    One third has names: few countries have most of them, and in each few crops. The others, spread
    over all countries, tell crop or non-crop only. Each evaluation task has its own test samples,
    in blocks of its country where no training sample lies; of a crop's task, some have no name.
    """
    tests, training, named = _sizes(evaluations, count)
    mixes = draw_mixes(places, evaluations, count, draws)
    parts = [
        _unnamed(places, mixes, training - named, draws),
        _named(mixes),
        *(_test(i, task, mixes, tests) for i, task in enumerate(evaluations)),
    ]
    place, cover, is_named, evaluation = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    block, latitude, longitude = _positions(places, place, evaluation, evaluations, draws)
    return Samples(place, cover, block, latitude, longitude, is_named, evaluation)


def _sizes(evaluations: list[Evaluation], count: int) -> tuple[int, int, int]:
    """Return the test samples of each task, the training samples, and those of them with names."""
    tests = min(max(count // 40, 40), _MOST_TESTS)
    training = count - tests * len(evaluations)
    return tests, training, round(training * _NAMED_SHARE)


class Mix(NamedTuple):
    """Numbers of named samples of a country by cover, int64 arrays of one shape; the crops first.

    Parameters
    ----------
    covers
        Numbers of the covers in `COVERS`.
    counts
        Numbers of the samples.
    """

    covers: Integers
    counts: Integers


_Part = tuple[Integers, Integers, NDArray[np.bool_], Integers]
"""Arrays `place`, `cover`, `named` and `evaluation` of some samples."""


def _apportion(total: int, weights: Floats) -> Integers:
    """Divide a number into parts in proportion to weights, by largest remainders."""
    exact = total * weights / weights.sum()
    parts: Integers = np.floor(exact).astype(np.int64)
    order = np.argsort(parts - exact, kind="stable")
    parts[order[: total - parts.sum()]] += 1
    return parts


def _survey_sizes(
    places: Places, evaluations: list[Evaluation], named: int, draws: Draws
) -> Integers:
    """Return the named samples per country: by Zipf's law; the evaluation tasks' are most."""
    countries = len(places.boxes)
    order = draws.permutation(Stream.SURVEY_ORDER, countries)
    own = list(dict.fromkeys(task.place for task in evaluations))
    others = [int(place) for place in order if place not in own]
    sizes = np.empty(countries, np.int64)
    sizes[[*own, *others]] = _apportion(named, _zipf(countries, 0.75))
    return sizes


def draw_mixes(
    places: Places, evaluations: list[Evaluation], count: int, draws: Draws
) -> list[Mix]:
    """Draw the covers of each country of a world of so many samples.

    Neighbours have nearly the same crops and order.
    """
    sizes = _survey_sizes(places, evaluations, _sizes(evaluations, count)[2], draws)
    rank = draws.uniform(Stream.CROP_ORDER, len(sizes), len(COVERS), 2)
    for task in evaluations:
        if task.target is not None:  # what an evaluation task asks for is common near it too
            rank[task.place - task.place % NEIGHBOURS, task.target, 0] -= 0.5
    mixes = []
    for place, size in enumerate(sizes):
        suited = grown_in(Regime(places.regime[place]))
        taste = rank[place - place % NEIGHBOURS, suited, 0] + 0.2 * rank[place, suited, 1]
        crops = _one_class_after_another(suited[np.argsort(taste, kind="stable")])
        shown = int(np.clip(size // 26, 2, _MOST_CROPS))
        targets = [
            task.target for task in evaluations if task.place == place and task.target is not None
        ]
        crops = crops[~np.isin(crops, targets)][: max(shown - len(targets), 1)]
        crops = np.concatenate([crops[:1], np.array(targets, np.int64), crops[1:]])
        wild = np.array(NON_CROPS)[np.argsort(rank[place, list(NON_CROPS), 1], kind="stable")]
        wild = wild[: int(np.clip(size // 50, 2, len(NON_CROPS)))]
        weights = np.concatenate([0.78 * _zipf(len(crops), 0.6), 0.22 * _zipf(len(wild), 0.5)])
        mixes.append(Mix(np.concatenate([crops, wild]), _apportion(int(size), weights)))
    return mixes


def _one_class_after_another(crops: Integers) -> Integers:
    """Put the first crop of every class first, then the second ones, each in the order given.

    So where a country has few crops, its place and a crop's class nearly tell the crop.
    """
    seen: Counter[str] = Counter()
    turn = []
    for crop in crops:
        label = COVERS[crop].classification_label
        turn.append(seen[label])
        seen[label] += 1
    return crops[np.argsort(turn, kind="stable")]


def _zipf(count: int, power: float) -> Floats:
    weights = (1.0 + np.arange(count)) ** -power
    return np.asarray(weights / weights.sum())


def _unnamed(places: Places, mixes: list[Mix], count: int, draws: Draws) -> _Part:
    """Make samples of every country, half of them crops, known only as crop or non-crop."""
    u = draws.uniform(Stream.COVERS, count + len(mixes))
    sizes = _apportion(count, 0.5 + u[count:])
    place = np.repeat(np.arange(len(mixes)), sizes)
    cover = np.empty(count, np.int64)
    stops = np.cumsum(sizes)
    for mix, stop, size in zip(mixes, stops, sizes, strict=True):
        crops = mix.covers < len(CROPS)
        wild = np.full(len(NON_CROPS), 1 / len(NON_CROPS))
        shares = np.concatenate([mix.counts[crops] / max(mix.counts[crops].sum(), 1), wild])
        covers = np.concatenate([mix.covers[crops], NON_CROPS])
        edges = np.cumsum(shares) / shares.sum()
        drawn = np.searchsorted(edges, u[stop - size : stop], side="right")
        cover[stop - size : stop] = covers[np.minimum(drawn, len(covers) - 1)]
    return place, cover, np.zeros(count, np.bool_), np.full(count, -1)


def _named(mixes: list[Mix]) -> _Part:
    cover = np.concatenate([np.repeat(mix.covers, mix.counts) for mix in mixes])
    place = np.repeat(np.arange(len(mixes)), [mix.counts.sum() for mix in mixes])
    return place, cover, np.ones(len(cover), np.bool_), np.full(len(cover), -1)


def _test(number: int, task: Evaluation, mixes: list[Mix], count: int) -> _Part:
    """Make the test samples of a task: in a crop's task a tenth are crops without a name."""
    mix = mixes[task.place]
    crop = mix.covers < len(CROPS)
    positive = crop if task.target is None else mix.covers == task.target
    shares = np.where(positive, 0.45, 0.0) * mix.counts / mix.counts[positive].sum()
    shares += np.where(positive, 0.0, 0.55) * mix.counts / mix.counts[~positive].sum()
    unnamed = 0 if task.target is None else count // 10
    counts = [_apportion(count - unnamed, shares), _apportion(unnamed, crop * (mix.counts + 1.0))]
    cover = np.concatenate([np.repeat(mix.covers, each) for each in counts])
    named = np.repeat([True, False], [count - unnamed, unnamed])
    return np.full(count, task.place), cover, named, np.full(count, number)


def _positions(
    places: Places,
    place: Integers,
    evaluation: Integers,
    evaluations: list[Evaluation],
    draws: Draws,
) -> tuple[Integers, Floats, Floats]:
    """Draw block, latitude and longitude of each sample.

    In an evaluation task's country the test samples lie in one block of each row and column, the
    training samples in the others.
    """
    u = draws.uniform(Stream.POSITIONS, len(place), 3)
    columns = draws.permutation(Stream.TEST_BLOCKS, BLOCKS)
    test_blocks = np.arange(BLOCKS) * BLOCKS + columns
    training_blocks = np.setdiff1d(np.arange(BLOCKS * BLOCKS), test_blocks)
    block = (u[:, 0] * BLOCKS * BLOCKS).astype(np.int64)
    own = np.isin(place, [task.place for task in evaluations])
    block[own] = training_blocks[(u[own, 0] * len(training_blocks)).astype(np.int64)]
    tested = evaluation >= 0
    block[tested] = test_blocks[(u[tested, 0] * len(test_blocks)).astype(np.int64)]
    south, north, west, east = np.array(
        [[box.min_lat, box.max_lat, box.min_lon, box.max_lon] for box in places.boxes]
    )[place].T
    inside = _MARGIN + (1 - 2 * _MARGIN) * u[:, 1:]
    latitude = south + (north - south) * (block // BLOCKS + inside[:, 0]) / BLOCKS
    longitude = west + (east - west) * (block % BLOCKS + inside[:, 1]) / BLOCKS
    return block, np.round(latitude, 6), np.round(longitude, 6)
