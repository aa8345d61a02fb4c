"""Data: files, the packed store, regions, tasks and episodes. Knows of no model."""

from timl.data.benchmarks import BenchmarkTask, TestInstance
from timl.data.classes import CLASSES, task_information
from timl.data.cropharvest import CropHarvest
from timl.data.episodes import Episodes
from timl.data.layout import BANDS
from timl.data.regions import BBox, read_regions
from timl.data.sampler import EpisodeSampler
from timl.data.simulator import simulate
from timl.data.task_set import TaskSet, meta_tasks
from timl.data.tasks import Task

__all__ = [
    "BANDS",
    "CLASSES",
    "BBox",
    "BenchmarkTask",
    "CropHarvest",
    "EpisodeSampler",
    "Episodes",
    "Task",
    "TaskSet",
    "TestInstance",
    "meta_tasks",
    "read_regions",
    "simulate",
    "task_information",
]
