"""The bands and months of a series, in order: what data and models both know of it."""

from __future__ import annotations

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
