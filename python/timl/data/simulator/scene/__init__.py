"""A simulated scene: a place of a simulated world as an export, its truth, and surveyed points."""

from timl.data.simulator.scene.scene import Scene, simulate_scene

__all__ = ["Scene", "simulate_scene"]
