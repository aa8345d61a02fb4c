"""Your own labelled places with exports of their series: a data set and a task in one call."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from timl.bands import BANDS, SERIES_SHAPE
from timl.crop_classes import CROP
from timl.data.cropharvest import CropHarvest
from timl.data.own.crop_types import (
    OwnCropTypes,
    codes_of_places,
    kinds_of_places,
    other_places,
)
from timl.data.own.exports import Fill, open_export, pixel_at, read_pixel, require_fill
from timl.data.own.places import left_out_text, no_test_places
from timl.data.own.points_table import read_points
from timl.data.own.statistics import statistics_of
from timl.data.record.calendar import dates_of_name, end_of_series
from timl.data.regions.boxes import BBox
from timl.data.regions.sphere import EARTH_RADIUS_KM
from timl.data.tasks.labelled_data import BenchmarkTask
from timl.data.tasks.task import Task, class_of_samples, has_label
from timl.data.tasks.test_instance import TestInstance
from timl.normalization import HasNormalization, HasStatistics

if TYPE_CHECKING:
    import pandas as pd

_METRES_PER_DEGREE = 1000 * float(np.radians(EARTH_RADIUS_KM))
_SUFFIXES = (".tif", ".tiff")


class OwnPoints(BenchmarkTask):
    """A task of your own places; made by `own_points`, used as any `BenchmarkTask`.

    Attributes
    ----------
    data, task, positives, negatives
        Those of `BenchmarkTask`. ``data.labels`` has a row per place with a series, and its columns
        ``filename`` and ``row`` say from which file and row of your table.
    unmatched
        Table of the places that were left out: row, lat, lon, reason.
    """

    unmatched: pd.DataFrame

    def __repr__(self) -> str:
        return super().__repr__() + left_out_text(self.unmatched)

    @property
    def test(self) -> TestInstance:
        """Test set: the places with ``is_test``.

        Raises
        ------
        FileNotFoundError
            If no place is kept for the test.
        """
        try:
            return super().test
        except FileNotFoundError:
            raise no_test_places(self) from None


@overload
def own_points(
    labels: str | Path | pd.DataFrame,
    exports: str | Path | Iterable[str | Path],
    *,
    like: HasStatistics | HasNormalization | Mapping[str, Any] | str | Path,
    target_label: str | None = None,
    classification_label: str | None = None,
    classes: None = None,
    name: str = "own points",
    region: BBox | None = None,
    tolerance_m: float = 0.0,
    fill: Fill = "pixel",
    **columns: str,
) -> OwnPoints: ...
@overload
def own_points(
    labels: str | Path | pd.DataFrame,
    exports: str | Path | Iterable[str | Path],
    *,
    like: HasStatistics | HasNormalization | Mapping[str, Any] | str | Path,
    target_label: None = None,
    classification_label: Mapping[str, str] | None = None,
    classes: Sequence[str] | Literal["all"],
    name: str = "own points",
    region: BBox | None = None,
    tolerance_m: float = 0.0,
    fill: Fill = "pixel",
    **columns: str,
) -> OwnCropTypes: ...
def own_points(
    labels: str | Path | pd.DataFrame,
    exports: str | Path | Iterable[str | Path],
    *,
    like: HasStatistics | HasNormalization | Mapping[str, Any] | str | Path,
    target_label: str | None = None,
    classification_label: str | Mapping[str, str] | None = None,
    classes: Sequence[str] | Literal["all"] | None = None,
    name: str = "own points",
    region: BBox | None = None,
    tolerance_m: float = 0.0,
    fill: Fill = "pixel",
    **columns: str,
) -> OwnPoints | OwnCropTypes:
    """Make a data set and a task of labelled places and exports in CropHarvest's GeoTIFF format.

    ``timl.finetune(model, own_points(...))`` adapts a model to them. Each place takes the series of
    the pixel that holds it, made as the record's were: see `timl.data.own.exports`.

    Parameters
    ----------
    labels
        Places: see `read_points`. Those with ``is_test`` become the test set.
    exports
        Folder, searched with its subfolders for .tif files; or files. A place whose row names no
        file is looked for in them; of several files that hold it, the one whose centre is nearest
        is taken.
    like
        Model that will be adapted, its folder or name ("default"), or the data set that it was
        trained on, or its ``normalization``: the series are made comparable by mean, std and
        ndvi.
    target_label
        Label of the positives; all others are negatives by CropHarvest's rules (see
        `Task`). By default crop versus non-crop.
    classification_label
        FAO class of the target label, one of `timl.data.CLASSES`; by default that of most of its
        places in the column ``classification_label``. Of several classes a dict from names to FAO
        classes, which may be left out.
    classes
        Labels to tell from each other, two or more, or "all" of them, in alphabetical order: then
        the task is an `OwnCropTypes`. Places with another label are left out, and ``.unmatched``
        lists them. Non-crops without a label are of class "non_crop".
    name
        Name of the task and its region.
    region
        Region of the task, which tells the task encoder where it is; it must hold all places. By
        default the smallest box that does.
    tolerance_m
        Greatest distance, metres, at which a place outside all files takes the nearest pixel.
    fill
        Filling of missing values: "pixel" as in the record, "file" as in maps; see
        `fill_missing`.
    **columns
        Names of columns: lat_column, lon_column, label_column, is_crop_column, filename_column;
        see `read_points`.

    Raises
    ------
    FileNotFoundError
        If the table, the folder or a file that is named does not exist.
    ValueError
        If a table or file is not as it must be, no place has a series, or the task has no
        positives or no negatives, or no training place of one of the classes.
    ImportError
        If rasterio is not installed: the extra ``timl[maps]``.

    Warns
    -----
    UserWarning
        If places were left out; ``.unmatched`` lists them.
    """
    import pandas as pd

    require_fill(fill)
    mean, std, ndvi = statistics_of(like)
    if not tolerance_m >= 0:
        raise ValueError(f"tolerance_m is {tolerance_m}: give metres, 0 or more")
    points = read_points(labels, **columns)
    files = _files(exports)
    target = CROP if target_label is None else target_label
    wanted: tuple[str, ...] = ()
    codes = has_label(points, target).astype(np.int8)
    if classes is not None:
        if target_label is not None:
            raise ValueError(
                f"target_label is {target_label!r}, classes {classes!r}: give one of the two"
            )
        wanted, codes = codes_of_places(points, classes)
    elif isinstance(classification_label, Mapping):
        raise ValueError(
            f"classification_label is {dict(classification_label)!r}, which only several classes "
            f"take: give classes too, or the FAO class of the target label"
        )
    if target != CROP and not (points["label"] == target).any():
        known = ", ".join(sorted(set(points["label"].dropna()))) or "none"
        raise ValueError(f"target_label is {target!r}, which no place has: give one of {known}")

    places = points[codes >= 0]
    series, sources, left_out = _read_series(places, files, ndvi, fill, tolerance_m)
    if not series:
        raise ValueError(
            f"exports hold a series of none of the {len(places)} places (row {left_out[0][0]}: "
            f"{left_out[0][-1]}): {_advice(places, files, tolerance_m)}"
        )
    left_out = sorted([*left_out, *other_places(points[codes < 0])])
    unmatched = pd.DataFrame(left_out, columns=["row", "lat", "lon", "reason"])
    if left_out:
        warnings.warn(
            f"{len(left_out)} of {len(points)} places were left out, the first, row "
            f"{left_out[0][0]}: {left_out[0][-1]}; .unmatched lists them",
            stacklevel=2,
        )
    kept = points.loc[list(series)]
    table = kept.assign(
        row=kept.index,
        index=kept.index,
        dataset=name,
        filename=list(sources.values()),
        export_end_date=[_end_date(file) for file in sources.values()],
    ).reset_index(drop=True)
    x = np.stack(list(series.values())).astype(np.float32).reshape(-1, *SERIES_SHAPE)
    is_test = table["is_test"].to_numpy(bool)
    test = TestInstance(
        x[is_test],
        codes[table["row"].to_numpy()[is_test]],
        table["lat"].to_numpy()[is_test],
        table["lon"].to_numpy()[is_test],
    )
    data = CropHarvest.from_series(
        table,
        x[~is_test],
        mean=mean,
        std=std,
        ndvi=ndvi,
        tests={name: test} if is_test.any() else {},
        root=files[0].parent,
    )
    where = _region(region, table, name)
    if wanted:
        return _crop_types(data, name, where, wanted, codes, classification_label, unmatched)
    assert not isinstance(classification_label, Mapping)  # refused above
    task = Task(
        where,
        target,
        test_identifier=name,
        classification_label=classification_label or _classification(table, target),
    )
    made = OwnPoints(data, name, task)
    made.unmatched = unmatched
    sizes = [len(made.positives), len(made.negatives)]
    if min(sizes) == 0:
        raise ValueError(
            f"labels have {sizes[0]} positives and {sizes[1]} negatives of task {task.id!r} among "
            f"{int((~is_test).sum())} training places: give both"
        )
    data.benchmarks = [made]
    return made


def _crop_types(
    data: CropHarvest,
    name: str,
    region: BBox,
    classes: tuple[str, ...],
    codes: NDArray[np.int8],
    classification_label: str | Mapping[str, str] | None,
    unmatched: pd.DataFrame,
) -> OwnCropTypes:
    """Return the task of several classes; `codes` are of all rows of the user's table."""
    table = data.labels
    trained = table[(table["position"] >= 0).to_numpy()]
    of_trained = codes[trained["row"].to_numpy()]
    lacking = [label for code, label in enumerate(classes) if not (of_trained == code).any()]
    if lacking:
        raise ValueError(
            f"labels have {len(trained)} training places with a series, none of "
            f"{', '.join(lacking)}: give some of each class, or other classes"
        )
    made = OwnCropTypes(
        data,
        name,
        region,
        classes,
        trained["position"].to_numpy(np.int64),
        of_trained,
        classification_labels=kinds_of_places(table, classes, classification_label),
        test=data.test_instance(name) if len(trained) < len(table) else None,
    )
    made.unmatched = unmatched
    return made


