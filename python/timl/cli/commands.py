"""The commands: train, finetune, evaluate, table1, benchmark, report."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

import timl
from timl.cli.application import Data, Quiet, Regions, Seed, Threads, app, use_threads

__all__ = ["app"]

Model = Annotated[
    Path,
    typer.Option(help="Folder of a model, or of the authors' pair of state dicts."),
]
Benchmark = Annotated[str, typer.Option(help="Name of an evaluation task of the data.")]
_QUICK_EPOCHS, _QUICK_RUNS = 40, 5
FineTuningSteps = Annotated[int, typer.Option(min=0, help="Steps of fine-tuning.")]


class _Protocol(Enum):
    STRONG = "strong"
    PAPER = "paper"


@app.command()
def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint and the best model.")],
    epochs: Annotated[int, typer.Option(min=1, help="Visits of every task.")] = 1000,
    encoder: Annotated[bool, typer.Option(help="With a task encoder (TIML) or not (MAML).")] = True,
    meta_batch: Annotated[int, typer.Option(min=1, help="Tasks of one outer step.")] = 32,
    k: Annotated[int, typer.Option(min=1, help="Positives of a support set.")] = 10,
    query: Annotated[int, typer.Option(min=2, help="Samples of a query set.")] = 8,
    inner_lr: Annotated[float, typer.Option(help="Size of the inner steps.")] = 1e-3,
    inner_steps: Annotated[int, typer.Option(min=1, help="Inner steps.")] = 1,
    first_order: Annotated[bool, typer.Option("--first-order", help="As FOMAML.")] = False,
    meta_lr: Annotated[float, typer.Option(help="First outer learning rate.")] = 1e-3,
    forgetting: Annotated[bool, typer.Option(help="Drop tasks that are learned.")] = True,
    regions: Regions = None,
    seed: Seed = 0,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start over, where a checkpoint could be resumed.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Log for TensorBoard too.")
    ] = False,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Meta-train a model on all tasks but the evaluation tasks; go on where it was stopped."""
    use_threads(threads)
    tasks = timl.meta_tasks(
        timl.CropHarvest(data), regions, k=k, query=query, inner_steps=inner_steps
    )
    with timl.nn.seeded(seed):
        model = timl.TIML(encoder=encoder)
    history = timl.meta_train(
        model,
        tasks,
        epochs=epochs,
        meta_batch=meta_batch,
        k=k,
        query=query,
        inner_lr=inner_lr,
        inner_steps=inner_steps,
        first_order=first_order,
        meta_lr=meta_lr,
        forgetting_threshold=0.95 if forgetting else None,
        seed=seed,
        out=out,
        resume=not restart,
        tensorboard=tensorboard,
        progress=not quiet,
    )
    typer.echo(f"{history!r}; the model is in {out}")


