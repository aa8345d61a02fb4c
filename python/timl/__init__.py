"""Task-informed meta-learning (TIML) for few-shot crop mapping."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from timl.version import __version__

if TYPE_CHECKING:
    from timl.data import BBox, CropHarvest, Episodes, Task, meta_tasks
    from timl.default_model import make_model
    from timl.estimator import CropClassifier
    from timl.evaluation import evaluate, table1
    from timl.evaluation.cross_validation import cross_validate, learning_curve
    from timl.evaluation.few_shot import few_shot_benchmark, nway_benchmark
    from timl.evaluation.in_season import in_season
    from timl.maps import map_points, predict_map
    from timl.meta import finetune, finetune_ensemble, meta_gradient, meta_train
    from timl.nn import TIML

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
    "make_model",
    "map_points",
    "meta_gradient",
    "meta_tasks",
    "meta_train",
    "nway_benchmark",
    "predict_map",
    "table1",
]

_MODULES = {
    "timl.data": ("BBox", "CropHarvest", "Episodes", "Task", "meta_tasks"),
    "timl.default_model": ("make_model",),
    "timl.estimator": ("CropClassifier",),
    "timl.evaluation": ("evaluate", "table1"),
    "timl.evaluation.cross_validation": ("cross_validate", "learning_curve"),
    "timl.evaluation.few_shot": ("few_shot_benchmark", "nway_benchmark"),
    "timl.evaluation.in_season": ("in_season",),
    "timl.maps": ("map_points", "predict_map"),
    "timl.meta": ("finetune", "finetune_ensemble", "meta_gradient", "meta_train"),
    "timl.nn": ("TIML",),
}
"""Names by the module that defines them. It is imported when one is first asked for: the command
line shows versions and help, and completes words, without waiting for PyTorch."""

_HOMES = {name: module for module, names in _MODULES.items() for name in names}
_SUBMODULES = (
    *("area", "baselines", "data", "evaluation", "maps", "meta", "nn"),
    *("normalization", "parameters", "random", "reference"),
)


def __getattr__(name: str) -> Any:
    """Return a public name or module, imported when it is first asked for."""
    if name in _SUBMODULES:
        return import_module(f"timl.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return the public names and modules, imported or not."""
    return sorted({*__all__, *_SUBMODULES})
