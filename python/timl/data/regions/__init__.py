"""Regions: boxes, the files that list them, and the world's countries."""
