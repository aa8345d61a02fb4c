"""From a map and the filled-in reference sample to accuracy and hectares."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timl.area.class_map import open_map
from timl.area.estimation import estimate_area
from timl.area.reference_sample import DESIGN, STRATA
from timl.area.result import AreaEstimate
from timl.files import read_json

if TYPE_CHECKING:
    import pandas as pd


def assess_map(
    map: str | Path,
    reference: str | Path | pd.DataFrame,
    *,
    design: str | Path | None = None,
    band: str | int = "class",
    names: Mapping[int, str] | None = None,
    level: float = 0.95,
) -> AreaEstimate:
    """Estimate the area of each class and the accuracy of a map from a filled-in reference sample.

    Parameters
    ----------
    map
        GeoTIFF, see `open_map`; the one that the sample was drawn from, or another of the same
        place: its accuracy is estimated from the same sample (Stehman 2014).
    reference
        The field team's table: columns id, lat, lon and reference, the true class there.
    design
        Folder of the sample's ``strata.csv`` and ``design.json``; by default that of the table
        where they are in it. Without them the strata are the classes of this map, which is right
        only if the sample was drawn at random within each of them.
    band
        Name or number of the band of classes.
    names
        Name of each class, such as ``{0: "other", 1: "maize"}``, beside those that a map of several
        classes says: of classes that it does not name, or does not show, such as water. The table
        may have the names or the numbers, the result has the names.
    level
        Probability that an interval is to hold the true value.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ValueError
        If a column is missing, a class is unknown, a point is off the map, or points are not those
        of the design.
    ImportError
        If rasterio is not installed: the extra ``timl[maps]``.

    Warns
    -----
    UserWarning
        If points have no reference class: they are left out. Also those of `estimate_area`.
    """
    table = _read_reference(reference)
    folder = _design_folder(reference, design)
    with open_map(map, band) as opened:
        pixels, hectares = opened.class_sizes()
        labels = {**opened.names, **(names or {})}
        mapped = opened.classes_at(table["lat"].to_numpy(float), table["lon"].to_numpy(float))
    for number, found in zip(table["id"], mapped, strict=True):
        if found is None:
            raise ValueError(
                f"reference has the point {number}, and {mapped.count(None)} in all, where the map "
                f"{map} has no class: give the map that the points were drawn from, and columns "
                f"lat and lon that are not swapped"
            )
    number_of = {str(value): key for key, value in labels.items()}
    sample = table[["id"]].assign(map_class=mapped)
    sample["reference"] = [_class(text, number_of, sorted(pixels)) for text in table["reference"]]
    sizes: Mapping[int, float] = hectares
    units: Mapping[int, int] = pixels
    if folder is not None:
        sample["stratum"], sizes, units = _strata_of(sample["id"], folder)
    sample = _with_reference(sample)
    named = {key: labels.get(key, key) for key in {*pixels, *sample["reference"]}}
    return estimate_area(
        sample.assign(
            map_class=sample["map_class"].map(named),
            reference=sample["reference"].map(named),
            stratum=sample.get("stratum", sample["map_class"]),
        ),
        sizes,
        mapped={named[key]: size for key, size in hectares.items()},
        units=units,
        level=level,
    )


def _read_reference(reference: str | Path | pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    source: Any = "table"
    if isinstance(reference, pd.DataFrame):
        table = reference.reset_index(drop=True)
    else:
        source = Path(reference)
        if not source.is_file():
            raise FileNotFoundError(f"reference is {source}, which does not exist: give a CSV file")
        try:
            table = pd.read_csv(source, dtype={"reference": "string"}, skipinitialspace=True)
        except (ValueError, UnicodeDecodeError) as error:
            raise ValueError(f"reference is {source}, which is no CSV file: {error}") from error
    missing = [c for c in ("id", "lat", "lon", "reference") if c not in table]
    if missing:
        raise ValueError(
            f"reference is {source} with the columns {', '.join(map(str, table.columns))}: give "
            f"{', '.join(missing)} too"
        )
    repeated = table["id"][table["id"].duplicated()]
    if len(repeated):
        raise ValueError(f"reference has the point {repeated.iloc[0]} twice: give each once")
    if table[["lat", "lon"]].isna().any(axis=None) or not table["lat"].between(-90, 90).all():
        raise ValueError(f"reference is {source} with places that are none: give degrees")
    return table


def _class(text: Any, number_of: Mapping[str, int], classes: list[int]) -> int | None:
    """Return the class that a field of the table means, None of an empty one."""
    import pandas as pd

    if pd.isna(text) or not str(text).strip():
        return None
    written = str(text).strip()
    if written in number_of:
        return number_of[written]
    try:
        number = float(written)
    except ValueError:
        number = float("nan")
    if number % 1 == 0:
        return int(number)
    known = ", ".join([*map(str, classes), *number_of])
    raise ValueError(
        f"reference has the class {written!r}: give one of {known}, or its name in names"
    )


def _design_folder(reference: str | Path | pd.DataFrame, design: str | Path | None) -> Path | None:
    if design is None:
        if not isinstance(reference, str | Path):
            return None
        folder = Path(reference).parent
        return folder if all((folder / name).is_file() for name in (STRATA, DESIGN)) else None
    folder = Path(design)
    for name in (STRATA, DESIGN):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"design is {folder}, without {name}: give the folder of draw_sample"
            )
    return folder


def _strata_of(ids: pd.Series, folder: Path) -> tuple[pd.Series, dict[int, float], dict[int, int]]:
    """Return the stratum of each point, and the hectares and pixels of each stratum."""
    import pandas as pd

    strata = pd.read_csv(folder / STRATA).set_index("id")["stratum"]
    sizes = _sizes_of(folder / DESIGN)
    unknown = ids[~ids.isin(strata.index)]
    if len(unknown):
        raise ValueError(
            f"reference has the point {unknown.iloc[0]}, and {len(unknown)} in all, which "
            f"{folder / STRATA} does not know: give the sample's own points alone"
        )
    found = ids.map(strata)
    return (
        found,
        {stratum: hectares for stratum, (hectares, _) in sizes.items()},
        {stratum: pixels for stratum, (_, pixels) in sizes.items()},
    )


def _sizes_of(path: Path) -> dict[int, tuple[float, int]]:
    """Return hectares and pixels of each stratum of a design's file."""
    advice = "give the folder of draw_sample"
    design = read_json(path, advice)
    try:
        return {
            int(row["stratum"]): (float(row["hectares"]), int(row["pixels"]))
            for row in design["strata"]
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no design of a sample ({error!r}): {advice}") from error


def _with_reference(sample: pd.DataFrame) -> pd.DataFrame:
    """Return the points that have a reference class, as integers."""
    known = sample["reference"].notna()
    if not known.any():
        raise ValueError(
            f"reference has {len(sample)} points, none with a class: fill the column 'reference'"
        )
    if not known.all():
        warnings.warn(
            f"{int((~known).sum())} of {len(sample)} points have no reference class and are left "
            f"out: the estimates are biased if these differ from the others, as places that are "
            f"hard to reach do",
            stacklevel=3,
        )
    kept = sample[known]
    return kept.assign(reference=kept["reference"].astype(int))
