"""Data: files, the packed store, regions, tasks and episodes. Knows of no model."""

from timl.data.classes import CLASSES, task_information
from timl.data.episodes import Episodes
from timl.data.regions import BBox, read_regions
from timl.data.tasks import Task

__all__ = ["CLASSES", "BBox", "Episodes", "Task", "read_regions", "task_information"]