def _advice(points: pd.DataFrame, files: list[Path], tolerance_m: float) -> str:
    """Return what to give instead where no place has a series."""
    boxes = [_place(file) for file in files]
    turned = points[points["lon"].abs() <= 90]
    inside = sum(
        min(box.metres_to(lon, lat) for box in boxes) <= tolerance_m
        for lat, lon in zip(turned["lat"], turned["lon"], strict=True)
    )
    if inside:
        return (
            f"latitude and longitude seem to be exchanged, since {inside} of the places would lie "
            f"inside with lat for lon: name the columns the other way round, by lat_column and "
            f"lon_column"
        )
    return "give others, or a greater tolerance_m"


def _files(exports: str | Path | Iterable[str | Path]) -> list[Path]:
    if isinstance(exports, str | Path):
        folder = Path(exports)
        if not folder.exists():
            raise FileNotFoundError(f"exports is {folder}, which does not exist: give a folder")
        if folder.is_file():
            return [folder]
        files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in _SUFFIXES)
    else:
        files = [Path(file) for file in exports]
    if not files:
        raise ValueError(f"exports is {exports}, without a .tif file: give files")
    return files


@dataclass(frozen=True)
class _Place:
    """Place of a file: its edges, degrees."""

    path: Path
    west: float
    south: float
    east: float
    north: float

    def metres_to(self, lat: float, lon: float) -> float:
        """Return about the distance from a point to the nearest edge; 0 inside."""
        north = max(self.south - lat, 0.0, lat - self.north)
        east = max(self.west - lon, 0.0, lon - self.east) * np.cos(np.radians(lat))
        return float(np.hypot(north, east) * _METRES_PER_DEGREE)

    def degrees_to_centre(self, lat: float, lon: float) -> float:
        north, east = (self.south + self.north) / 2 - lat, (self.west + self.east) / 2 - lon
        return float(np.hypot(north, east * np.cos(np.radians(lat))))


