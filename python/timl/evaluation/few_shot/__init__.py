"""The few-shot benchmark: held-out regions, test samples apart in space, several budgets."""

from timl.evaluation.few_shot.splits import Split, region_folds, split_at_random, split_in_space
from timl.evaluation.few_shot.tasks import FewShotFold, FewShotTask, few_shot_folds

__all__ = [
    "FewShotFold",
    "FewShotTask",
    "Split",
    "few_shot_folds",
    "region_folds",
    "split_at_random",
    "split_in_space",
]
