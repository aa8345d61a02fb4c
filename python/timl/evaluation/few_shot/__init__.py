"""The few-shot benchmark: held-out regions, test samples apart in space, several budgets."""

from timl.evaluation.few_shot.benchmark import FEW_SHOT_ROWS, few_shot_benchmark
from timl.evaluation.few_shot.result import FewShotCell, FewShotResult
from timl.evaluation.few_shot.splits import Split, region_folds, split_at_random, split_in_space
from timl.evaluation.few_shot.tasks import FewShotFold, FewShotTask, few_shot_folds

__all__ = [
    "FEW_SHOT_ROWS",
    "FewShotCell",
    "FewShotFold",
    "FewShotResult",
    "FewShotTask",
    "Split",
    "few_shot_benchmark",
    "few_shot_folds",
    "region_folds",
    "split_at_random",
    "split_in_space",
]
