"""The readable twin of every operator of the engine: the tests' oracle, never on the fast path."""

from timl.reference.philox import philox

__all__ = ["philox"]
