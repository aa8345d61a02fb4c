"""Demonstration: a simulated world, scores from few labels, and a map of a scene from points."""

from timl.demo.demonstration import Demonstration, demo

__all__ = ["Demonstration", "demo"]
