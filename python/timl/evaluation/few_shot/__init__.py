"""The few-shot benchmark: held-out regions, test samples apart in space, several budgets."""

from timl.evaluation.few_shot.benchmark import FEW_SHOT_ROWS, few_shot_benchmark
from timl.evaluation.few_shot.cells import FewShotCell
from timl.evaluation.few_shot.folds import FewShotFold, HeldOut, few_shot_folds
from timl.evaluation.few_shot.result import FewShotResult
from timl.evaluation.few_shot.splits import Split, split_at_random, split_in_space
from timl.evaluation.few_shot.tasks import FewShotTask

__all__ = [
    "FEW_SHOT_ROWS",
    "FewShotCell",
    "FewShotFold",
    "FewShotResult",
    "FewShotTask",
    "HeldOut",
    "Split",
    "few_shot_benchmark",
    "few_shot_folds",
    "split_at_random",
    "split_in_space",
]
