"""Chips: small images of a few dates with a mask of classes, and the pixels of many of them."""

from timl.data.chips.chip import Chip, open_chips
from timl.data.chips.layout import CHIP_BANDS, CHIP_CLASSES, CHIP_KINDS
from timl.data.chips.pixels import ChipPixels, chip_pixels

__all__ = [
    "CHIP_BANDS",
    "CHIP_CLASSES",
    "CHIP_KINDS",
    "Chip",
    "ChipPixels",
    "chip_pixels",
    "open_chips",
]
