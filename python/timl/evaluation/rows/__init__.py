"""The rows of Table 1: configurations in TOML files, and the methods that they configure."""

from timl.evaluation.rows.baselines import BASELINES, BaselineRow
from timl.evaluation.rows.embeddings import EmbeddingRow
from timl.evaluation.rows.estimators import EstimatorRow
from timl.evaluation.rows.experiment import RowExperiment
from timl.evaluation.rows.modules import ModuleRow
from timl.evaluation.rows.networks import (
    CropPreTrainingRow,
    MetaTrainedRow,
    ScratchRow,
)
from timl.evaluation.rows.pooled import PooledBaselineRow
from timl.evaluation.rows.reading import (
    DEFAULT_ROWS,
    find_rows,
    named,
    read_row,
    row_names,
    row_of,
)
from timl.evaluation.rows.row import GivenRow, Prepared, Row, Settings, describe_given
from timl.evaluation.rows.strong import StrongRow

__all__ = [
    "BASELINES",
    "DEFAULT_ROWS",
    "BaselineRow",
    "CropPreTrainingRow",
    "EmbeddingRow",
    "EstimatorRow",
    "GivenRow",
    "MetaTrainedRow",
    "ModuleRow",
    "PooledBaselineRow",
    "Prepared",
    "Row",
    "RowExperiment",
    "ScratchRow",
    "Settings",
    "StrongRow",
    "describe_given",
    "find_rows",
    "named",
    "read_row",
    "row_names",
    "row_of",
]