def _place(path: Path) -> _Place:
    from rasterio.warp import transform_bounds

    with open_export(path) as file:
        return _Place(path, *transform_bounds(file.crs, "EPSG:4326", *file.bounds))


def _read_series(
    points: pd.DataFrame, files: list[Path], ndvi: str, fill: Fill, tolerance_m: float
) -> tuple[dict[int, NDArray[np.float64]], dict[int, str], list[tuple[int, float, float, str]]]:
    """Return the series and file name of each row that has one, and the rows that have none."""
    named: dict[str, list[Path]] = {}
    for file in files:
        named.setdefault(file.name, []).append(file)
    unnamed = bool(points["filename"].isna().any())
    places = [_place(file) for file in files] if unnamed else []
    series: dict[int, NDArray[np.float64]] = {}
    sources: dict[int, str] = {}
    left_out: list[tuple[int, float, float, str]] = []
    with ExitStack() as stack:
        opened: dict[Path, Any] = {}
        for row, lat, lon, filename in points[["lat", "lon", "filename"]].itertuples(name=None):
            try:
                if filename is None:
                    path = _file_at(places, lat, lon, tolerance_m)
                elif len(named.get(filename, [])) > 1:
                    first, second, *_ = named[filename]
                    raise ValueError(
                        f"exports hold {len(named[filename])} files called {filename!r}, such as "
                        f"{first} and {second}, and row {row} does not say which: give each a name "
                        f"of its own, or leave out the column of file names"
                    )
                elif filename in named:
                    path = named[filename][0]
                else:
                    raise LookupError(f"there is no export called {filename!r}")
                if path not in opened:
                    if len(opened) == 64:  # far below any limit on open files
                        stack.pop_all().close()
                        opened.clear()
                    opened[path] = stack.enter_context(open_export(path))
                series[row] = _series_at(opened[path], lat, lon, ndvi, fill, tolerance_m)
                sources[row] = path.name
            except LookupError as error:
                left_out.append((row, lat, lon, str(error.args[0])))
    return series, sources, left_out


