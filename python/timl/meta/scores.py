"""Area under the ROC curve of many small sets at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def auc_roc(scores: NDArray[np.floating], labels: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the share of pairs of a positive and a negative that the scores order rightly.

    Ties count half. All pairs are compared, which suits query sets, not test sets.

    Parameters
    ----------
    scores : array of shape [N, Q] or [N, Q, K]
        Scores of N sets; of K classes where there are several.
    labels : array of shape [N, Q]
        Labels, 0 or 1, or classes 0 to K - 1; samples with another do not count.

    Returns
    -------
    float64 array of shape [N]
        AUC ROC of each set, NaN for a set of one class; of several classes the mean over those
        that the set has, each against the rest.
    """
    if scores.ndim == 3:
        each = [
            auc_roc(scores[..., number], np.where(labels < 0, -1, labels == number))
            for number in range(scores.shape[2])
        ]
        found = np.isfinite(each)
        with np.errstate(invalid="ignore"):
            mean: NDArray[np.float64] = np.where(found, each, 0).sum(axis=0) / found.sum(axis=0)
        return mean
    positive, negative = scores[:, :, None], scores[:, None, :]
    right = (positive > negative) + 0.5 * (positive == negative)  # [N, Q, Q]
    pairs = (labels[:, :, None] == 1) & (labels[:, None, :] == 0)
    count = pairs.sum(axis=(1, 2)).astype(np.float64)
    with np.errstate(invalid="ignore"):
        area: NDArray[np.float64] = (right * pairs).sum(axis=(1, 2)) / count
    return area
