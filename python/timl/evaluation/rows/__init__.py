"""The rows of Table 1: configurations in TOML files, and the methods that they configure."""

from timl.evaluation.rows.baselines import BASELINES, BaselineRow
from timl.evaluation.rows.embeddings import EmbeddingRow
from timl.evaluation.rows.experiment import RowExperiment
from timl.evaluation.rows.networks import (
    CropPreTrainingRow,
    MetaTrainedRow,
    ScratchRow,
)
from timl.evaluation.rows.pooled import PooledBaselineRow
from timl.evaluation.rows.reading import DEFAULT_ROWS, find_rows, read_row, row_names
from timl.evaluation.rows.row import Prepared, Row, Settings
from timl.evaluation.rows.strong import StrongRow

__all__ = [
    "BASELINES",
    "DEFAULT_ROWS",
    "BaselineRow",
    "CropPreTrainingRow",
    "EmbeddingRow",
    "MetaTrainedRow",
    "PooledBaselineRow",
    "Prepared",
    "Row",
    "RowExperiment",
    "ScratchRow",
    "Settings",
    "StrongRow",
    "find_rows",
    "read_row",
    "row_names",
]
