"""Sections of the report on the computation: times, and what the numbers come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from timl.evaluation.paper.result import duration
from timl.evaluation.report.document import Section, Table, Text
from timl.evaluation.report.inputs import ReportInputs
from timl.evaluation.report.numbers import exact_text

_PAPER = (
    "The method and the experiment are those of G. Tseng, H. Kerner and D. Rolnick, TIML: "
    "Task-Informed Meta-Learning for Agriculture, 2022:"
)
_PAPER_LINK = "https://arxiv.org/abs/2202.02124"


def run_times(inputs: ReportInputs) -> Section:
    """Show what each row took."""
    result = inputs.result
    section = Section("run-times", "Run times")
    rows = []
    for row, title in result.titles.items():
        cells = [cell for cell in result.cells if cell.row == row]
        training = sum({cell.meta_seed: cell.training_seconds for cell in cells}.values())
        rows.append(
            [
                title,
                duration(training) if training else "none",
                str(len(cells)),
                f"{np.median([cell.seconds for cell in cells]):.2f} s",
                duration(result.seconds(row)),
            ]
        )
    header = ["method", "training before", "cells", "median of a cell", "in all"]
    section.blocks.append(
        Table("Wall time; a cell is one adaptation with its scoring", header, rows)
    )
    section.blocks.append(
        Text("Cells are kept: these are the times when each was computed, maybe not together.")
    )
    section.blocks.append(Text(result.describe_full_experiment()))
    return section


def provenance(inputs: ReportInputs) -> Section:
    """Show settings, seeds, versions, platform and the data's checksum."""
    section = Section("provenance", "Provenance")
    rows = list(flat_rows(inputs.result.provenance))
    section.blocks.append(
        Table("What the numbers come from", ["what", "value"], rows, wide=True),
    )
    section.blocks.append(
        Text("The same data, settings, seed and versions give the same scores on such a machine.")
    )
    section.blocks.append(Text(_PAPER, _PAPER_LINK))
    return section


def flat_rows(values: Mapping[str, Any], before: str = "") -> Iterator[list[str]]:
    """Yield lines of nested settings, their name and value; of the list of tasks only its length.

    Parameters
    ----------
    values
        Settings, as JSON has them.
    before
        What their names begin with.
    """
    for name, value in values.items():
        title = f"{before}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from flat_rows(value, f"{title}: ")
        elif name == "meta_training_tasks":
            yield [title, "none" if value is None else str(len(value))]
        elif isinstance(value, list):
            yield [title, ", ".join("all" if item is None else _text(item) for item in value)]
        else:
            yield [title, _text(value)]


def _text(value: object) -> str:
    return exact_text(value) if isinstance(value, float) else str(value)