@app.command()
def finetune(
    data: Data,
    model: Model,
    benchmark: Benchmark,
    out: Annotated[Path, typer.Option(help="Folder for the adapted classifier.")],
    protocol: Annotated[
        _Protocol | None,
        typer.Option(
            help="Default: strong, or paper where an option of its descent is given.",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=0, help="Of the paper's descent: 250.")] = None,
    k: Annotated[
        int | None, typer.Option(min=1, help="Positives, and negatives, of its step: 10.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of its every step: 1e-3.")] = None,
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Adapt a model to an evaluation task and write the classifier."""
    use_threads(threads)
    task = timl.CropHarvest(data).benchmark(benchmark)
    start = timl.nn.load_pretrained(model)
    if isinstance(start, timl.nn.StrongClassifier):
        raise ValueError(f"{model} holds an adapted classifier: give a meta-trained model")
    classifier = timl.finetune(
        start,
        task,
        protocol=None if protocol is None else protocol.value,
        steps=steps,
        k=k,
        learning_rate=learning_rate,
        seed=seed,
    )
    classifier.save_pretrained(out)
    typer.echo(f"{_line(timl.evaluate(classifier, task))}; the classifier is in {out}")


@app.command()
def evaluate(data: Data, model: Model, benchmark: Benchmark, threads: Threads = None) -> None:
    """Score an adapted classifier, or a model as it is (zero-shot), on an evaluation task."""
    use_threads(threads)
    task = timl.CropHarvest(data).benchmark(benchmark)
    predictor = timl.nn.load_pretrained(model)
    if isinstance(predictor, timl.TIML):
        predictor = predictor.for_task(task.info)
        typer.echo("a model without fine-tuning:", err=True)
    typer.echo(_line(timl.evaluate(predictor, task)))


@app.command()
def table1(
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder in the layout of CropHarvest's record."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the table and all that it needs.")] = Path(
        "results/table1"
    ),
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of meta-training; by default 1000.")
    ] = None,
    runs: Annotated[
        int | None, typer.Option(min=1, help="Runs of every cell; by default 10.")
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(
            help="Names of rows or paths of their TOML files, with commas between them; by "
            "default the paper's."
        ),
    ] = None,
    steps: FineTuningSteps = 250,
    regions: Regions = None,
    seed: Seed = 0,
    meta_seeds: Annotated[int, typer.Option(min=1, help="Repetitions of meta-training.")] = 1,
    sample_sizes: Annotated[
        str | None,
        typer.Option(help="Also adapt to so many labels: even numbers, with commas between them."),
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
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
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
        data = out / "world"
        timl.data.simulate(data, seed=seed)
    sizes = [] if sample_sizes is None else [_size(text) for text in sample_sizes.split(",")]
    harvest = timl.CropHarvest(data)
    result = timl.table1(
        harvest,
        out,
        epochs if epochs is not None else (_QUICK_EPOCHS if quick else 1000),
        rows=None if rows is None else rows.split(","),
        runs=runs if runs is not None else (_QUICK_RUNS if quick else 10),
        steps=steps,
        seed=seed,
        meta_seeds=meta_seeds,
        sample_sizes=[*sizes, None],
        zero_shot=zero_shot,
        as_published_code=as_published_code,
        compare_with=compare_with,
        regions=regions,
        workers=threads if workers is None else workers,
        progress=not quiet,
    )
    Console().print(result)
    typer.echo(f"written to {out}: table1.csv, table1.json, table1.md")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        typer.echo(
            f'no report: it needs matplotlib, pip install "timl[plot]"; then timl report '
            f"--out {out} --data {data}"
        )
    else:
        typer.echo(f"report: {_report(result, harvest, regions, out)}")


@app.command()
def benchmark(
    data: Annotated[Path, typer.Argument(help="Folder in the layout of CropHarvest's record.")],
    out: Annotated[Path, typer.Option(help="Folder for the table and all that it needs.")] = Path(
        "results/few-shot"
    ),
    rows: Annotated[
        str | None,
        typer.Option(help="Names of rows or paths of their TOML files, with commas between them."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of meta-training.")] = 200,
    draws: Annotated[int, typer.Option(min=1, help="Divisions of each task.")] = 3,
    folds: Annotated[int, typer.Option(min=2, help="Parts of the regions, at most.")] = 5,
    block_km: Annotated[float, typer.Option(help="Edge of a spatial block, km.")] = 3.0,
    random_splits: Annotated[
        bool, typer.Option(help="Score random divisions too, for their optimism.")
    ] = True,
    compare_with: Annotated[
        str | None, typer.Option(help="Row that is tested against the others.")
    ] = None,
    regions: Regions = None,
    seed: Seed = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes.")] = None,
    quiet: Quiet = False,
) -> None:
    """Score rows on tasks of held-out regions, for several numbers of labels."""
    result = timl.few_shot_benchmark(
        timl.CropHarvest(data),
        out,
        None if rows is None else [name.strip() for name in rows.split(",")],
        epochs=epochs,
        draws=draws,
        folds=folds,
        seed=seed,
        block_km=block_km,
        random_splits=random_splits,
        regions=regions,
        workers=workers,
        progress=not quiet,
    )
    typer.echo(result.to_markdown())
    if len(result.titles) > 1:
        typer.echo(
            result.compare(compare_with).to_string(index=False, float_format="{:.4f}".format)
        )


@app.command()
def report(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of a finished table.")] = Path("results/table1"),
    regions: Regions = None,
) -> None:
    """Write the report of a finished table again, as HTML and Markdown; compute no scores."""
    result = timl.evaluation.Table1Result.load(out)
    typer.echo(f"report: {_report(result, timl.CropHarvest(data), regions, out)}")


def _report(
    result: timl.evaluation.Table1Result,
    data: timl.CropHarvest,
    regions: Path | None,
    out: Path,
) -> Path:
    """Write the report of a table with the tasks that it was trained on."""
    from timl.evaluation.paper.experiment import training_tasks
    from timl.evaluation.report import write_report

    tasks = None
    if result.provenance["data"]["meta_training_tasks"] is not None:
        published = result.provenance["settings"]["as_published_code"]
        tasks = training_tasks(data, regions, published)
    return write_report(result, data, tasks, out)


def _size(text: str) -> int:
    if not text.strip().isdecimal():
        raise ValueError(f"--sample-sizes holds {text!r}: give even numbers")
    return int(text)


def _line(scores: timl.evaluation.Scores) -> str:
    return (
        f"AUC ROC {scores.auc_roc:.3f}, F1 {scores.f1:.3f}, IoU {scores.iou:.3f} on "
        f"{scores.samples} samples"
    )
