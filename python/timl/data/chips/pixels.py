"""Labelled pixels of many chips: a data set, its N-way tasks, and one task of them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from timl.crop_classes import NON_CROP
from timl.data.chips.chip import Chip
from timl.data.rasters.label_raster import open_labels, require_aligned
from timl.data.rasters.sampling import sample_pixels
from timl.data.rasters.series_data import SeriesData, statistics_of_series
from timl.data.regions.boxes import BBox
from timl.data.tasks.crop_types import CropTypeTask
from timl.data.tasks.nway import NWayTask, NWayTaskSet, check_nway_sizes
from timl.normalization import Normalization

if TYPE_CHECKING:
    import pandas as pd


class ChipPixels(SeriesData):
    """Labelled pixels of many chips, a `LabelledData`; made by `chip_pixels`.

    Attributes
    ----------
    labels
        Row per pixel; beside the columns of a `LabelledData` the number of its ``chip`` and its
        ``row`` and ``column`` there.
    classes
        Names of the classes.
    codes : int8 array of shape [n]
        Class of each pixel.
    classification_labels
        FAO class of each class, None where it is not known.
    """

    regions: Sequence[BBox]

    def __init__(
        self,
        labels: pd.DataFrame,
        series: NDArray[np.float32],
        codes: NDArray[np.int8],
        classes: tuple[str, ...],
        classification_labels: tuple[str | None, ...],
        regions: Sequence[BBox],
        normalization: Normalization,
    ) -> None:
        super().__init__(labels, series, normalization, regions)
        self.codes, self.classes = codes, classes
        self.classification_labels = classification_labels

    def task(self, name: str = "chips") -> CropTypeTask:
        """Return the task of telling all classes from each other, of the pixels of all chips.

        Raises
        ------
        ValueError
            If a class has no pixel.
        """
        lacking = sorted(set(self.classes) - set(self.labels["label"]))
        if lacking:
            raise ValueError(
                f"chips is {len(self.regions)} chips, without a pixel of {', '.join(lacking)}: "
                f"give more chips, or chips whose `classes` leave it out"
            )
        edges = np.array([[r.min_lat, r.max_lat, r.min_lon, r.max_lon] for r in self.regions])
        south, north = edges[:, 0].min(), edges[:, 1].max()
        west, east = edges[:, 2].min(), edges[:, 3].max()
        return CropTypeTask(
            self,
            name,
            BBox(float(south), float(north), float(west), float(east), name),
            self.classes,
            np.arange(len(self)),
            self.codes,
            classification_labels=self.classification_labels,
        )

    def nway_tasks(
        self, ways: int = 5, *, k: int = 5, query: int = 5, inner_steps: int = 1
    ) -> NWayTaskSet:
        """Make the N-way tasks to meta-train on: every chip that has at least N classes.

        One chip is one region. A class needs ``k * inner_steps + query`` of its pixels.

        Parameters
        ----------
        ways, k, query, inner_steps
            As of `timl.data.nway_tasks`.

        Raises
        ------
        ValueError
            If a size is out of range, or no chip has enough classes.
        """
        check_nway_sizes(k, query, inner_steps)
        if ways < 2:
            raise ValueError(f"ways is {ways}: give at least 2")
        needed = k * inner_steps + query
        tasks, samples = [], []
        of_chip = self.labels["chip"].to_numpy()
        for number, region in enumerate(self.regions):
            own = [np.flatnonzero((of_chip == number) & (self.codes == code))
                   for code in range(len(self.classes))]  # fmt: skip
            found = [code for code, positions in enumerate(own) if len(positions) >= needed]
            if len(found) >= ways:
                names = tuple(self.classes[code] for code in found)
                kinds = tuple(self.classification_labels[code] or "other" for code in found)
                tasks.append(NWayTask(region, names, kinds))
                samples.append(tuple(own[code] for code in found))
        if not tasks:
            raise ValueError(
                f"no chip has {ways} classes of {needed} pixels (k * inner_steps + query): give "
                f"fewer ways, smaller sizes or more pixels per class"
            )
        numbers = np.arange(len(tasks), dtype=np.int64)
        return NWayTaskSet(self, tuple(tasks), tuple(samples), numbers, ways)


def chip_pixels(
    chips: Sequence[Chip], per_class: int, *, erosion: int = 0, seed: int = 0
) -> ChipPixels:
    """Draw labelled pixels of chips, which are read one after the other.

    Pixels without a complete series are left out.

    Parameters
    ----------
    chips
        Chips of the same bands and classes.
    per_class
        Pixels of each class and chip; where there are fewer all are taken.
    erosion
        Borders of fields, see `timl.data.raster_labels`.
    seed
        Seed of the draw.

    Returns
    -------
    ChipPixels
        Normalised by the statistics of the pixels drawn.

    Raises
    ------
    FileNotFoundError
        If an image or a mask does not exist.
    ValueError
        If there is no chip, a number is out of range, a file cannot be read, a mask is not on its
        image's pixels, chips are of other bands, dates or classes, or no pixel has a class.
    ImportError
        If rasterio is not installed: the extra ``timl[maps]``.
    """
    import pandas as pd

    if not chips:
        raise ValueError("chips is an empty list: give at least one chip")
    names, kinds = chips[0].class_names, chips[0].kinds
    tables: list[pd.DataFrame] = []
    series: list[NDArray[np.float32]] = []
    codes: list[NDArray[np.int8]] = []
    regions: list[BBox] = []
    for number, chip in enumerate(chips):
        if chip.class_names != names:
            raise ValueError(
                f"chips has {chip.name} of the classes {', '.join(chip.class_names)}, and "
                f"{chips[0].name} of {', '.join(names)}: give chips of the same classes"
            )
        with open_labels(chip.required_mask, chip.classes, erosion=erosion) as raster:
            grid = chip.grid
            require_aligned(raster, grid, str(chip.image))
            drawn = sample_pixels(raster, per_class, seed=seed, number=number, lacking_allowed=True)
        x = chip.pixels(drawn.rows, drawn.columns)
        if series and x.shape[1:] != series[0].shape[1:]:
            raise ValueError(
                f"chips has {chip.name} with series of shape {list(x.shape[1:])}, and "
                f"{chips[0].name} of {list(series[0].shape[1:])}: give chips of the same dates and "
                f"bands"
            )
        whole = ~np.isnan(x).any(axis=(1, 2))
        lat, lon = grid.degrees(drawn.columns + 0.5, drawn.rows + 0.5)
        table = {"lat": lat, "lon": lon, "row": drawn.rows, "column": drawn.columns}
        tables.append(pd.DataFrame(table)[whole].assign(chip=number))
        series.append(x[whole])
        codes.append(drawn.codes[whole])
        regions.append(chip.region)
    labels, x, y = (
        pd.concat(tables, ignore_index=True),
        np.concatenate(series),
        np.concatenate(codes),
    )
    if not len(y):
        raise ValueError(
            f"chips is of {len(chips)} masks without a pixel of the classes {', '.join(names)}: "
            f"give others, or a smaller erosion"
        )
    of = tuple(kinds.get(name) for name in names)
    labels = labels.assign(
        label=np.array(names, object)[y],
        classification_label=np.array(of, object)[y],
        is_crop=np.array([int(kind != NON_CROP) for kind in of])[y],
        is_test=0,
        position=np.arange(len(y)),
    )
    mean, std = statistics_of_series(x)
    normalization = Normalization(mean=mean, std=std, ndvi="unknown")
    return ChipPixels(labels, x, y, names, of, regions, normalization)
