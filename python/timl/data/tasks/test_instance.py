"""A test set, and its scores under the cropharvest package's names."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class TestInstance:
    """A test set; a slice of it is one, too.

    Parameters
    ----------
    x : float32 array of shape [n, 12, 18]
        Normalised series; as measured if the task has ``normalize=False``. [n, 216] from
        `TaskSamples.test_data` with ``flatten_x``.
    y : int8 array of shape [n]
        Labels: 1 positive, 0 negative, -1 unknown. Of a crop-type task numbers of its classes,
        from 0, and -1.
    lats, lons : float64 arrays of shape [n]
        Places of the series, degrees.
    """

    __test__ = False  # keeps pytest from collecting it

    x: NDArray[np.float32]
    y: NDArray[np.int8]
    lats: NDArray[np.float64]
    lons: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: slice) -> TestInstance:
        return TestInstance(self.x[rows], self.y[rows], self.lats[rows], self.lons[rows])

    def evaluate_predictions(self, preds: NDArray[np.floating]) -> dict[str, float]:
        """Score predictions as the cropharvest package does, under its names.

        The scores are "auc_roc", "f1_score", "iou" and "num_samples", the number of samples with a
        label; only the last where the labelled samples are not of both classes.

        Parameters
        ----------
        preds : float array of shape [n]
            Each sample's probability of being positive, those without a label included; above 0.5
            counts as positive.

        Raises
        ------
        ValueError
            If there is not one prediction for each sample, or the labels are of more than two
            classes.

        Warns
        -----
        UserWarning
            If the labelled samples are not of both classes.
        """
        predictions = np.asarray(preds)
        if predictions.shape != self.y.shape:
            raise ValueError(
                f"preds has shape {list(predictions.shape)}: give one prediction for each of the "
                f"{len(self)} samples, [{len(self)}]"
            )
        if len(self) and self.y.max() > 1:
            raise ValueError(
                f"y is of classes 0 to {self.y.max()}: score a crop-type task by timl.evaluate"
            )
        labelled = self.y != -1
        truth, predictions = self.y[labelled] == 1, predictions[labelled]
        if len(np.unique(truth)) < 2:
            warnings.warn(
                f"the {len(truth)} labelled samples are not of both classes (is this a part of a "
                "test set?): there is nothing to score",
                stacklevel=2,
            )
            return {"num_samples": len(truth)}
        from sklearn.metrics import f1_score, roc_auc_score

        positive = predictions > 0.5
        return {
            "auc_roc": float(roc_auc_score(truth, predictions)),
            "f1_score": float(f1_score(truth, positive)),
            "iou": float((positive & truth).sum() / (positive | truth).sum()),
            "num_samples": len(truth),
        }
