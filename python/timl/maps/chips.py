"""Maps of chips: the class of every pixel, and its scores over the pixels that have a label."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from timl.area.class_map import CLASSES_TAG
from timl.data.chips import Chip
from timl.data.own.exports import import_rasterio
from timl.data.rasters.label_raster import NO_CLASS
from timl.data.rasters.series_data import normalised
from timl.evaluation.class_scores import ClassScores, class_scores
from timl.evaluation.prediction import logits
from timl.files import atomic_write
from timl.maps.drawing.legend import CLASS_COLOURS
from timl.maps.drawing.legend import NO_CLASS as NO_DATA
from timl.maps.writing import colour_table
from timl.nn import Classifier, Device, on_device


def predict_chip(
    classifier: Classifier,
    chip: Chip,
    out: str | Path | None = None,
    *,
    classes: Sequence[str] | None = None,
    device: Device | None = None,
) -> NDArray[np.int8]:
    """Map the class of every pixel of a chip.

    Parameters
    ----------
    classifier
        Classifier of the chip's dates and bands, with an output for each class and a
        `normalization`.
    chip
        Chip to map; its mask is not read.
    out
        Path of a GeoTIFF to write: the numbers of the classes, 255 where there is no data, with
        their names and colours, as `timl area` reads it.
    classes
        Names of the classes; by default the chip's.
    device
        Device that computes, such as "cuda"; the classifier stays as it is. None: where it is.

    Returns
    -------
    int8 array of shape [height, width]
        Place of the most probable class among the names, -1 where the image has no data.

    Raises
    ------
    FileNotFoundError
        If there is no such image.
    ValueError
        If the classifier does not fit the chip or the names, the image cannot be read, or there is
        no such device.
    ImportError
        If rasterio is not installed: the extra ``timl[maps]``.
    """
    classifier = on_device(classifier, device)
    names = chip.class_names if classes is None else tuple(classes)
    if classifier.outputs != len(names) or not 2 <= len(names) <= len(CLASS_COLOURS):
        raise ValueError(
            f"classifier is of {classifier.outputs} outputs, and classes is {list(names)}: give a "
            f"name for each output, 2 to {len(CLASS_COLOURS)}"
        )
    if classifier.normalization is None:
        raise ValueError("classifier has no normalization: set that of the data it was trained on")
    if out is not None and Path(out).suffix.lower() not in (".tif", ".tiff"):
        raise ValueError(f"out is {out}: give the path of a .tif file")
    series = chip.series()
    if series.shape[2:] != (classifier.steps, classifier.bands):
        raise ValueError(
            f"chip is {chip.name}, of {series.shape[2]} dates and {series.shape[3]} bands: give "
            f"one of {classifier.steps} and {classifier.bands}, as the classifier takes"
        )
    whole = ~np.isnan(series).any(axis=(2, 3))
    found: NDArray[np.int8] = np.full(whole.shape, NO_CLASS, np.int8)
    if whole.any():
        mean, std = classifier.normalization["mean"], classifier.normalization["std"]
        x = normalised(series[whole], mean, std)
        found[whole] = logits(classifier, x).argmax(axis=1)
    if out is not None:
        _write(Path(out), chip, found, names)
    return found


def evaluate_chips(
    classifier: Classifier, chips: Sequence[Chip], *, device: Device | None = None
) -> ClassScores:
    """Score a classifier on all labelled pixels of chips, which are read one after the other.

    Parameters
    ----------
    classifier, device
        Those of `predict_chip`.
    chips
        Chips with masks, of the same classes.

    Raises
    ------
    FileNotFoundError
        If an image or a mask does not exist.
    ValueError
        If there is no chip, the classifier does not fit, no pixel has a label, or there is no such
        device.
    """
    if not chips:
        raise ValueError("chips is an empty list: give at least one chip")
    classifier, truth, found = on_device(classifier, device), [], []
    for chip in chips:
        labels, mapped = chip.labels(), predict_chip(classifier, chip)
        counted = (labels != NO_CLASS) & (mapped != NO_CLASS)
        truth.append(labels[counted])
        found.append(mapped[counted])
    names, kinds = chips[0].class_names, chips[0].kinds
    return class_scores(
        np.concatenate(truth),
        np.concatenate(found),
        names,
        classification_labels=[kinds.get(name) for name in names],
    )


def _write(out: Path, chip: Chip, found: NDArray[np.int8], names: tuple[str, ...]) -> None:
    """Write a map of classes, whole or not at all."""
    from rasterio.io import MemoryFile

    import_rasterio()
    grid = chip.grid
    colours = CLASS_COLOURS[: len(names)]
    out.parent.mkdir(parents=True, exist_ok=True)
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            count=1,
            height=grid.height,
            width=grid.width,
            dtype="uint8",
            crs=grid.crs,
            transform=grid.transform,
            nodata=NO_DATA,
            compress="deflate",
        ) as file:
            file.write(np.where(found == NO_CLASS, NO_DATA, found).astype(np.uint8), 1)
            file.set_band_description(1, "class")
            file.update_tags(**{CLASSES_TAG: json.dumps(names, ensure_ascii=False)})
            file.write_colormap(1, colour_table(colours))
        with atomic_write(out) as written:
            written.write(memory.read())
