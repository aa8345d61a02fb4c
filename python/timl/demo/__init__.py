"""Demonstration: a simulated world, scores from few labels, and a map of a scene from points."""

from timl.demo.demonstration import demo
from timl.demo.result import Demonstration

__all__ = ["Demonstration", "demo"]
