"""Data: files, the packed store, regions, tasks and episodes. Knows of no model."""

from timl.data.benchmarks import BenchmarkTask, TestInstance
from timl.data.classes import CLASSES, task_information
from timl.data.countries import country_boxes
from timl.data.cropharvest import CropHarvest
from timl.data.episodes import Episodes
from timl.data.geotiff import Export, read_export
from timl.data.layout import BANDS
from timl.data.overlap import overlap_report
from timl.data.own_points import OwnPoints, own_points
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
    "Export",
    "OwnPoints",
    "Task",
    "TaskSet",
    "TestInstance",
    "country_boxes",
    "meta_tasks",
    "overlap_report",
    "own_points",
    "read_export",
    "read_regions",
    "simulate",
    "task_information",
]
