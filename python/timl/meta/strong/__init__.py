"""The strong protocol: the deep kernel learned on other regions, and its fit to a task's labels."""

from timl.meta.strong.fitting import fit_strong, fit_strong_classes
from timl.meta.strong.learning import learn_deep_kernel
from timl.meta.strong.metric import learn_metric_kernel, unlearned_kernel

__all__ = [
    "fit_strong",
    "fit_strong_classes",
    "learn_deep_kernel",
    "learn_metric_kernel",
    "unlearned_kernel",
]
