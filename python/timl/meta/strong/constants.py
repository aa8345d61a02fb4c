"""Constants of the strong protocol, written here alone; docs/explanation/strong.md says why."""

from __future__ import annotations

from typing import Any

# the metric
DIMENSIONS = 64
"""Dimensions of the metric space."""
SHRINKAGE = 0.3
"""Share of the mean variance that is added to the covariance within groups."""
LEAST_OF_GROUP, MOST_OF_GROUP = 5, 200
"""Samples that a group needs to count, and those that count at most."""
MEASURED_SAMPLES = 400
"""Samples whose median squared distance is the unit of the metric."""

# the completion of missing values
COMPLETION_SHRINKAGE = 0.1
"""Share of the mean variance that is added to the covariance within regions."""

# distances to what training knew
REFERENCES = 512
"""Meta-training series that distances are measured to, at most."""
USUAL_SHARE = 0.99
"""Share of the meta-training series whose distance is below the usual distance."""

# the networks
WIDTH = 128
"""Hidden units of a network."""
METRIC_TRAINED = (False, False, True, True)
"""For each network that is averaged, whether its metric is trained or only its prior mean."""
LENGTH, RIDGE, SCALE = 0.5, 1.0, 4.0
"""Constants of the head before training."""
POINT_WEIGHTS = 0.2
"""Standard deviation of the initial shift of a point by the hidden layer, about."""

# their training
TASKS = 8
"""Random tasks of a step."""
CANDIDATES = 200
"""Draws of random tasks in a step, at most: not every draw makes a task."""
WARM_UP = 20
"""Steps over which the learning rates rise to their full size; then they fall as a cosine."""
LAST_RATE = 0.02
"""Share of the learning rates that is left at the end."""
LEARNING_RATE, AXES_RATE, HEAD_RATE = 1e-3, 3e-4, 1e-2
"""Learning rates of AdamW: of the network, of the metric's axes, of the head."""
WEIGHT_DECAY = 1e-2
"""Weight decay of the network; axes and head have none."""
GRADIENT_NORM = 1.0
"""Norm that gradients are clipped to."""

# the random tasks
KINDS = (0.5, 0.25, 0.25)
"""Shares of the kinds: a label against the rest, two labels, unions of labels."""
UNION = (0.3, 0.5, 0.2)
"""Shares of the labels of a union that are positive, negative and left out."""
LEAST_OF_SIDE = 8
"""Samples of each class that a random task needs."""
LEAST_OF_PART = 3
"""Samples of each class that its support and its query need."""
SUPPORT = (3, 25)
"""Labels of the rarer class in the support: from, to, log-uniform."""
QUERY = 16
"""Samples of each class in the query, at most."""
IN_SPACE = 0.7
"""Share of tasks whose support and query are of different blocks of the map."""
BLOCKS_KM = (3.0, 6.0, 12.0, 25.0)
"""Sizes of the blocks."""
UNBALANCED = 0.25
"""Share of tasks with more negatives than positives in the support."""
MOST_RATIO, MOST_NEGATIVES = 10.0, 120
"""Negatives for each positive in these, and negatives in all, at most."""

# what is changed in their series
NAME_DROPPED = 0.3
"""Share of tasks whose label name is not told."""
SHIFTED = 0.5
"""Share of tasks whose series are a month early or late."""
BLANKED = 0.3
"""Share of tasks where some bands, or some months, are blank."""
MOST_BANDS, MOST_MONTHS = 5, 3
"""Bands and months that are blank at most."""
NOISE = 0.2
"""Standard deviation of noise on the standardised descriptions."""
NOISE_TABLE = 1 << 21
"""Length of the table that the noise of all steps is taken from."""
DROPOUT = 0.2
"""Share of inputs and of hidden units that are dropped."""

# the fit to a task's labels
MOST_LABELS, MOST_IN_ALL = 500, 2000
"""Labels that the kernel takes at most: of a class; of all classes where they are several."""
FEW = 5
"""Labels of the rarer class at which kernel and forest weigh the same."""
LEAST_KERNEL_WEIGHT = 0.4
"""Weight of the kernel with many labels."""
SLOPE, SLOPE_POWER = 0.6, 0.2
"""Slope of the logit with five labels of the rarer class, and the power by which it rises to 1."""
SHIFT = 0.2
"""Share of the log odds of the labels' counts that is added to the logit."""
TREES = 100
"""Trees of the forest."""
TREE_RATIO, LEAST_OF_TREE, MOST_OF_TREE = 3, 30, 1000
"""Labels that a tree sees at most: of the commoner class for each of the rarer one, but that many
at least; of either class."""


def constants() -> dict[str, Any]:
    """Return all constants by name, for the digests of results that depend on them."""
    return {name: value for name, value in globals().items() if name.isupper()}
