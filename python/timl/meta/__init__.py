"""Meta-learning: the meta-gradient, meta-training with all that it keeps, and fine-tuning."""

from timl.meta.finetuning import finetune
from timl.meta.gradient import Losses, meta_gradient, meta_losses
from timl.meta.history import TrainingHistory
from timl.meta.metric_learning import learn_metric
from timl.meta.strong_fitting import fit_strong
from timl.meta.training import meta_train

__all__ = [
    "Losses",
    "TrainingHistory",
    "finetune",
    "fit_strong",
    "learn_metric",
    "meta_gradient",
    "meta_losses",
    "meta_train",
]
