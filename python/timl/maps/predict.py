"""Maps: a classifier's predictions for every pixel of an export."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from timl.area.class_map import CLASSES_TAG
from timl.data.own.exports import Fill, import_rasterio
from timl.data.record.calendar import end_of_series
from timl.data.sources.source import Source, SourceLike, first_step, open_source, source_means
from timl.data.sources.windows import Window
from timl.evaluation.prevalence import Calibration
from timl.files import held_alone
from timl.maps.lazy import lazy_map
from timl.maps.predictor import Predictor, make_predictor, require_classifier
from timl.maps.writing import Parts, write_classes, write_map
from timl.nn import Classifier, Device, StrongClassifier
from timl.version import __version__

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

CROP_TYPES = "crop types"
"""Name of what a map of several classes shows, where none is given."""

_CACHE_BYTES = 1 << 28
"""Size of GDAL's cache of blocks."""


@dataclass(frozen=True)
class MapFiles:
    """Files of a finished map, see docs/explanation/map-files.md."""

    map: Path
    """Cloud-optimised GeoTIFF."""
    quicklook: Path
    """PNG with legend, scale bar and north arrow."""
    page: Path
    """HTML page that pans and zooms over the map."""
    item: Path
    """STAC item."""
    classes: Path | None = None
    """GeoTIFF of the classes alone, with their colours and names; None of two classes."""


