"""Command that maps exports: from points, or with a classifier that was adapted before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import timl
from timl.cli.application import MOST_THREADS, Device, Quiet, Seed, app, say
from timl.cli.models import require_no_model
from timl.cli.places import FaoClass, LabelColumn, Places, Target, class_list, read_places
from timl.files import output_folder


@app.command(name="map")
def map_exports(
    model: Annotated[
        Path,
        typer.Option(
            help="Meta-trained model, or the name of one that timl model made; without --points "
            "the folder of a classifier."
        ),
    ],
    exports: Annotated[
        str,
        typer.Option(
            help="What is mapped: GeoTIFF, VRT, folder, pattern in quotes, address or Zarr store."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the map and everything beside it.")],
    points: Places = None,
    target: Target = None,
    fao_class: FaoClass = None,
    label_column: LabelColumn = None,
    members: Annotated[
        int | None,
        typer.Option(min=2, help="Members of the ensemble of the uncertainty; by default 5."),
    ] = None,
    prevalence: Annotated[
        str | None,
        typer.Option(
            help="Share of the target in the area, which probabilities are stated for; of several "
            "classes that of each, maize=0.3,wheat=0.7."
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="With --points labels to tell from each other, maize,wheat,rice, or all; "
            "otherwise names of the classes of a classifier that does not say them."
        ),
    ] = None,
    class_probabilities: Annotated[
        bool,
        typer.Option(
            "--class-probabilities/--no-class-probabilities",
            help="Write a band of each of several classes' probability.",
        ),
    ] = True,
    threshold: Annotated[
        float | None,
        typer.Option(help="Least probability of the target; by default that of cross-validation."),
    ] = None,
    block_km: Annotated[
        float, typer.Option(help="Edge of the blocks of cross-validation, km.")
    ] = 3.0,
    any_month: Annotated[
        bool,
        typer.Option("--any-month", help="Map exports that start in other months all the same."),
    ] = False,
    vrt_within: Annotated[
        Path | None,
        typer.Option(help="Folder of all files that a VRT may name; by default it may name any."),
    ] = None,
    seed: Seed = 0,
    device: Device = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_THREADS,
            help="Threads, which change no result; by default one a processor.",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Map exports, with accuracy and area; go on where it was stopped."""
    shares = _prevalence(prevalence)
    loaded = timl.nn.load_pretrained(model)
    if points is None:
        given = {
            "--target": target,
            "--class": fao_class,
            "--label-column": label_column,
            "--members": members,
        }
        idle = [name for name, value in given.items() if value is not None]
        if idle:
            raise ValueError(f"{' and '.join(idle)} belong to --points: give --points too")
        if isinstance(loaded, timl.TIML | timl.nn.DeepKernel):
            raise ValueError(
                f"--model is {model}, which is not adapted to a task: give --points to adapt it "
                f"to, or the folder of a classifier"
            )
        with output_folder(out):
            files = timl.predict_map(
                loaded,
                exports,
                out / "map.tif",
                threshold=0.5 if threshold is None else threshold,
                prevalence=shares,
                classes=None if classes is None else class_list(classes),
                class_probabilities=class_probabilities,
                any_month=any_month,
                vrt_within=vrt_within,
                device=device,
                workers=workers,
                progress=not quiet,
            )
        say(f"map             {files.map}\npage            {files.page}")
        return
    if isinstance(loaded, timl.nn.StrongClassifier):
        raise ValueError(f"--model is {model}, an adapted classifier: leave out --points")
    places = read_places(
        loaded,
        model,
        points,
        exports,
        target=target,
        fao_class=fao_class,
        classes=classes,
        label_column=label_column,
    )
    require_no_model(out / "classifier", model)
    made = timl.map_points(
        loaded,
        places,
        exports,
        out,
        members=5 if members is None else members,
        block_km=block_km,
        prevalence=shares,
        threshold=threshold,
        class_probabilities=class_probabilities,
        any_month=any_month,
        vrt_within=vrt_within,
        seed=seed,
        device=device,
        workers=workers,
        progress=not quiet,
    )
    if made.validation is not None:
        say(f"{made.validation!r}")
    say(
        f"""report          {made.report}
map             {made.files.map}
page            {made.files.page}
next:
  timl sample --map {made.files.map} --out {out / "sample"} --standard-error 0.03"""
    )


def _prevalence(text: str | None) -> float | dict[str, float] | None:
    """Return the share, or the share of each class, that an option says."""
    if text is None:
        return None
    try:
        if "=" not in text:
            return float(text)
        pairs = [part.rpartition("=") for part in text.split(",")]
        shares = {name.strip(): float(value) for name, _, value in pairs}
    except ValueError:
        raise ValueError(
            f"--prevalence is {text!r}: give a share, 0.12, or one of each class, "
            f"maize=0.3,wheat=0.7"
        ) from None
    if len(shares) < len(pairs):
        raise ValueError(f"--prevalence is {text!r}: give each class once")
    return shares
