"""Area under the ROC curve of many small sets at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def auc_roc(scores: NDArray[np.floating], labels: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the share of pairs of a positive and a negative that the scores order rightly.

    Ties count half. All pairs are compared, which suits query sets, not test sets.

    Parameters
    ----------
    scores, labels : arrays of shape [N, Q]
        Scores and labels, 0 or 1, of N sets.

    Returns
    -------
    float64 array of shape [N]
        AUC ROC of each set; NaN for a set of one class.
    """
    positive, negative = scores[:, :, None], scores[:, None, :]
    right = (positive > negative) + 0.5 * (positive == negative)  # [N, Q, Q]
    pairs = (labels[:, :, None] == 1) & (labels[:, None, :] == 0)
    count = pairs.sum(axis=(1, 2)).astype(np.float64)
    with np.errstate(invalid="ignore"):
        area: NDArray[np.float64] = (right * pairs).sum(axis=(1, 2)) / count
    return area
