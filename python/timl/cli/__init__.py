"""The command line, `timl`."""

from timl.cli.application import app
from timl.cli.commands import evaluate, finetune, report, table1, train
from timl.cli.demonstration import demo, simulate
from timl.cli.record import download, pack, tasks

__all__ = [
    "app",
    "demo",
    "download",
    "evaluate",
    "finetune",
    "pack",
    "report",
    "simulate",
    "table1",
    "tasks",
    "train",
]
