"""Labels as rasters: which pixels have a class, and samples of them that are apart in space."""

from timl.data.rasters.label_raster import LabelRaster, open_labels
from timl.data.rasters.sampling import PixelSample, sample_pixels
from timl.data.rasters.series_data import SeriesData
from timl.data.rasters.task import raster_labels

__all__ = [
    "LabelRaster",
    "PixelSample",
    "SeriesData",
    "open_labels",
    "raster_labels",
    "sample_pixels",
]
