"""The readable twin of every operator of the engine: the tests' oracle; home of the loss."""

from timl.parameters import film_shapes, identity_film, weight_shapes
from timl.reference.film_lstm import film_lstm
from timl.reference.loss import mean_loss
from timl.reference.meta_step import adapt, meta_gradient
from timl.reference.network import (
    network,
    unflatten_film,
    unflatten_weights,
)
from timl.reference.philox import philox
from timl.reference.strong import describe, strong_evaluate

__all__ = [
    "adapt",
    "describe",
    "film_lstm",
    "film_shapes",
    "identity_film",
    "mean_loss",
    "meta_gradient",
    "network",
    "philox",
    "strong_evaluate",
    "unflatten_film",
    "unflatten_weights",
    "weight_shapes",
]
