"""The layout of multi-temporal crop segmentation: names of files, bands and classes.

That of the data set ibm-nasa-geospatial/multi-temporal-crop-classification on Hugging Face (doi
10.57967/hf/0955): its card lists bands and classes, and terratorch's
`MultiTemporalCropClassification` reads the same names of files.
"""

from __future__ import annotations

from typing import Literal

from timl.crop_classes import NON_CROP

Part = Literal["training", "validation"]
"""Parts of the data set, each with a folder PART_chips and a list of names, PART_data.txt."""

IMAGE, MASK = "_merged.tif", ".mask.tif"
"""Ends of the names of a chip's files; before them both have its name, such as chip_004_057."""

CHIP_BANDS = ("blue", "green", "red", "narrow NIR", "SWIR 1", "SWIR 2")
"""Bands of each date: B02, B03, B04, B8A, B11 and B12 of HLS S30, reflectance x 10,000."""

CHIP_CLASSES = {
    1: "Natural Vegetation",
    2: "Forest",
    3: "Corn",
    4: "Soybeans",
    5: "Wetlands",
    6: "Developed/Barren",
    7: "Open Water",
    8: "Winter Wheat",
    9: "Alfalfa",
    10: "Fallow/Idle Cropland",
    11: "Cotton",
    12: "Sorghum",
    13: "Other",
}
"""Classes by their values in a mask; 0 is no data."""

CHIP_KINDS = {
    "Natural Vegetation": NON_CROP,
    "Forest": NON_CROP,
    "Corn": "cereals",
    "Soybeans": "oilseeds",
    "Wetlands": NON_CROP,
    "Developed/Barren": NON_CROP,
    "Open Water": NON_CROP,
    "Winter Wheat": "cereals",
    "Alfalfa": "other",
    "Fallow/Idle Cropland": NON_CROP,
    "Cotton": "other",
    "Sorghum": "cereals",
    "Other": "other",
}
"""FAO class of each class, ours: the data set tells none."""
