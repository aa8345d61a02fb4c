"""Completion of series: missing values from those that are there, by linear regression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def conditional_means(
    z: NDArray[np.float64], covariance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Replace missing numbers by their expectation given those that are there.

    With C the covariance, o the numbers of a row that are there and m those that are missing,

        z_m = C_mo C_oo^-1 z_o = -P_mm^-1 P_mo z_o,    P = C^-1

    the conditional mean of a normal distribution, and the best linear prediction under any (for
    instance Bishop, Pattern Recognition and Machine Learning, 2006, equations 2.75 and 2.81). Rows
    of one pattern of missing numbers share a solve, whose size is the number of missing ones. A
    row's result does not depend on the other rows.

    Parameters
    ----------
    z : float64 array of shape [n, F]
        Numbers of mean 0, with NaN where they are missing.
    covariance : float64 array of shape [F, F]
        Their covariance, positive definite.

    Returns
    -------
    float64 array of shape [n, F]
        A copy without NaN. Rows of which nothing is there become 0, the mean.
    """
    from threadpoolctl import threadpool_limits

    filled: NDArray[np.float64] = z.copy()
    missing = np.isnan(z)
    packed, pattern = np.unique(np.packbits(missing, axis=1), axis=0, return_inverse=True)
    patterns = np.unpackbits(packed, axis=1, count=z.shape[1]).astype(bool)
    with threadpool_limits(1):
        precision = np.linalg.inv(covariance)
        for number, m in enumerate(patterns):
            if not m.any():
                continue
            weights = -np.linalg.solve(precision[np.ix_(m, m)], precision[np.ix_(m, ~m)])  # [m, o]
            rows = np.flatnonzero(pattern.reshape(-1) == number)
            # einsum adds in one order for any number of rows, which a matrix product does not
            filled[np.ix_(rows, m)] = np.einsum("no,om->nm", z[np.ix_(rows, ~m)], weights.T)
    return filled