@overload
def predict_map(
    classifier: Classifier | StrongClassifier,
    source: SourceLike,
    out: None = None,
    *,
    ensemble: Sequence[Classifier | StrongClassifier] = (),
    classes: Sequence[str] | None = None,
    class_probabilities: bool = True,
    threshold: float = 0.5,
    calibration: Calibration | None = None,
    prevalence: float | Mapping[str, float] | None = None,
    fill: Fill = "pixel",
    any_month: bool = False,
    vrt_within: str | Path | None = None,
    target: str | None = None,
    points: pd.DataFrame | None = None,
    device: Device | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> xr.Dataset: ...
@overload
def predict_map(
    classifier: Classifier | StrongClassifier,
    source: SourceLike,
    out: str | Path,
    *,
    ensemble: Sequence[Classifier | StrongClassifier] = (),
    classes: Sequence[str] | None = None,
    class_probabilities: bool = True,
    threshold: float = 0.5,
    calibration: Calibration | None = None,
    prevalence: float | Mapping[str, float] | None = None,
    fill: Fill = "pixel",
    any_month: bool = False,
    vrt_within: str | Path | None = None,
    target: str | None = None,
    points: pd.DataFrame | None = None,
    device: Device | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> MapFiles: ...
def predict_map(
    classifier: Classifier | StrongClassifier,
    source: SourceLike,
    out: str | Path | None = None,
    *,
    ensemble: Sequence[Classifier | StrongClassifier] = (),
    classes: Sequence[str] | None = None,
    class_probabilities: bool = True,
    threshold: float = 0.5,
    calibration: Calibration | None = None,
    prevalence: float | Mapping[str, float] | None = None,
    fill: Fill = "pixel",
    any_month: bool = False,
    vrt_within: str | Path | None = None,
    target: str | None = None,
    points: pd.DataFrame | None = None,
    device: Device | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> MapFiles | xr.Dataset:
    """Predict every pixel of an export.

    The pixels' series are made as those of `own_points`: an NDVI appended, B1 and B10 dropped,
    missing values filled, rounded to float32 and normalised as the classifier's. Windows of the
    source are computed by several threads, or by Dask within
    ``joblib.parallel_config(backend="dask")``; no result depends on how. Finished windows are kept
    beside the map: the same call goes on where it was stopped. Memory does not grow with the map.

    Parameters
    ----------
    classifier
        Adapted classifier with `normalization`, such as `timl.finetune` makes.
    source
        Exports in CropHarvest's format: a GeoTIFF, a VRT, a folder, a pattern, an address or a list
        of files on one grid (see `timl.maps.open_files`); or a cube of xarray or a Zarr store with
        the dimensions time, band, y and x (see `timl.maps.open_cube`).
    out
        Path of the map, a .tif; the other files lie beside it, with its name. None: return a lazy
        xarray object instead, which Dask computes.
    ensemble
        Classifiers of the same task, such as `timl.finetune_ensemble` gives: the standard deviation
        of their probabilities is the band "uncertainty", of several classes that of the
        probabilities of the class that is mapped.
    classes
        Names of the classes of a `Classifier` of several outputs; a `StrongClassifier` has them. A
        pixel is mapped as its most probable class, by its place among the names from 0 on.
    class_probabilities
        Whether the map has a band of each of several classes' probability.
    threshold
        Probability from which on a pixel is of class 1, of two classes.
    calibration
        Calibration of the logits, such as `calibrate` of a cross-validation fits.
    prevalence
        Share of the positive class that the probabilities are stated for; of several classes the
        share of each by its name: see `timl.evaluation.prevalence.logit_line`. None: as the
        classifier gives them, which weighs the classes alike.
    fill
        Filling of missing values by "pixel", as in the record's training series, or "file", as
        CropHarvest does it for maps; see `fill_missing`. Pixels whose series is not complete then
        have no data in the map.
    any_month
        Map a source that starts in another calendar month than the model's series all the same.
    vrt_within
        Folder of all files that a VRT may name; None: any file or address that GDAL reads. See
        `timl.maps.open_files`.
    target
        Name of the positive class, for the legends, by default "positive"; of several classes that
        of all together, for the headings, by default "crop types".
    points
        Labelled places to show, with columns lat, lon and label: 1 or 0, of several classes their
        names.
    device
        Device that the classifiers compute on, such as "cuda"; they stay where they are. None:
        there.
    workers
        Threads, or processes of Dask; by default as many as there are processors.
    progress
        Show a bar with pixels a second and the time left.

    Returns
    -------
    MapFiles or Dataset
        Files of the map; or variables [y, x] with the names of its bands: probability, class,
        uncertainty (with an ensemble), unlike (of a strong classifier): the distance to the nearest
        series of the training, above 1 where the pixel is unlike 99% of them; and of several
        classes, whose probability is that of the class, probability_NAME of each.

    Raises
    ------
    FileNotFoundError
        If a file of the source does not exist.
    TypeError, ValueError
        If an argument is out of range, the source cannot be read or understood, or its months are
        not the model's.
    OSError
        If the map cannot be written, or another process is writing it.
    ImportError
        If a package is missing: the extra ``timl[maps]``.
    """
    import_rasterio()
    require_classifier(classifier)
    opened = open_source(source, vrt_within)
    assert classifier.normalization is not None  # require_classifier would have raised
    months = classifier.normalization.get("start_months")
    predictor = make_predictor(
        classifier,
        ensemble,
        threshold=threshold,
        calibration=calibration,
        prevalence=prevalence,
        fill=fill,
        first=first_step(opened, months, any_month),
        classes=classes,
        class_probabilities=class_probabilities,
        device=device,
    )
    if out is None:
        return lazy_map(opened, predictor)
    path = _checked_out(out)
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}: give at least 1")
    threads = workers or os.cpu_count() or 1
    tags = _tags(opened, predictor, target, prevalence)
    with held_alone(path.with_name(f".{path.name}.lock"), path):
        plan = {"predictor": predictor.digest(), "source": opened.identity}
        parts = Parts(path, plan, opened.windows)
        _compute(opened, predictor, parts, threads, progress)
        write_map(path, parts, opened.grid, predictor.bands, tags, threads)
        alone = None
        if predictor.classes:
            alone, place = path.with_suffix(".classes.tif"), predictor.bands.index("class")
            write_classes(alone, parts, opened.grid, place, predictor.classes, tags, threads)
        files = _beside(path, alone, points)
        parts.remove()  # not before: a call that is stopped while it draws computes nothing again
    return files


def _checked_out(out: str | Path) -> Path:
    """Return the path of a map, or raise a ValueError."""
    path = Path(out)
    if path.suffix.lower() not in (".tif", ".tiff") or path.is_dir():
        raise ValueError(f"out is {out}: give the path of a .tif file")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _compute(
    source: Source, predictor: Predictor, parts: Parts, workers: int, progress: bool
) -> None:
    """Predict the windows that are not finished, and keep them."""
    import joblib

    missing = parts.missing()
    jobs = (joblib.delayed(_window)(source, predictor, n, source.windows[n]) for n in missing)
    # each thread reads, predicts and hands on: while one reads another computes
    parallel = joblib.Parallel(n_jobs=workers, prefer="threads", return_as="generator_unordered")
    rasterio = import_rasterio()
    sizes = [window.height * window.width for window in source.windows]
    with (
        rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES),
        _bar(sum(sizes), sum(sizes) - sum(sizes[n] for n in missing), progress) as advance,
    ):
        for number, values in parallel(jobs):
            parts.write(number, values)
            advance(sizes[number])


def _window(
    source: Source, predictor: Predictor, number: int, window: Window
) -> tuple[int, NDArray[np.float32]]:
    """Return a window's number and the map's bands there."""
    ndvi, fill = predictor.normalization["ndvi"], predictor.fill
    raw = source.read(window)
    return number, predictor.predict(raw, lambda: source_means(source, predictor.first, ndvi, fill))


@contextmanager
def _bar(total: int, done: int, shown: bool) -> Iterator[Any]:
    """Show a bar of pixels, and yield what is called with the number of finished ones."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("map"),
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:>3.0f}% {task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bars:
        task = bars.add_task("", total=total, completed=done, rate="")

        def advance(pixels: int) -> None:
            bars.update(task, advance=pixels)
            speed = bars.tasks[0].speed
            if speed:
                bars.update(task, rate=f"{speed:,.0f} pixels/s")

        yield advance


def _tags(
    source: Source,
    predictor: Predictor,
    target: str | None,
    prevalence: float | Mapping[str, float] | None,
) -> dict[str, str]:
    """Return the tags of a map."""
    if predictor.classes:
        of_classes = {
            "TIML_TARGET": target or CROP_TYPES,
            CLASSES_TAG: json.dumps(predictor.classes, ensure_ascii=False),
        }
    else:
        threshold = repr(predictor.threshold)
        of_classes = {"TIML_TARGET": target or "positive", "TIML_THRESHOLD": threshold}
    tags = {
        **of_classes,
        "TIML_VERSION": __version__,
        "TIML_CREATED": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "TIML_MODEL": type(predictor.classifier).__name__,
        "TIML_SOURCE": source.name.rsplit("/", 1)[-1],  # no folders of this machine
        "TIML_FIRST_STEP": str(predictor.first),
    }
    if isinstance(prevalence, Mapping):
        tags["TIML_PREVALENCE"] = json.dumps(
            {name: float(prevalence[name]) for name in predictor.classes}, ensure_ascii=False
        )
    elif prevalence is not None:
        tags["TIML_PREVALENCE"] = repr(prevalence)
    if source.start is not None:
        year, month = divmod(source.start.month - 1 + predictor.first, 12)
        start = source.start.replace(year=source.start.year + year, month=month + 1, day=1)
        tags["TIML_START"] = f"{start:%Y-%m}"
        tags["TIML_END"] = f"{end_of_series(start):%Y-%m}"
    return tags


def _beside(path: Path, classes: Path | None, points: pd.DataFrame | None) -> MapFiles:
    """Write what lies beside a map."""
    from timl.maps.drawing.page import write_page
    from timl.maps.drawing.quicklook import write_quicklook
    from timl.maps.drawing.stac import write_stac_item

    files = MapFiles(
        path,
        path.with_suffix(".png"),
        path.with_suffix(".html"),
        path.with_suffix(".json"),
        classes,
    )
    write_quicklook(path, files.quicklook, points=points)
    write_page(path, files.page, points=points)
    write_stac_item(
        path, files.item, quicklook=files.quicklook, page=files.page, classes=files.classes
    )
    return files
