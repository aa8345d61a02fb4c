"""Rows of a frozen encoder, made elsewhere, with a linear classifier on its embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from timl.baselines import cross_validated_logistic_regression
from timl.data import BenchmarkTask, TaskSet
from timl.evaluation.rows.features import class_weights
from timl.evaluation.rows.given import imported
from timl.evaluation.rows.row import Prepared, Row, Settings

Encoder = Callable[
    [NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]], NDArray[np.floating]
]
"""From series as measured, float32 [n, T, bands], latitudes and longitudes in degrees, float64 [n],
to embeddings [n, D]."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingRow(Row):
    """A frozen encoder, such as a self-supervised foundation model, with a linear classifier.

    The classifier is a logistic regression whose penalty cross-validation chooses, both classes
    weighing the same, on embeddings standardised over the labels at hand.
    """

    load: str
    """Function that loads the encoder, as "module:name". It is called once in every process with
    the folder of weights and returns an `Encoder`."""
    weights: str = ""
    """Folder of the encoder's weights, handed to `load`."""

    def __post_init__(self) -> None:
        if ":" not in self.load:
            raise ValueError(
                f"row {self.name!r}: load is {self.load!r}: give module:name, such as "
                f"my_encoder:load"
            )

    @property
    def deterministic(self) -> bool:
        """Whether all runs would give the same predictions."""
        return True

    def prepare(
        self, settings: Settings, tasks: TaskSet | None, folder: Path, progress: bool
    ) -> Prepared:
        """Load the encoder."""
        encode: Encoder = imported(self.name, "load", self.load)(Path(self.weights))

        def adapt(benchmark: BenchmarkTask, seed: int) -> NDArray[np.float64]:
            x, y = benchmark.train_arrays()
            labels = benchmark.data.labels.set_index("position")
            positions = np.concatenate([benchmark.positives, benchmark.negatives])
            places = labels.loc[positions, ["lat", "lon"]].to_numpy(np.float64)
            test = benchmark.test
            own = _encoded(encode, benchmark, x, places[:, 0], places[:, 1])
            tested = _encoded(encode, benchmark, test.x, test.lats, test.lons)
            mean, deviation = own.mean(axis=0), own.std(axis=0)
            deviation[deviation < 1e-6] = 1.0
            classifier = cross_validated_logistic_regression()
            scaled = ((own - mean) / deviation)[:, None, :]
            classifier.fit(scaled, y, sample_weight=class_weights(y))
            return classifier.predict_proba(((tested - mean) / deviation)[:, None, :])

        return Prepared(adapt)


def _encoded(
    encode: Encoder,
    benchmark: BenchmarkTask,
    x: NDArray[np.float32],
    lat: NDArray[np.float64],
    lon: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the embeddings of a benchmark's series, [n, D]."""
    data = benchmark.data
    measured = x * data.std + data.mean if benchmark.task.normalize else x
    made = np.asarray(encode(measured.astype(np.float32), lat, lon), np.float64)
    if made.ndim != 2 or len(made) != len(x) or not np.isfinite(made).all():
        raise ValueError(
            f"the encoder returned shape {list(made.shape)} for {len(x)} series: return finite "
            f"embeddings of shape [{len(x)}, D]"
        )
    return made
