"""Commands that compare methods: table1, benchmark, report."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import timl
from timl import defaults
from timl.cli.application import (
    MOST_THREADS,
    Data,
    Device,
    Quiet,
    Regions,
    Seed,
    Threads,
    Workers,
    app,
    say,
    use_threads,
)

if TYPE_CHECKING:
    from timl.evaluation.few_shot import FewShotResult

_QUICK_EPOCHS, _QUICK_RUNS = 40, 5
_RUNS = 10


@app.command()
def table1(
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder in the layout of CropHarvest's record."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the table and everything it needs.")] = Path(
        "results/table1"
    ),
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help=f"Epochs of meta-training; by default {defaults.EPOCHS}."),
    ] = None,
    runs: Annotated[
        int | None, typer.Option(min=1, help=f"Runs of every cell; by default {_RUNS}.")
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(
            help="Names of rows, paths of their TOML files, or module:name of estimators and "
            "networks, with commas between; by default the paper's, logistic regression and "
            "strong."
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option(min=0, help="Steps of fine-tuning.")
    ] = defaults.FINE_TUNING_STEPS,
    regions: Regions = None,
    seed: Seed = 0,
    meta_seeds: Annotated[int, typer.Option(min=1, help="Repetitions of meta-training.")] = 1,
    sample_sizes: Annotated[
        str | None,
        typer.Option(help="Also adapt to these numbers of labels: even, with commas between."),
    ] = None,
    zero_shot: Annotated[
        bool, typer.Option("--zero-shot", help="Also score models before they are adapted.")
    ] = False,
    as_published_code: Annotated[
        bool, typer.Option("--as-published-code", help="Follow the authors' code, not their text.")
    ] = False,
    compare_with: Annotated[
        str | None,
        typer.Option(help="Row that the others are tested against; by default timl."),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="40 epochs and 5 runs, unless given; without --data on a simulated world.",
        ),
    ] = False,
    device: Device = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_THREADS,
            help="Processes of one thread; they change no result. By default --threads, or as "
            "many as there are CPUs.",
        ),
    ] = None,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Compute, print and save the paper's table; go on where it was stopped."""
    from rich.console import Console

    use_threads(threads)
    if data is None:
        if not quick:
            raise ValueError("--data is missing: give a folder, or --quick for a simulated world")
        from timl.evaluation.runner import require_same

        require_same(out, {"seed": seed})  # before the world is replaced by another
        data = out / "world"
        timl.data.simulate(data, seed=seed)
    sizes = [] if sample_sizes is None else [_size(text) for text in sample_sizes.split(",")]
    harvest = timl.CropHarvest(data)
    result = timl.table1(
        harvest,
        out,
        epochs if epochs is not None else (_QUICK_EPOCHS if quick else defaults.EPOCHS),
        rows=None if rows is None else rows.split(","),
        runs=runs if runs is not None else (_QUICK_RUNS if quick else _RUNS),
        steps=steps,
        seed=seed,
        meta_seeds=meta_seeds,
        sample_sizes=[*sizes, None],
        zero_shot=zero_shot,
        as_published_code=as_published_code,
        compare_with=compare_with,
        regions=regions,
        device=device or "cpu",
        workers=threads if workers is None else workers,
        progress=not quiet,
    )
    Console().print(result)
    say(f"written to {out}: table1.csv, table1.json, table1.md")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        say(
            f'no report: it needs matplotlib, pip install "timl[plot]"; then timl report '
            f"--out {out} --data {data}"
        )
    else:
        say(f"report: {_report(result, harvest, regions, out)}")


class HeldOut(str, Enum):
    """What a fold of the benchmark holds out: see `timl.evaluation.few_shot.few_shot_folds`."""

    COUNTRY = "country"
    DISTRICT = "district"


class Naming(str, Enum):
    """What a class is: see `timl.nway_benchmark`."""

    LABEL = "label"
    CLASSIFICATION_LABEL = "classification_label"


