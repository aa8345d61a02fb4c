"""The few-shot benchmark: held-out regions, test samples apart in space, several budgets."""

from timl.data.regions.splits import Split, split_at_random, split_in_space
from timl.evaluation.few_shot.benchmark import FEW_SHOT_ROWS, few_shot_benchmark
from timl.evaluation.few_shot.cells import FewShotCell
from timl.evaluation.few_shot.folds import FewShotFold, HeldOut, few_shot_folds
from timl.evaluation.few_shot.nway import nway_benchmark
from timl.evaluation.few_shot.nway_result import NWayCell, NWayResult
from timl.evaluation.few_shot.nway_rows import (
    NWAY_ROWS,
    ClassesBaselineRow,
    ClassesEstimatorRow,
    NWayMetaTrainedRow,
    StrongClassesRow,
    find_nway_rows,
)
from timl.evaluation.few_shot.nway_tasks import NWayFewShotTask
from timl.evaluation.few_shot.result import FewShotResult
from timl.evaluation.few_shot.tasks import FewShotTask

__all__ = [
    "FEW_SHOT_ROWS",
    "NWAY_ROWS",
    "ClassesBaselineRow",
    "ClassesEstimatorRow",
    "FewShotCell",
    "FewShotFold",
    "FewShotResult",
    "FewShotTask",
    "HeldOut",
    "NWayCell",
    "NWayFewShotTask",
    "NWayMetaTrainedRow",
    "NWayResult",
    "Split",
    "StrongClassesRow",
    "few_shot_benchmark",
    "few_shot_folds",
    "find_nway_rows",
    "nway_benchmark",
    "split_at_random",
    "split_in_space",
]
