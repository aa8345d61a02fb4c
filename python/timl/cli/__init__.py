"""The command line, `timl`."""

from timl.cli.application import app
from timl.cli.commands import evaluate, finetune, table1, train
from timl.cli.demonstration import demo, simulate

__all__ = ["app", "demo", "evaluate", "finetune", "simulate", "table1", "train"]
