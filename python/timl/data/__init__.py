"""Data: files, the packed store, regions, tasks and episodes; no model."""

from timl.bands import BANDS
from timl.crop_classes import CLASSES
from timl.data.chips import Chip, ChipPixels, chip_pixels, open_chips
from timl.data.cropharvest import CropHarvest
from timl.data.cropharvest_interface import TaskSamples
from timl.data.own.crop_types import OwnCropTypes
from timl.data.own.exports import Export, read_export
from timl.data.own.points import OwnPoints, own_points
from timl.data.rasters import SeriesData, raster_labels
from timl.data.regions.boxes import BBox
from timl.data.regions.countries import country_boxes
from timl.data.regions.reading import read_regions
from timl.data.simulator import simulate
from timl.data.simulator.chips import simulate_chips
from timl.data.simulator.scene import Scene, simulate_scene
from timl.data.tasks.crop_types import CropTypeTask, crop_type_task
from timl.data.tasks.episodes import Episodes
from timl.data.tasks.information import task_information
from timl.data.tasks.labelled_data import BenchmarkTask, LabelledData
from timl.data.tasks.nway import NWayTask, NWayTaskSet, nway_tasks, nway_tasks_of
from timl.data.tasks.nway_sampler import NWaySampler
from timl.data.tasks.overlap import overlap_report
from timl.data.tasks.sampler import EpisodeSampler
from timl.data.tasks.task import Task
from timl.data.tasks.task_set import TaskSet, meta_tasks
from timl.data.tasks.test_instance import TestInstance

__all__ = [
    "BANDS",
    "CLASSES",
    "BBox",
    "BenchmarkTask",
    "Chip",
    "ChipPixels",
    "CropHarvest",
    "CropTypeTask",
    "EpisodeSampler",
    "Episodes",
    "Export",
    "LabelledData",
    "NWaySampler",
    "NWayTask",
    "NWayTaskSet",
    "OwnCropTypes",
    "OwnPoints",
    "Scene",
    "SeriesData",
    "Task",
    "TaskSamples",
    "TaskSet",
    "TestInstance",
    "chip_pixels",
    "country_boxes",
    "crop_type_task",
    "meta_tasks",
    "nway_tasks",
    "nway_tasks_of",
    "open_chips",
    "overlap_report",
    "own_points",
    "raster_labels",
    "read_export",
    "read_regions",
    "simulate",
    "simulate_chips",
    "simulate_scene",
    "task_information",
]
