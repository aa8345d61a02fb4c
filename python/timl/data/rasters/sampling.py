"""Drawing labelled pixels of a raster: so many of each class, on two sides of a split in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from timl import random
from timl.data.rasters.label_raster import NO_CLASS, LabelRaster
from timl.data.regions.splits import sides_of_groups
from timl.random import Purpose

_PIXELS_AT_ONCE = 2**20
"""Pixels that are read at once, about."""


class PixelSample(NamedTuple):
    """Pixels of a raster of labels, row by row."""

    rows: NDArray[np.int64]
    """Row of each pixel, [n]."""
    columns: NDArray[np.int64]
    """Column of each, [n]."""
    codes: NDArray[np.int8]
    """Class of each, [n]."""
    is_test: NDArray[np.bool_]
    """Which are kept for the test, [n]."""


class _Blocks(NamedTuple):
    """Squares of pixels that go to one side of a split as a whole."""

    edge: int
    """Pixels along an edge."""
    margin: int
    """Pixels along the edges of a block that belong to no side."""
    across: int
    """Number of blocks in a row of them."""

    def numbers(self, row: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Return the block of each pixel of some rows, -1 in margins, [rows, width]."""
        rows, columns = row + np.arange(shape[0]), np.arange(shape[1])
        numbers = (rows // self.edge)[:, None] * self.across + columns // self.edge
        inside = [
            (at % self.edge >= self.margin) & (at % self.edge < self.edge - self.margin)
            for at in (rows, columns)
        ]
        return np.where(inside[0][:, None] & inside[1], numbers, -1)


def sample_pixels(
    labels: LabelRaster,
    per_class: int,
    *,
    test_per_class: int = 0,
    block: int | None = None,
    distance: int = 1,
    seed: int = 0,
    number: int = 0,
    lacking_allowed: bool = False,
) -> PixelSample:
    """Draw pixels of each class, for training and for the test.

    The raster is divided into blocks, and whole blocks are for training or for the test, so that
    either side has about half of each class. Pixels along the edges of a block belong to no side,
    so that no two of different blocks are nearer than `distance` along rows or columns. Each pixel
    has a random key, and the smallest of a class and side are taken: the draw depends on the
    labels, the seed and the sizes alone, not on how the raster is read. Without blocks all pixels
    are for training.

    Parameters
    ----------
    labels
        Raster of labels; it is read twice, some rows at a time.
    per_class, test_per_class
        Pixels of each class for training, at least 1, and for the test, at least 0; of a class
        with fewer all are taken.
    block
        Edge of a block, pixels; None without a test, and only then.
    distance
        Least distance of pixels of two blocks, pixels, at least 1 and below the edge of a block.
    seed
        Seed of the split and the draw.
    number
        Number of the raster where several are sampled with one seed.
    lacking_allowed
        Whether a class may be without pixels on a side that needs some.

    Raises
    ------
    ValueError
        If a number is out of range, the file is damaged, or a class has no pixel where it needs
        some.
    """
    _check(per_class, test_per_class, block, distance)
    height, width = labels.file.height, labels.file.width
    blocks = None
    if block is None:
        sides = np.zeros(1, bool)
    else:
        blocks = _Blocks(block, distance // 2, -(-width // block))
        sides = _sides(labels, blocks, -(-height // block) * blocks.across, seed)
    count = len(labels.classes)
    sizes = {(code, test): (per_class, test_per_class)[test] for code in range(count)
             for test in (0, 1)}  # fmt: skip
    kept = {place: np.empty((0, 3)) for place in sizes}  # key, row, column
    for row, codes in _strips(labels):
        keys = _keys(row, codes.shape, seed, number)
        numbers = np.zeros(codes.shape, np.int64)
        if blocks is not None:
            numbers = blocks.numbers(row, codes.shape)
        usable = (codes != NO_CLASS) & (numbers >= 0)
        tested = sides[numbers] & usable
        for (code, test), size in sizes.items():
            mine = usable & (codes == code) & (tested == bool(test))
            if len(kept[code, test]) == size:
                mine &= keys <= (kept[code, test][-1, 0] if size else -1.0)
            rows, columns = np.nonzero(mine)
            found = np.stack([keys[mine], rows + row, columns], axis=1)
            both = np.concatenate([kept[code, test], found])
            kept[code, test] = both[np.lexsort(both.T[::-1])[:size]]
    for (code, test), found in kept.items():
        if sizes[code, test] and not len(found) and not lacking_allowed:
            raise ValueError(
                f"labels is {labels.path}, without a pixel of class {labels.classes[code]!r} for "
                f"the {'test' if test else 'training'}"
                f"{'' if block is None else f' in blocks of {block} pixels'}: leave the class out, "
                f"or give a smaller erosion{'' if block is None else ', block or distance'}"
            )
    drawn = np.concatenate(list(kept.values()))[:, 1:].astype(np.int64)
    lengths = [len(found) for found in kept.values()]
    codes_of = np.repeat(np.array([code for code, _ in kept], np.int8), lengths)
    tested_of = np.repeat(np.array([bool(test) for _, test in kept]), lengths)
    order = np.lexsort(drawn.T[::-1])
    return PixelSample(drawn[order, 0], drawn[order, 1], codes_of[order], tested_of[order])


def _check(per_class: int, test_per_class: int, block: int | None, distance: int) -> None:
    if per_class < 1 or test_per_class < 0:
        raise ValueError(
            f"per_class is {per_class}, test_per_class is {test_per_class}: give 1 or more, and 0 "
            f"or more"
        )
    if (block is None) != (test_per_class == 0):
        raise ValueError(
            f"test_per_class is {test_per_class}, block {block}: give both for a test, or neither"
        )
    if distance < 1 or (block is not None and distance >= block):
        raise ValueError(
            f"block is {block}, distance is {distance} pixels: give a distance of at least 1, "
            f"below the block's edge"
        )


def _strips(labels: LabelRaster) -> Iterator[tuple[int, NDArray[np.int8]]]:
    """Yield the first row and the classes of some rows after the other."""
    height = labels.file.height
    rows = max(1, _PIXELS_AT_ONCE // labels.file.width)
    for row in range(0, height, rows):
        yield row, labels.codes(row, min(rows, height - row))


def _sides(labels: LabelRaster, blocks: _Blocks, count: int, seed: int) -> NDArray[np.bool_]:
    """Return which blocks are for the test, [count]."""
    classes = len(labels.classes)
    sizes = np.zeros(count * classes, np.int64)
    for row, codes in _strips(labels):
        numbers = blocks.numbers(row, codes.shape)
        used = (codes != NO_CLASS) & (numbers >= 0)
        places = numbers[used] * classes + codes[used]
        sizes += np.bincount(places, minlength=count * classes)
    table = sizes.reshape(count, classes)
    filled = np.flatnonzero(table.any(axis=1))
    sides = np.zeros(count, bool)
    present = table.any(axis=0)  # a class without pixels is refused where they are drawn
    if len(filled):
        sides[filled] = sides_of_groups(table[filled][:, present], seed)
    return sides


def _keys(row: int, shape: tuple[int, ...], seed: int, number: int) -> NDArray[np.float64]:
    """Draw the keys of some rows' pixels, [rows, width]."""
    drawn = random.uniform(
        (shape[1], 2),
        seed=seed,
        task=row + np.arange(shape[0]),
        epoch=number,
        purpose=Purpose.LABEL_PIXELS,
    ).astype(np.float64)
    # 48 bits: of 24 alone many pixels of a large raster would share a key
    return np.asarray(drawn[..., 0] + 2.0**-24 * drawn[..., 1])
