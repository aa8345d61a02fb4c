"""The names of the files and folders of a data set in CropHarvest's layout."""

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
