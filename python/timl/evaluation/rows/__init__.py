"""The rows of Table 1: configurations in TOML files, and the methods that they configure."""

from timl.evaluation.rows.methods import (
    BaselineRow,
    CropPreTrainingRow,
    MetaTrainedRow,
    Prepared,
    Row,
    ScratchRow,
    Settings,
)
from timl.evaluation.rows.pooled import PooledBaselineRow
from timl.evaluation.rows.reading import DEFAULT_ROWS, find_rows, read_row, row_names

__all__ = [
    "DEFAULT_ROWS",
    "BaselineRow",
    "CropPreTrainingRow",
    "MetaTrainedRow",
    "PooledBaselineRow",
    "Prepared",
    "Row",
    "ScratchRow",
    "Settings",
    "find_rows",
    "read_row",
    "row_names",
]
