"""The card of a model that `make_model` made: docs/model-card.md, filled in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from timl.data import TaskSet
from timl.evaluation.scores import Scores
from timl.files import atomic_write
from timl.text import markdown_cell

if TYPE_CHECKING:
    import pandas as pd

CARD = "model-card.md"


class BenchmarkScores(NamedTuple):
    """Scores on one evaluation task."""

    task: str
    positives: int
    """Labels of the task that all methods were adapted to."""
    negatives: int
    scores: dict[str, Scores]
    """By method."""


def write_card(
    path: Path,
    name: str,
    provenance: dict[str, Any],
    tasks: TaskSet,
    overlap: pd.DataFrame,
    scores: Sequence[BenchmarkScores],
) -> None:
    """Write the card of a model.

    Parameters
    ----------
    path
        File to write.
    name
        Name of the model.
    provenance
        What it comes from, as provenance.json has it.
    tasks
        Tasks that it was trained on.
    overlap
        What they share with evaluation tasks, see `timl.data.overlap_report`.
    scores
        Scores on evaluation tasks.
    """
    data, training = provenance["data"], provenance["training"]
    settings, versions = provenance["settings"], provenance["versions"]
    regions = sorted({str(task.bounding_box.name) for task in tasks})
    labels = sorted({task.target_label for task in tasks})
    months = getattr(tasks.data, "start_months", None)
    lines = [
        f"# {name}",
        "",
        "## What it is",
        "- Kind: TIML (meta-learned initial weights and task encoder) with the deep kernel of the "
        "strong protocol",
        f"- Made with timl {versions['timl']}, PyTorch {versions['torch']}; started "
        f"{provenance['started']}",
        f"- SHA-256 of model.safetensors: {provenance['sha256']}",
        "- Licence of the weights: not stated; the training data have licences of their own",
        "",
        "## Intended use",
        "- A model to start from: to be adapted to labels of the place and crop in question, by "
        "`timl.finetune` or `timl map`, and tested there",
        f"- Input: series of 12 steps of 30 days, 18 bands; NDVI {data['ndvi']!r}; starting in "
        f"month {', '.join(map(str, months)) if months else 'of the data (not recorded)'}",
        "",
        "## Not for",
        "- Use without labels of the place: it is not adapted to any task",
        "- Areas by counting pixels; decisions about single fields or persons",
        "",
        "## Training data",
        f"- {data['training_series']} labelled series, checksum {data['checksum']}",
        f"- {len(tasks)} tasks in {len(regions)} regions: {_names(regions)}",
        f"- Labels: {_names(labels)}",
        f"- Withheld: the evaluation tasks {_names([task.name for task in tasks.data.benchmarks])}",
        f"- Training tasks that share samples with them: {_sharing(overlap)} (`timl tasks` lists "
        f"which)",
        "",
        "## Training",
        f"- {training['epochs']} of {settings['epochs']} epochs, best epoch "
        f"{training['best_epoch']}, {training['forgotten']} tasks forgotten; "
        f"{settings['kernel_steps']} steps for each network of the deep kernel; seed "
        f"{settings['seed']}",
        "- All options and losses: training/run.json, training/history.json",
        "",
        "## Evaluation",
        *_table(scores),
        "",
        "## Limits",
        "- The scores are of one training and one seed. Test places of these tasks are not all far "
        "from training places of the same task",
        "- It is as good as the labels nearby: regions and crops that are not named above were not "
        "seen",
        "- Probabilities are for even classes, unless stated otherwise where they are made",
    ]
    with atomic_write(path, "w") as file:
        file.write("\n".join(lines) + "\n")


def _table(scores: Sequence[BenchmarkScores]) -> list[str]:
    """Return the lines of a table of scores, or one that says that there are none."""
    if not scores:
        return ["- None: the data have no evaluation task with a test set"]
    lines = [
        "Adapted to all labels of each evaluation task by the strong protocol; the others are "
        "trained on the same labels.",
        "",
        "| task | labels +, - | test samples | method | AUC ROC | F1 at 0.5 | IoU |",
        "|---|---|---:|---|---:|---:|---:|",
    ]
    for task in scores:
        for method, found in task.scores.items():
            lines.append(
                f"| {markdown_cell(task.task)} | {task.positives}, {task.negatives} | "
                f"{found.samples} | {method} | {found.auc_roc:.3f} | {found.f1:.3f} | "
                f"{found.iou:.3f} |"
            )
    return lines


def _sharing(overlap: pd.DataFrame) -> int:
    """Return the number of training tasks with samples that an evaluation task is adapted to."""
    return len(overlap[overlap["shared"] > 0][["region", "label"]].drop_duplicates())


def _names(names: Sequence[str]) -> str:
    """Return names in a line of Markdown."""
    return ", ".join(markdown_cell(name) for name in names) or "none"