def _file_at(places: list[_Place], lat: float, lon: float, tolerance_m: float) -> Path:
    """Return the file that holds a point; LookupError if none does."""
    distances = [place.metres_to(lat, lon) for place in places]
    nearest = min(distances)
    if nearest > tolerance_m:
        raise LookupError(
            f"no export holds latitude {lat}, longitude {lon}; the nearest is {nearest:.0f} m away"
        )
    holding = [p for p, distance in zip(places, distances, strict=True) if distance == nearest]
    ranked = sorted(holding, key=lambda place: place.degrees_to_centre(lat, lon))
    first, *others = ranked
    edges = (first.west, first.south, first.east, first.north)
    same = [p.path.name for p in others if (p.west, p.south, p.east, p.north) == edges]
    if same:
        raise ValueError(
            f"{first.path.name} and {', '.join(same)} cover the same place, latitude {lat}, "
            f"longitude {lon}: say in a column 'filename' which one a row means"
        )
    return first.path


def _series_at(
    file: Any, lat: float, lon: float, ndvi: str, fill: Fill, tolerance_m: float
) -> NDArray[np.float64]:
    """Read the series of the pixel that holds a point; LookupError if there is none."""
    row, column = pixel_at(file, lat, lon)
    inside = min(max(row, 0), file.height - 1), min(max(column, 0), file.width - 1)
    if inside != (row, column):
        distance = _place(Path(file.name)).metres_to(lat, lon)
        if distance > tolerance_m:
            raise LookupError(
                f"{Path(file.name).name} does not hold latitude {lat}, longitude {lon}, which is "
                f"{distance:.0f} m away from it"
            )
    series = read_pixel(file, *inside, ndvi, fill)
    gaps = np.flatnonzero(np.isnan(series).any(axis=0))
    if len(gaps):
        missing = ", ".join(BANDS[band] for band in gaps)
        raise LookupError(f"{Path(file.name).name} has no value of {missing} there")
    return series


def _end_date(filename: str) -> str | None:
    """Return the day on which the series of an export end, None where its name does not tell."""
    days = dates_of_name(filename)
    return None if days is None else end_of_series(days[0]).isoformat()


def _region(region: BBox | None, table: pd.DataFrame, name: str) -> BBox:
    lat, lon = table["lat"].to_numpy(), table["lon"].to_numpy()
    if region is None:
        return BBox(float(lat.min()), float(lat.max()), float(lon.min()), float(lon.max()), name)
    outside = ~region.contains(lat, lon)
    if outside.any():
        row = int(table["row"][outside.argmax()])
        raise ValueError(
            f"region is {region}, outside which {int(outside.sum())} of the places lie, the first "
            f"in row {row}: give one that holds all"
        )
    return region


def _classification(table: pd.DataFrame, target: str) -> str:
    if target == CROP:
        return CROP
    found = class_of_samples(table[table["label"] == target])
    if found is None:
        raise ValueError(
            f"target_label is {target!r}, whose FAO class the table does not tell and the task "
            "encoder needs: give classification_label, such as 'cereals', or a column of that name"
        )
    return found