@app.command()
def benchmark(
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the table and everything it needs; by default results/few-shot, with "
            "--ways results/n-way."
        ),
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(
            help="Names of rows, paths of their TOML files, or module:name of estimators and "
            "networks, with commas between; with --ways names and estimators."
        ),
    ] = None,
    ways: Annotated[
        str | None,
        typer.Option(
            help="Tell so many classes of a region apart, or all of them, instead of one crop from "
            "the rest: a number or all."
        ),
    ] = None,
    by: Annotated[
        Naming | None,
        typer.Option(help="With --ways: what a class is; by default label."),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs of meta-training; by default 200, with --ways 500."),
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="Divisions of each task.")] = 1,
    held_out: Annotated[
        HeldOut,
        typer.Option(help="What is held out: a new country, or a new district of a known one."),
    ] = HeldOut.COUNTRY,
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Folds, at most; by default 8 of countries, 5 of districts."),
    ] = None,
    block_km: Annotated[float, typer.Option(help="Edge of a spatial block in km.")] = 3.0,
    random_splits: Annotated[
        bool, typer.Option(help="Score random divisions too, to show their optimism.")
    ] = False,
    compare_with: Annotated[
        str | None, typer.Option(help="Row that the others are tested against.")
    ] = None,
    regions: Regions = None,
    seed: Seed = 0,
    device: Device = None,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Score rows on tasks of held-out regions, for several numbers of labels."""
    from timl.evaluation.few_shot import FEW_SHOT_ROWS, NWAY_ROWS, find_nway_rows
    from timl.evaluation.rows import find_rows

    number = None if ways is None else _ways(ways)
    if ways is None and by is not None:
        raise ValueError(f"--by is {by.value} without --ways: give both or none")
    if ways is not None and random_splits:
        raise ValueError("--random-splits is given with --ways: leave one out")
    usual = tuple(NWAY_ROWS) if ways is not None else FEW_SHOT_ROWS
    names = usual if rows is None else [name.strip() for name in rows.split(",")]
    found = find_rows(names) if ways is None else find_nway_rows(names, None)
    chosen = [row.name for row in found]
    if compare_with is not None and compare_with not in chosen:
        raise ValueError(f"compare_with is {compare_with!r}: choose of {', '.join(chosen)}")
    options: dict[str, Any] = {
        "held_out": held_out.value,
        "draws": draws,
        "folds": folds,
        "seed": seed,
        "block_km": block_km,
        "regions": regions,
        "device": device or "cpu",
        "workers": workers,
        "progress": not quiet,
    }
    if epochs is not None:
        options["epochs"] = epochs
    harvest = timl.CropHarvest(data)
    out = out or Path("results/few-shot" if number is None else "results/n-way")
    result: FewShotResult
    if number is None:
        result = timl.few_shot_benchmark(
            harvest, out, names, random_splits=random_splits, **options
        )
    else:
        if by is not None:
            options["by"] = by.value
        result = timl.nway_benchmark(harvest, out, names, ways=number, **options)
    say(result.to_markdown())
    if len(result.titles) > 1:
        say(result.compare(compare_with).to_string(index=False, float_format="{:.4f}".format))
    say(f"written to {out}: {result.stem}.csv, {result.stem}.json, {result.stem}.md")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        say('no report: it needs matplotlib, pip install "timl[plot]"; then give the command again')
    else:
        from timl.evaluation.report import write_few_shot_report

        say(f"report: {write_few_shot_report(result, out, compare_with)}")


@app.command()
def report(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of a finished table.")] = Path("results/table1"),
    regions: Regions = None,
) -> None:
    """Write the report of a finished table again, as HTML and Markdown; compute no scores."""
    result = timl.evaluation.Table1Result.load(out)
    say(f"report: {_report(result, timl.CropHarvest(data), regions, out)}")


def _report(
    result: timl.evaluation.Table1Result,
    data: timl.CropHarvest,
    regions: Path | None,
    out: Path,
) -> Path:
    """Write the report of a table with the tasks that it was trained on; return its path."""
    from timl.evaluation.paper.experiment import training_tasks
    from timl.evaluation.report import write_report

    tasks = None
    if result.provenance["data"]["meta_training_tasks"] is not None:
        published = result.provenance["settings"]["as_published_code"]
        tasks = training_tasks(data, regions, published)
    return write_report(result, data, tasks, out)


def _ways(text: str) -> int | Literal["all"]:
    """Return a number of classes as the user wrote it."""
    if text == "all":
        return "all"
    number = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0
    if number < 2:
        raise ValueError(f"--ways is {text!r}: give all, or a number of at least 2")
    return number


def _size(text: str) -> int:
    """Return a number of labels as the user wrote it."""
    size = int(text) if re.fullmatch(r"\s*[0-9]{1,9}\s*", text) else 0
    if size < 2 or size % 2:
        raise ValueError(f"--sample-sizes is of {text!r}: give even numbers of at least 2")
    return size
