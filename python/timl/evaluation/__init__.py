"""Scores, and the paper's table of them."""

from timl.evaluation.prediction import probabilities
from timl.evaluation.result import Table1Result
from timl.evaluation.scores import Scores, evaluate
from timl.evaluation.table1 import table1

__all__ = ["Scores", "Table1Result", "evaluate", "probabilities", "table1"]
