"""Defaults of meta-training and fine-tuning: the paper's, written here alone."""

from __future__ import annotations

EPOCHS = 1000
"""Epochs of meta-training."""
META_BATCH = 32
"""Tasks in a meta-batch."""
K = 10
"""Positives, and negatives, of a support set."""
QUERY = 8
"""Samples of a query set."""
INNER_LEARNING_RATE = 1e-3
"""Size of the inner steps."""
INNER_STEPS = 1
"""Number of inner steps."""
META_LEARNING_RATE, MIN_META_LEARNING_RATE = 1e-3, 1e-5
"""Outer learning rate of the first epoch, and the rate that its cosine falls towards."""
VALIDATION = 0.1
"""Share of the tasks that validate."""
FORGETTING_THRESHOLD = 0.95
"""Mean AUC ROC at which a task counts as learned and is forgotten."""
FORGETTING_WINDOW = 20
"""Epochs over which that AUC ROC is averaged."""
BEST_WINDOW = 20
"""Epochs over which the validation loss is averaged, to choose the best epoch by it."""
KERNEL_STEPS = 400
"""Steps of learning each network of the strong protocol's deep kernel; ours, not the paper's."""

FINE_TUNING_STEPS = 250
"""Steps of the paper's fine-tuning."""
FINE_TUNING_K = 10
"""Positives, and negatives, that each of its steps draws."""
FINE_TUNING_LEARNING_RATE = 1e-3
"""Learning rate of each of its steps."""
