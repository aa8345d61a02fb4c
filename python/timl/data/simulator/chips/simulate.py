"""Simulating chips of three dates and six bands, in the published layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from timl.data.chips.layout import CHIP_BANDS, IMAGE, MASK
from timl.data.own.exports import import_rasterio
from timl.data.simulator.chips.land import make_land
from timl.data.simulator.chips.surface import CROPS, reflectances
from timl.data.simulator.draws import Draws, Floats, Level, Stream, require_integers
from timl.data.simulator.target import Target
from timl.data.simulator.writing import write_json

_MADE_BY = "timl.data.simulate_chips"
_VERSION = 1
_SMALLEST, _LARGEST, _MOST = 64, 1024, 900
_CRS, _PIXEL = "EPSG:5070", 30
"""Albers' equal-area projection of the contiguous United States; metres."""
_WEST, _EAST, _SOUTH, _NORTH = -1_900_000, 1_500_000, 700_000, 2_800_000
"""Edges of the land that chips lie in, metres."""
_ACROSS = 30
"""Cells of that land in a row; a chip lies in one of its own."""
_DAYS = np.array([[75.0, 115], [150, 190], [235, 270]])
"""Days of the year between which each of the three dates is."""
_NO_DATA = -9999
_BLUR = 0.6
"""How far light of neighbouring pixels reaches: standard deviation, pixels."""


def simulate_chips(
    out: str | Path, training: int = 30, validation: int = 8, *, size: int = 224, seed: int = 0
) -> Path:
    """Simulate chips of 13 classes, three dates and six bands, with the mask of every pixel.

    Fields and patches of natural land; each chip has some of the classes, dates of its own, and
    seasons that are earlier or later, by latitude and by chance, so that what is true of one chip
    is only roughly true of the next. Pixels at borders are mixed; parts of some chips, and small
    patches of all, have no label. Files and names are those that `open_chips` reads.

    Parameters
    ----------
    out
        Folder to make. Chips of the same arguments that are there already stay as they are; those
        of others are replaced.
    training, validation
        Numbers of chips, at least 1 each and at most 900 together.
    size
        Edge of a chip, pixels of 30 m: 64 to 1,024.
    seed
        Seed in [0, 2**64).

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    TypeError
        If a number is no integer.
    ValueError
        If a number is out of range.
    FileExistsError
        If ``out`` is there and is neither empty nor of simulated chips, or holds other files too.
    BlockingIOError
        If another process is simulating there.
    ImportError
        If rasterio is not installed: the extra ``timl[maps]``.
    """
    arguments = {"training": training, "validation": validation, "size": size, "seed": seed}
    require_integers(**arguments)
    if min(training, validation) < 1 or training + validation > _MOST:
        raise ValueError(
            f"training is {training}, validation is {validation}: give at least 1 of each, and at "
            f"most {_MOST} chips"
        )
    if not _SMALLEST <= size <= _LARGEST:
        raise ValueError(f"size is {size}: give {_SMALLEST} to {_LARGEST} pixels")
    import_rasterio()
    parts = ["training"] * training + ["validation"] * validation
    own = [f"{part}_chips/chip_*{end}" for part in ("training", "validation")
           for end in (IMAGE, MASK)]  # fmt: skip
    own += ["training_data.txt", "validation_data.txt"]
    target = Target(Path(out), "chips", _MADE_BY, frozenset(own))
    mark: dict[str, Any] = {
        "made_by": _MADE_BY,
        "version": _VERSION,
        "arguments": {name: int(value) for name, value in arguments.items()},
    }
    with target.writing(mark) as folder:
        if folder is not None:
            places = Draws(seed, level=Level.CHIP).permutation(Stream.CHIP_PLACE, _MOST)
            names: dict[str, list[str]] = {"training": [], "validation": []}
            for number, part in enumerate(parts):
                row, column = divmod(int(places[number]), _ACROSS)
                names[part].append(f"chip_{row:03}_{column:03}")
                (folder / f"{part}_chips").mkdir(exist_ok=True)
                begin = folder / f"{part}_chips" / names[part][-1]
                _write_chip(begin, (row, column), Draws(seed, number, Level.CHIP), size)
            for part, listed in names.items():
                text = "".join(f"{name}\n" for name in sorted(listed))
                (folder / f"{part}_data.txt").write_text(text, "utf-8")
            write_json(folder / target.mark, mark)
    return Path(out)


def _write_chip(begin: Path, cell: tuple[int, int], draws: Draws, size: int) -> None:
    """Write the image and the mask of one chip, whose names begin alike."""
    rasterio = import_rasterio()
    south = (cell[0] + 0.5) / (_MOST // _ACROSS)
    land = make_land(draws, size, south)
    image = _image(draws, land.parcels, land.crops, south)
    image[:, ~land.labelled] = _NO_DATA
    mask = np.where(land.labelled, land.crops[land.parcels] + 1, 0)
    west = _WEST + (_EAST - _WEST) * cell[1] // _ACROSS
    north = _NORTH - (_NORTH - _SOUTH) * cell[0] // (_MOST // _ACROSS)
    profile = {
        "driver": "GTiff",
        "width": size,
        "height": size,
        "crs": _CRS,
        "transform": rasterio.transform.from_origin(west, north, _PIXEL, _PIXEL),
    }
    bands = {"count": len(image), "dtype": "int16", "nodata": _NO_DATA}
    with rasterio.open(f"{begin}{IMAGE}", "w", **profile, **bands) as file:
        file.write(image)
    with rasterio.open(f"{begin}{MASK}", "w", **profile, count=1, dtype="uint8") as file:
        file.write(mask.astype(np.uint8), 1)


def _image(draws: Draws, parcels: Any, crops: Any, south: float) -> Any:
    """Return the bands of all dates, int16 [18, size, size]."""
    from scipy.ndimage import gaussian_filter

    dates, bands = len(_DAYS), len(CHIP_BANDS)
    z = draws.normal(Stream.CHIP_SEASON, 4 + len(CROPS) + dates * (1 + bands))
    days = _DAYS.mean(axis=1) + np.ptp(_DAYS, axis=1) / 2 * np.tanh(z[:dates])
    # seasons are earlier in the south; the rest is weather, and what farmers do here
    shift = 30 * (0.5 - south) + 6 * z[3] + 6 * z[4 : 4 + len(CROPS)]
    rest = z[4 + len(CROPS) :]
    gain = np.exp(0.05 * rest[:dates, None] + 0.02 * rest[dates:].reshape(dates, bands))
    size = len(parcels)
    grain = draws.normal(Stream.CHIP_GRAIN, dates * bands * size**2 + len(crops) * (6 + dates))
    field = grain[-len(crops) * (6 + dates) :].reshape(len(crops), 6 + dates)
    soil = float(0.5 + 0.4 * np.tanh(z[3] + z[4]))
    seen: Floats = reflectances(crops, days, shift, field, soil)[parcels]  # [size, size, T, 6]
    seen = gaussian_filter(seen * gain, (_BLUR, _BLUR, 0, 0))
    seen *= 1 + 0.04 * grain[: seen.size].reshape(seen.shape)
    stacked = np.clip(np.round(seen), 1, 10_000).astype(np.int16)
    return stacked.transpose(2, 3, 0, 1).reshape(dates * bands, size, size)
