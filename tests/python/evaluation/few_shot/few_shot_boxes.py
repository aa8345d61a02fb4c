"""Boxes of a data set in four regions, of which the last two overlap."""

from __future__ import annotations

from timl.data import BBox

BOXES = [BBox(low, low + 0.9, 0, 0.9, f"R{low}") for low in (0, 10, 20, 20.5)]
