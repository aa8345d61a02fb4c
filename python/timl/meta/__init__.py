"""Meta-learning: the meta-gradient, meta-training with all that it keeps, and fine-tuning."""

from timl.meta.ensemble import finetune_ensemble
from timl.meta.finetuning import finetune
from timl.meta.gradient import Losses, meta_gradient, meta_losses
from timl.meta.history import TrainingHistory
from timl.meta.pretraining import pretrain
from timl.meta.strong import (
    fit_strong,
    fit_strong_classes,
    learn_deep_kernel,
    learn_metric_kernel,
    unlearned_kernel,
)
from timl.meta.training import meta_train

__all__ = [
    "Losses",
    "TrainingHistory",
    "finetune",
    "finetune_ensemble",
    "fit_strong",
    "fit_strong_classes",
    "learn_deep_kernel",
    "learn_metric_kernel",
    "meta_gradient",
    "meta_losses",
    "meta_train",
    "pretrain",
    "unlearned_kernel",
]
