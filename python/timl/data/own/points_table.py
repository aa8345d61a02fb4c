"""Tables of labelled places: reading and checking what a user has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from timl.crop_classes import CLASSES, NON_CROP
from timl.files import read_json

if TYPE_CHECKING:
    import pandas as pd

_YES_OR_NO = {
    "1": 1,
    "1.0": 1,
    "true": 1,
    "yes": 1,
    "crop": 1,
    "0": 0,
    "0.0": 0,
    "false": 0,
    "no": 0,
    "non-crop": 0,
    "non_crop": 0,
}


def read_points(
    labels: str | Path | pd.DataFrame,
    *,
    lat_column: str = "lat",
    lon_column: str = "lon",
    label_column: str = "label",
    is_crop_column: str = "is_crop",
    filename_column: str = "filename",
) -> pd.DataFrame:
    """Read labelled places into a table, one row per place; its index is the number of the row.

    Its columns are lat, lon (float64), label (str or None), is_crop (int64), classification_label
    (str or None), filename (str or None) and is_test (bool; from a column of that name, or False).

    Parameters
    ----------
    labels
        CSV file, a GeoJSON file of points, any other file that GeoPandas reads, or a table. A
        table without columns of latitude and longitude needs geometries; of a polygon a point
        inside it is taken.
    lat_column, lon_column
        Columns of latitude and longitude, degrees.
    label_column, is_crop_column
        Columns of the label and of whether it is a crop (1 or 0, yes or no, true or false); at
        least one of the two. Without the second, what has a label is a crop unless its
        ``classification_label`` or its label is "non_crop".
    filename_column
        Column of the file with the place's series, where it should not be looked for.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a column is missing or a value makes no sense; the message names the row.
    """
    import pandas as pd

    table, source = _load(labels, lat_column, lon_column)
    if len(table) == 0:
        raise ValueError(f"{source} has no rows: give at least one place")
    for column in (lat_column, lon_column):
        if column not in table:
            raise ValueError(
                f"{source} has no column {column!r}; it has {', '.join(map(str, table.columns))}: "
                "name the columns of latitude and longitude with lat_column and lon_column"
            )
    if label_column not in table and is_crop_column not in table:
        raise ValueError(
            f"{source} has neither a column {label_column!r} nor {is_crop_column!r}; it has "
            f"{', '.join(map(str, table.columns))}: name one with label_column or is_crop_column"
        )
    points = pd.DataFrame(
        {
            "lat": _degrees(table[lat_column], 90, source),
            "lon": _degrees(table[lon_column], 180, source),
            "label": _texts(table, label_column),
            "classification_label": _texts(table, "classification_label"),
            "filename": _texts(table, filename_column),
        }
    )
    unknown = ~points["classification_label"].isin([*CLASSES, None])
    if unknown.any():
        row = int(unknown.to_numpy().argmax())
        raise ValueError(
            f"{source}, row {row}: classification_label is "
            f"{points['classification_label'][row]!r}: give one of {', '.join(CLASSES)}"
        )
    if is_crop_column in table:
        points["is_crop"] = _yes_or_no(table[is_crop_column], source)
    else:
        missing = points["label"].isna()
        if missing.any():
            raise ValueError(
                f"{source}, row {int(missing.to_numpy().argmax())}: {label_column!r} is empty "
                f"({int(missing.sum())} such rows): give every place a label, or a column "
                f"{is_crop_column!r}"
            )
        plain = points["label"].str.lower().str.replace(r"[\s_-]", "", regex=True)
        non_crop = (points["classification_label"] == NON_CROP) | (plain == "noncrop")
        points["is_crop"] = (~non_crop).astype(np.int64)
    points["is_test"] = _yes_or_no(table["is_test"], source) == 1 if "is_test" in table else False
    return points


def _load(
    labels: str | Path | pd.DataFrame, lat_column: str, lon_column: str
) -> tuple[pd.DataFrame, str]:
    """Return a table with rows numbered from 0, and what to call it in messages."""
    import pandas as pd

    if isinstance(labels, pd.DataFrame):
        table, source = labels, "labels"
    else:
        path = Path(labels)
        source = str(path)
        if not path.exists():
            raise FileNotFoundError(f"labels is {path}, which does not exist: give a file")
        if path.suffix.lower() in (".csv", ".txt", ".tsv"):
            try:
                table = pd.read_csv(path, sep="\t" if path.suffix.lower() == ".tsv" else ",")
            except (ValueError, pd.errors.ParserError) as error:
                raise ValueError(f"{path} is not a CSV file: {error}") from error
        else:
            table = _geojson_points(path, lat_column, lon_column)
            if table is None:
                from timl.data.regions.geometries import read_shapes

                table = read_shapes(path)
    table = table.reset_index(drop=True)
    geometry = table.geometry if hasattr(table, "to_crs") else None
    if geometry is not None and not {lat_column, lon_column} <= set(table.columns):
        from timl.data.regions.geometries import in_degrees

        places = in_degrees(geometry).representative_point()
        table = pd.DataFrame(table.drop(columns=geometry.name)).assign(
            **{lat_column: places.y, lon_column: places.x}
        )
    return table, source


def _geojson_points(path: Path, lat_column: str, lon_column: str) -> Any:
    """Read a GeoJSON file whose features are all points in degrees; None if it is not one."""
    import pandas as pd

    if path.suffix.lower() not in (".geojson", ".json"):
        return None
    try:
        content = read_json(path, "give places as GeoJSON or CSV")
        features = content["features"]
        system = str(content.get("crs", "CRS84"))
        if not ("CRS84" in system or "4326" in system):
            return None
        rows = []
        for feature in features:
            if feature["geometry"]["type"] != "Point":
                return None
            lon, lat = feature["geometry"]["coordinates"][:2]
            rows.append({lat_column: lat, lon_column: lon} | dict(feature["properties"] or {}))
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not a GeoJSON file of places: {error!r}") from error
    return pd.DataFrame.from_records(rows)


def _degrees(column: pd.Series, limit: int, source: str) -> pd.Series:
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce").astype(np.float64)
    wrong = ~(numbers.abs() <= limit)
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise ValueError(
            f"{source}, row {row}: {column.name!r} is {column.tolist()[row]!r}: give degrees in "
            f"[-{limit}, {limit}] ({int(wrong.sum())} such rows)"
        )
    return numbers


def _texts(table: pd.DataFrame, name: str) -> Any:
    """Return a column as stripped text; None where it is empty, or missing altogether."""
    import pandas as pd

    if name not in table:
        return pd.Series([None] * len(table), dtype=object)
    values = [None if pd.isna(value) else str(value).strip() or None for value in table[name]]
    return pd.Series(values, dtype=object)


def _yes_or_no(column: pd.Series, source: str) -> pd.Series:
    """Return a column as int64 1 and 0."""
    numbers = column.astype(str).str.strip().str.lower().map(_YES_OR_NO)
    if numbers.isna().any():
        row = int(numbers.isna().to_numpy().argmax())
        raise ValueError(
            f"{source}, row {row}: {column.name!r} is {column.tolist()[row]!r}: give 1 or 0, yes "
            "or no, true or false"
        )
    return numbers.astype(np.int64)
