"""The simulator: a world of labelled satellite series in the layout of CropHarvest's record."""

from timl.data.simulator.world import simulate

__all__ = ["simulate"]
