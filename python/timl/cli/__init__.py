"""The command line, `timl`."""

from timl.cli.application import app
from timl.cli.area import area, sample
from timl.cli.demonstration import demo, simulate
from timl.cli.experiments import benchmark, report, table1
from timl.cli.maps import map_exports
from timl.cli.models import evaluate, finetune, in_season, make, train
from timl.cli.record import download, pack, tasks

__all__ = [
    "app",
    "area",
    "benchmark",
    "demo",
    "download",
    "evaluate",
    "finetune",
    "in_season",
    "make",
    "map_exports",
    "pack",
    "report",
    "sample",
    "simulate",
    "table1",
    "tasks",
    "train",
]
