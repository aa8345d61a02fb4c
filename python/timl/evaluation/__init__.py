"""Scores, and the paper's table of them."""

from timl.evaluation.class_scores import ClassScores, class_scores
from timl.evaluation.paper.experiment import table1
from timl.evaluation.paper.result import Table1Result
from timl.evaluation.prediction import probabilities
from timl.evaluation.rows import Row, find_rows, read_row
from timl.evaluation.scores import Scores, evaluate

__all__ = [
    "ClassScores",
    "Row",
    "Scores",
    "Table1Result",
    "class_scores",
    "evaluate",
    "find_rows",
    "probabilities",
    "read_row",
    "table1",
]
