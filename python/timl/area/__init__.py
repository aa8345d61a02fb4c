"""Area and accuracy of a map from a reference sample: planning, drawing, estimating."""

from timl.area.assessment import assess_map
from timl.area.class_map import ClassMap, open_map
from timl.area.estimation import estimate_area, estimate_area_from_matrix
from timl.area.planning import Allocation, allocate, sample_size
from timl.area.reference_sample import ReferenceSample, draw_sample
from timl.area.result import PIXEL_COUNTING, AreaEstimate, Quantity

__all__ = [
    "PIXEL_COUNTING",
    "Allocation",
    "AreaEstimate",
    "ClassMap",
    "Quantity",
    "ReferenceSample",
    "allocate",
    "assess_map",
    "draw_sample",
    "estimate_area",
    "estimate_area_from_matrix",
    "open_map",
    "sample_size",
]
