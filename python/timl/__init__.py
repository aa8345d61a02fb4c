"""Task-informed meta-learning (TIML) for few-shot crop mapping."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# torch first: the compiled core finds PyTorch's libraries among those already loaded.
import torch  # noqa: F401

from timl.data import BBox, CropHarvest, Episodes, Task, meta_tasks
from timl.evaluation import evaluate, table1
from timl.evaluation.cross_validation import cross_validate, learning_curve
from timl.evaluation.few_shot import few_shot_benchmark
from timl.evaluation.in_season import in_season
from timl.maps import map_points, predict_map
from timl.meta import finetune, finetune_ensemble, meta_gradient, meta_train
from timl.nn import TIML
from timl.version import __version__

if TYPE_CHECKING:
    from timl.estimator import CropClassifier

__all__ = [
    "TIML",
    "BBox",
    "CropClassifier",
    "CropHarvest",
    "Episodes",
    "Task",
    "__version__",
    "cross_validate",
    "evaluate",
    "few_shot_benchmark",
    "finetune",
    "finetune_ensemble",
    "in_season",
    "learning_curve",
    "map_points",
    "meta_gradient",
    "meta_tasks",
    "meta_train",
    "predict_map",
    "table1",
]


def __getattr__(name: str) -> Any:
    """Return the estimator, imported where it is used: scikit-learn takes long to import."""
    if name == "CropClassifier":
        from timl.estimator import CropClassifier

        return CropClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
