"""Simulated chips in the layout of multi-temporal crop segmentation."""

from timl.data.simulator.chips.simulate import simulate_chips

__all__ = ["simulate_chips"]
