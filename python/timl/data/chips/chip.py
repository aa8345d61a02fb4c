"""One chip, read when it is asked for, and the chips of a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from timl.data.chips.layout import CHIP_BANDS, CHIP_CLASSES, CHIP_KINDS, IMAGE, MASK, Part
from timl.data.own.exports import import_rasterio, open_raster, require_layout
from timl.data.rasters.label_raster import open_labels, require_aligned
from timl.data.regions.boxes import BBox
from timl.data.sources.grid import Grid


@dataclass(frozen=True)
class Chip:
    """An image of T dates and F bands, and its mask; nothing is read before it is asked for.

    A chip is a source of `timl.data.raster_labels`.

    Parameters
    ----------
    image
        GeoTIFF of T * F bands, all bands of the first date first.
    mask
        GeoTIFF of the classes on the same pixels; None of a chip to be mapped.
    bands
        Names of the F bands of a date.
    classes
        Names of the classes by their values in the mask; other values are ignored.
    kinds
        FAO class of each class by its name, where it is known.
    """

    image: Path
    mask: Path | None = None
    bands: tuple[str, ...] = CHIP_BANDS
    classes: Mapping[int, str] = field(default_factory=lambda: CHIP_CLASSES)
    kinds: Mapping[str, str] = field(default_factory=lambda: CHIP_KINDS)

    @property
    def name(self) -> str:
        """Name of the chip, such as "chip_004_057"."""
        return self.image.name.removesuffix(IMAGE)

    @property
    def grid(self) -> Grid:
        """Grid of the pixels."""
        with open_raster(self.image, "image") as file:
            require_layout(file, f"image is {self.image}, which")
            return Grid.of_file(file)

    @property
    def region(self) -> BBox:
        """Box that holds the chip, degrees."""
        lats, lons = self.grid.mesh()
        return BBox(
            float(lats.min()), float(lats.max()), float(lons.min()), float(lons.max()), self.name
        )

    def series(self) -> NDArray[np.float32]:
        """Read the series of all pixels as measured.

        Returns
        -------
        float32 array of shape [height, width, T, F]
            NaN where the image has no data.

        Raises
        ------
        FileNotFoundError
            If there is no such image.
        ValueError
            If it cannot be read, or its bands are no whole number of dates.
        """
        rasterio = import_rasterio()
        with open_raster(self.image, "image") as file:
            require_layout(file, f"image is {self.image}, which")
            steps, left = divmod(file.count, len(self.bands))
            if left:
                raise ValueError(
                    f"image is {self.image}, of {file.count} bands: give a multiple of the "
                    f"{len(self.bands)} bands of a date, {', '.join(self.bands)}"
                )
            try:
                raw = file.read(out_dtype=np.float32)
            except rasterio.errors.RasterioError as error:
                raise ValueError(f"image is {self.image}, which is damaged: {error}") from error
            if file.nodata is not None:
                raw[raw == np.float32(file.nodata)] = np.nan
        raw[~np.isfinite(raw)] = np.nan
        height, width = raw.shape[1:]
        cube: NDArray[np.float32] = raw.reshape(steps, len(self.bands), height, width)
        pixels_first: NDArray[np.float32] = np.transpose(cube, (2, 3, 0, 1))
        return pixels_first

    def pixels(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read the series of some pixels as measured, float32 [n, T, F]; NaN is missing."""
        return self.series()[rows, columns]

    def labels(self, erosion: int = 0) -> NDArray[np.int8]:
        """Read the classes of all pixels.

        Parameters
        ----------
        erosion
            Rows and columns that a pixel must be away from other values: see `raster_labels`.

        Returns
        -------
        int8 array of shape [height, width]
            Places of the classes among `class_names`, -1 where there is none.

        Raises
        ------
        FileNotFoundError
            If there is no mask.
        ValueError
            If it cannot be read or is not on the image's pixels.
        """
        with open_labels(self.required_mask, self.classes, erosion=erosion) as raster:
            require_aligned(raster, self.grid, str(self.image))
            return raster.codes(0, raster.file.height)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of their numbers."""
        return tuple(dict.fromkeys(self.classes.values()))

    @property
    def required_mask(self) -> Path:
        """Path of the mask; FileNotFoundError where there is none."""
        if self.mask is None:
            raise FileNotFoundError(f"{self.image} has no mask: give a chip with one")
        return self.mask


def open_chips(
    root: str | Path,
    part: Part = "training",
    *,
    bands: Sequence[str] = CHIP_BANDS,
    classes: Mapping[int, str] = CHIP_CLASSES,
    kinds: Mapping[str, str] = CHIP_KINDS,
) -> list[Chip]:
    """Find the chips of one part of a data set; no pixel is read.

    The folder is that of multi-temporal crop segmentation as it is published and unpacked
    (docs/how-to/chips.md): PART_chips/NAME_merged.tif and PART_chips/NAME.mask.tif, and, in the
    folder or in PART_chips, the list of the part's names, PART_data.txt. Without a list every
    image counts.

    Parameters
    ----------
    root
        Folder of the data set.
    part
        "training" or "validation".
    bands, classes, kinds
        Those of other data in this layout: see `Chip`.

    Returns
    -------
    list of Chip
        In the order of their names.

    Raises
    ------
    FileNotFoundError
        If the folder, or an image or mask of a name, does not exist.
    ValueError
        If the part is neither, or the list names a chip twice.
    """
    if part not in get_args(Part):
        raise ValueError(f"part is {part!r}: give 'training' or 'validation'")
    folder = Path(root) / f"{part}_chips"
    if not folder.is_dir():
        raise FileNotFoundError(f"root is {root}, without the folder {folder.name}: give another")
    lists = [path for at in (folder.parent, folder) if (path := at / f"{part}_data.txt").is_file()]
    if lists:
        names = sorted(filter(None, map(str.strip, lists[0].read_text("utf-8").splitlines())))
        doubled = [one for one, other in pairwise(names) if one == other]
        if doubled:
            raise ValueError(f"{lists[0]} names {doubled[0]} twice: name each chip once")
    else:
        names = sorted(path.name.removesuffix(IMAGE) for path in folder.glob(f"*{IMAGE}"))
    if not names:
        raise FileNotFoundError(f"{folder} holds no file NAME{IMAGE}: give another root")
    for file in (folder / f"{name}{end}" for name in names for end in (IMAGE, MASK)):
        if file.parent != folder or not file.is_file():
            raise FileNotFoundError(f"{file} does not exist, for a chip of {part}: give it")
    return [
        Chip(folder / f"{name}{IMAGE}", folder / f"{name}{MASK}", tuple(bands), classes, kinds)
        for name in names
    ]
