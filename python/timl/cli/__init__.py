"""The command line, `timl`."""

from timl.cli.application import app
from timl.cli.demonstration import demo, simulate
from timl.cli.experiments import benchmark, report, table1
from timl.cli.models import evaluate, finetune, in_season, train
from timl.cli.record import download, pack, tasks

__all__ = [
    "app",
    "benchmark",
    "demo",
    "download",
    "evaluate",
    "finetune",
    "in_season",
    "pack",
    "report",
    "simulate",
    "table1",
    "tasks",
    "train",
]
