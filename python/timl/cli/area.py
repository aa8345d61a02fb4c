"""Commands on a map's accuracy and area: sample, area."""

from __future__ import annotations

import json
import warnings
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from timl.cli.application import Seed, app, say

Map = Annotated[Path, typer.Option(help="GeoTIFF with a band of classes.")]
Band = Annotated[str, typer.Option(help="Name or number of the band of classes.")]


class _Allocation(Enum):
    PROPORTIONAL = "proportional"
    EQUAL = "equal"
    OPTIMAL = "optimal"


@app.command()
def sample(
    map: Map,
    out: Annotated[Path, typer.Option(help="Folder for the sample's files.")],
    size: Annotated[int | None, typer.Option(min=1, help="Number of points.")] = None,
    standard_error: Annotated[
        float | None,
        typer.Option(help="Or the wanted standard error of overall accuracy, such as 0.02."),
    ] = None,
    accuracy: Annotated[
        str | None,
        typer.Option(help="Expected user's accuracy of each class, 0=0.9,1=0.7; by default 0.85."),
    ] = None,
    allocation: Annotated[
        _Allocation, typer.Option(help="Rule that divides the points among the classes.")
    ] = _Allocation.PROPORTIONAL,
    least: Annotated[
        int | None,
        typer.Option(min=2, help="Points of each class, at least; by default 50 if there are."),
    ] = None,
    band: Band = "class",
    seed: Seed = 0,
) -> None:
    """Draw a stratified random sample of a map's pixels for a field team to visit."""
    from timl.area import draw_sample
    from timl.files import output_folder

    expected = {
        number: _share("--accuracy", accuracy, text)
        for number, text in _pairs("--accuracy", accuracy).items()
    }
    with output_folder(out):
        drawn = draw_sample(
            map,
            size,
            standard_error=standard_error,
            accuracies=expected or None,
            band=band,
            allocation=allocation.value,
            least=least,
            seed=seed,
        )
        drawn.write(out)
    say(f"planned size: {drawn.design['reason']}")
    for row in drawn.design["strata"]:
        name = f" ({row['name']})" if "name" in row else ""
        say(
            f"class {row['stratum']}{name}: {row['points']} points of {row['pixels']:,} pixels, "
            f"{row['hectares']:,.2f} ha"
        )
    say(
        f"{len(drawn.points)} points are in {out}: give sample.csv or sample.geojson to the field "
        f"team, keep strata.csv and design.json"
    )


@app.command()
def area(
    map: Map,
    reference: Annotated[Path, typer.Option(help="Filled-in sample.csv: id, lat, lon, reference.")],
    design: Annotated[
        Path | None,
        typer.Option(help="Folder of strata.csv and design.json; by default the table's."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for area.json and area.md; by default the table's."),
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(
            help="Names of classes that the map does not name or show, such as 0=other,1=maize."
        ),
    ] = None,
    level: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    band: Band = "class",
) -> None:
    """Estimate each class's hectares and the map's accuracy from a filled-in reference sample."""
    from timl.area import PIXEL_COUNTING, assess_map
    from timl.files import atomic_write, output_folder

    named = {key: text.strip() for key, text in _pairs("--names", names).items()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = assess_map(
            map,
            reference,
            design=design,
            band=band,
            names=named or None,
            level=level,
        )
    for warning in caught:
        say(f"note: {warning.message}", err=True)
    folder = reference.parent if out is None else out
    with output_folder(folder):
        with atomic_write(folder / "area.json", "w") as file:
            json.dump(result.to_dict(), file, indent=1)
        with atomic_write(folder / "area.md", "w") as file:
            file.write(result.to_markdown())
    say(f"{result!r}\n\n{PIXEL_COUNTING}")


def _pairs(option: str, text: str | None) -> dict[int, str]:
    """Return the pairs of a text such as "0=other,1=maize"."""
    pairs: dict[int, str] = {}
    for part in filter(None, (text or "").split(",")):
        number, equals, value = part.partition("=")
        if not equals or not number.strip().lstrip("-").isdigit():
            raise ValueError(f"{option} is {text!r}: give pairs of class and value, 0=...,1=...")
        pairs[int(number)] = value
    return pairs


def _share(option: str, text: str | None, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{option} is {text!r}: give numbers after the signs, 0=0.9") from None
