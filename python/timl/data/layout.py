"""The layout of CropHarvest's record: names of files, sizes of a series, order of its bands."""

from __future__ import annotations

LABELS = "labels.geojson"
FEATURES = "features"
TEST_FEATURES = "test_features"
ARRAYS = f"{FEATURES}/arrays"
NORMALISING = f"{FEATURES}/normalizing_dict.h5"
ARCHIVE_SUFFIX = ".tar.gz"
BENCHMARKS = "benchmark.json"
REGIONS = "regions.json"
STORES = ".timl"
"""The folder in a data set that holds what timl made of it."""

STEPS = 12
"""Months of a series."""

BANDS = (
    "VV",
    "VH",
    "B2",
    "B3",
    "B4",
    "B5",
    "B6",
    "B7",
    "B8",
    "B8A",
    "B9",
    "B11",
    "B12",
    "temperature_2m",
    "total_precipitation",
    "elevation",
    "slope",
    "NDVI",
)
"""Bands of a series, in order."""

SERIES_SHAPE = (STEPS, len(BANDS))
"""Shape of one series: [12, 18]."""
