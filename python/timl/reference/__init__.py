"""The readable twin of every operator of the engine: the tests' oracle, never on the fast path."""

from timl.parameters import film_shapes, identity_film, weight_shapes
from timl.reference.meta_step import meta_gradient
from timl.reference.network import (
    binary_cross_entropy_with_logits,
    network,
    unflatten_film,
    unflatten_weights,
)
from timl.reference.philox import philox

__all__ = [
    "binary_cross_entropy_with_logits",
    "film_shapes",
    "identity_film",
    "meta_gradient",
    "network",
    "philox",
    "unflatten_film",
    "unflatten_weights",
    "weight_shapes",
]
