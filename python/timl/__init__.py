"""Task-informed meta-learning (TIML) for few-shot crop mapping."""

# torch first: the compiled core finds PyTorch's libraries among those already loaded.
import torch  # noqa: F401

from timl.data import BBox, CropHarvest, Episodes, Task, meta_tasks
from timl.evaluation import evaluate, table1
from timl.meta import finetune, meta_gradient, meta_train
from timl.nn import TIML

__version__ = "0.1.0"

__all__ = [
    "TIML",
    "BBox",
    "CropHarvest",
    "Episodes",
    "Task",
    "__version__",
    "evaluate",
    "finetune",
    "meta_gradient",
    "meta_tasks",
    "meta_train",
    "table1",
]
