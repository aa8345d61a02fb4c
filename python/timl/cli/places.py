"""Options of commands that adapt a model to places of your own, and the task that they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import timl
from timl.model_folders import STATISTICS

if TYPE_CHECKING:
    from timl.data.own.crop_types import OwnCropTypes
    from timl.data.own.points import OwnPoints

Places = Annotated[
    Path | None,
    typer.Option(help="Labelled places to fine-tune on: CSV, GeoJSON or what GeoPandas reads."),
]
Target = Annotated[
    str | None,
    typer.Option(help="Label of the positives; by default crop versus non-crop."),
]
FaoClass = Annotated[
    str | None, typer.Option("--class", help="FAO class of the target, such as cereals.")
]
LabelColumn = Annotated[
    str | None, typer.Option(help="Column of the places' labels; by default label.")
]


def read_places(
    model: timl.TIML | timl.nn.Classifier | timl.nn.DeepKernel,
    name: Path,
    points: Path,
    exports: str,
    *,
    target: str | None,
    fao_class: str | None,
    classes: str | None,
    label_column: str | None,
) -> OwnPoints | OwnCropTypes:
    """Return the task of places of one's own: of a target, or of several classes.

    Parameters
    ----------
    model
        Model that will be adapted, from the folder or name ``name``.
    points, exports, target, fao_class, classes, label_column
        The options; classes are names with commas between, or "all".

    Raises
    ------
    ValueError
        If options do not belong together, or the model does not tell how its series were prepared;
        otherwise as of `timl.data.own_points`.
    """
    from timl.maps import export_files

    given = {"--target": target, "--class": fao_class}
    idle = [option for option, value in given.items() if value is not None]
    if classes is not None and idle:
        raise ValueError(
            f"{' and '.join(idle)} belong to a map of one target: leave out --classes, or these"
        )
    if model.normalization is None:
        raise ValueError(
            f"--model is {name}, which does not tell how its series were prepared: give a model "
            f"that timl model or timl train made, or copy the record's {STATISTICS} beside the "
            f"authors' files"
        )
    columns: dict[str, Any] = {} if label_column is None else {"label_column": label_column}
    files = export_files(exports)
    if classes is not None:
        return timl.data.own_points(
            points,
            files,
            like=model.normalization,
            classes="all" if classes == "all" else class_list(classes),
            **columns,
        )
    return timl.data.own_points(
        points,
        files,
        like=model.normalization,
        target_label=target,
        classification_label=fao_class,
        **columns,
    )


def class_list(text: str) -> list[str]:
    """Return names that were given with commas between."""
    return [name.strip() for name in text.split(",")]
