"""Commands on one model: model, train, finetune, evaluate, in-season."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

import timl
from timl import defaults
from timl.cli.application import Data, Device, Quiet, Regions, Seed, Threads, app, say, use_threads
from timl.cli.places import FaoClass, LabelColumn, Places, Target, read_places
from timl.files import output_folder
from timl.model_folders import DEFAULT_MODEL, model_folder

Model = Annotated[
    Path,
    typer.Option(
        help="Folder of a model or of the authors' pair of state dicts, or the name of a model "
        "that timl model made."
    ),
]
Benchmark = Annotated[str, typer.Option(help="Name of an evaluation task of the data.")]


class _Protocol(Enum):
    STRONG = "strong"
    PAPER = "paper"


@app.command(name="model")
def make(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder in the layout of CropHarvest's record; by default the record, "
            "downloaded into the user's cache."
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name by which it is found.")] = DEFAULT_MODEL,
    epochs: Annotated[
        int,
        typer.Option(
            min=1, help="Visits of every task; the strong protocol does not use what they learn."
        ),
    ] = 100,
    kernel_steps: Annotated[
        int, typer.Option(min=1, help="Steps of learning each network of the deep kernel.")
    ] = defaults.KERNEL_STEPS,
    regions: Regions = None,
    seed: Seed = 0,
    device: Device = None,
    record: Annotated[
        int | None,
        typer.Option(min=1, help="Number of the record on Zenodo, as of timl download."),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Address of a mirror; by default TIML_ZENODO_URL, or Zenodo.")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Train anew even if a training could be resumed.")
    ] = False,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Make a model to start from, found by its name from then on; go on where it was stopped."""
    use_threads(threads)
    folder = timl.make_model(
        data,
        name,
        epochs=epochs,
        kernel_steps=kernel_steps,
        regions=regions,
        seed=seed,
        device=device,
        base_url=base_url,
        **({} if record is None else {"record": record}),
        restart=restart,
        progress=not quiet,
    )
    say(f"model {name} is in {folder}: see its model-card.md")
    say(
        f"""next:
  timl map --model {name} --points FIELDS.csv --exports EXPORTS --out MAP"""
    )


@app.command()
def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint and the best model.")],
    epochs: Annotated[int, typer.Option(min=1, help="Visits of every task.")] = defaults.EPOCHS,
    encoder: Annotated[
        bool, typer.Option(help="Whether there is a task encoder (TIML) or none (MAML).")
    ] = True,
    meta_batch: Annotated[
        int, typer.Option(min=1, help="Tasks of one outer step.")
    ] = defaults.META_BATCH,
    k: Annotated[
        int, typer.Option(min=1, help="Positives, and negatives, of a support set.")
    ] = defaults.K,
    query: Annotated[int, typer.Option(min=2, help="Samples of a query set.")] = defaults.QUERY,
    inner_lr: Annotated[
        float, typer.Option(help="Size of the inner steps.")
    ] = defaults.INNER_LEARNING_RATE,
    inner_steps: Annotated[
        int, typer.Option(min=1, help="Number of inner steps.")
    ] = defaults.INNER_STEPS,
    first_order: Annotated[
        bool, typer.Option("--first-order", help="Take inner gradients as constants (FOMAML).")
    ] = False,
    meta_lr: Annotated[
        float, typer.Option(help="Outer learning rate of the first epoch.")
    ] = defaults.META_LEARNING_RATE,
    forgetting: Annotated[bool, typer.Option(help="Drop tasks that are learned.")] = True,
    kernel_steps: Annotated[
        int,
        typer.Option(min=0, help="Steps of learning each network of the deep kernel; 0: none."),
    ] = defaults.KERNEL_STEPS,
    regions: Regions = None,
    seed: Seed = 0,
    device: Device = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start over even if a checkpoint could be resumed.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Log for TensorBoard too.")
    ] = False,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Meta-train a model on all tasks but the evaluation tasks; go on where it was stopped.

    Started by torchrun, its processes share the tasks and get the weights of one process.
    """
    from timl.meta.ranks import joined_ranks

    use_threads(threads)
    with joined_ranks() as ranks:
        harvest = ranks.in_turn(lambda: timl.CropHarvest(data))  # the first one packs it
        tasks = timl.meta_tasks(harvest, regions, k=k, query=query, inner_steps=inner_steps)
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
            forgetting_threshold=defaults.FORGETTING_THRESHOLD if forgetting else None,
            kernel_steps=kernel_steps,
            seed=seed,
            device=device,
            out=out,
            resume=not restart,
            tensorboard=tensorboard,
            progress=not quiet,
        )
    if ranks.first:
        say(f"{history!r}; the model is in {out}")


@app.command()
def finetune(
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder for the adapted classifier.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder in the layout of CropHarvest's record.")
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option(help="Name of an evaluation task of the data.")
    ] = None,
    points: Places = None,
    exports: Annotated[
        str | None,
        typer.Option(help="With --points: GeoTIFF, folder or pattern in quotes of their series."),
    ] = None,
    target: Target = None,
    fao_class: FaoClass = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="With --points: labels to tell from each other, maize,wheat,rice, or all."
        ),
    ] = None,
    label_column: LabelColumn = None,
    protocol: Annotated[
        _Protocol | None,
        typer.Option(help="By default strong, or paper for a model without deep kernel."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=0, help=f"Steps of the paper's protocol; by default {defaults.FINE_TUNING_STEPS}."
        ),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Positives, and negatives, of each step; by default {defaults.FINE_TUNING_K}.",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help=f"Learning rate of each step; by default {defaults.FINE_TUNING_LEARNING_RATE}."
        ),
    ] = None,
    seed: Seed = 0,
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Adapt a model to an evaluation task, or to places of your own, and write the classifier."""
    use_threads(threads)
    of_places = {
        "--exports": exports,
        "--target": target,
        "--class": fao_class,
        "--classes": classes,
        "--label-column": label_column,
    }
    of_data = {"--data": data, "--benchmark": benchmark}
    _require_one_task(points, of_places, of_data)
    start = timl.nn.load_pretrained(model)
    if isinstance(start, timl.nn.StrongClassifier):
        raise ValueError(f"--model is {model}, an adapted classifier: give a meta-trained model")
    given = {"--steps": steps, "--k": k, "--learning-rate": learning_rate}
    idle = [f"{name} {value}" for name, value in given.items() if value is not None]
    if idle and protocol is not _Protocol.PAPER and _has_kernel(start):
        raise ValueError(
            f"{' and '.join(idle)} belong to the paper's protocol: give --protocol paper too, or "
            f"leave out {', '.join(given)} for the strong protocol"
        )
    require_no_model(out, model)
    task: timl.data.BenchmarkTask | timl.data.CropTypeTask
    if points is not None:
        assert exports is not None  # checked above
        task = read_places(
            start,
            model,
            points,
            exports,
            target=target,
            fao_class=fao_class,
            classes=classes,
            label_column=label_column,
        )
    else:
        assert data is not None and benchmark is not None  # checked above
        task = timl.CropHarvest(data).benchmark(benchmark)
    with output_folder(out):
        classifier = timl.finetune(
            start,
            task,
            protocol=None if protocol is None else protocol.value,
            steps=steps,
            k=k,
            learning_rate=learning_rate,
            seed=seed,
            device=device,
        )
        classifier.save_pretrained(out)
    ran = "strong" if isinstance(classifier, timl.nn.StrongClassifier) else "paper's"
    say(f"adapted by the {ran} protocol; the classifier is in {out}")
    if points is None or task.data.labels["is_test"].any():
        say(_line(timl.evaluate(classifier, task)))
    if points is not None:
        say(
            f"""{task!r}
next:
  timl map --model {out} --exports {exports} --out MAP"""
        )


def _require_one_task(
    points: Path | None, of_places: Mapping[str, object], of_data: Mapping[str, object]
) -> None:
    """Raise ValueError unless options name one task: of places of one's own, or of a data set."""
    places, known = (
        [option for option, value in of.items() if value is not None] for of in (of_places, of_data)
    )
    if points is None and places:
        raise ValueError(f"{' and '.join(places)} belong to --points: give --points too")
    if points is not None and known:
        raise ValueError(
            f"--points is {points}, and {' and '.join(known)} is given too: give --points and "
            f"--exports for places of your own, or --data and --benchmark for an evaluation task"
        )
    if points is not None and "--exports" not in places:
        raise ValueError(f"--points is {points}: give the --exports that hold their series too")
    if points is None and len(known) < len(of_data):
        raise ValueError(
            "--benchmark or --data is missing: give both for an evaluation task, or --points and "
            "--exports for places of your own"
        )


@app.command()
def evaluate(
    data: Data,
    model: Model,
    benchmark: Benchmark,
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Score an adapted classifier, or a model as it is (zero-shot), on an evaluation task."""
    use_threads(threads)
    task = timl.CropHarvest(data).benchmark(benchmark)
    predictor = timl.nn.load_pretrained(model)
    if isinstance(predictor, timl.TIML):
        predictor = predictor.for_task(task.info)
        say("a model without fine-tuning:", err=True)
    if isinstance(predictor, timl.nn.DeepKernel):
        raise ValueError(f"--model is {model}, a deep kernel: give an adapted classifier")
    say(_line(timl.evaluate(predictor, task, device=device)))


@app.command()
def in_season(
    data: Data,
    model: Model,
    benchmark: Benchmark,
    out: Annotated[Path, typer.Option(help="Folder for table and plot.")],
    months: Annotated[
        str | None,
        typer.Option(help="Numbers of months seen, with commas between; by default from 1 to all."),
    ] = None,
    first_month: Annotated[
        int | None,
        typer.Option(min=1, max=12, help="Calendar month that the series start in, for names."),
    ] = None,
    protocol: Annotated[_Protocol, typer.Option()] = _Protocol.STRONG,
    draws: Annotated[
        int, typer.Option(min=1, help="Divisions in space, where the task has no test set.")
    ] = 3,
    seed: Seed = 0,
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Score a task by the last month seen: each time adapted to the months up to it."""
    use_threads(threads)
    start = timl.nn.load_pretrained(model)
    if isinstance(start, timl.nn.StrongClassifier):
        raise ValueError(f"--model is {model}, an adapted classifier: give a meta-trained model")
    task = timl.CropHarvest(data).benchmark(benchmark)
    wanted = None if months is None else [_month(text) for text in months.split(",")]
    with output_folder(out):
        result = timl.in_season(
            start,
            task,
            wanted,
            protocol=protocol.value,
            first_month=first_month,
            draws=draws,
            seed=seed,
            device=device,
        )
        result.save(out)
    say(result.to_markdown())
    ran = "strong" if protocol is _Protocol.STRONG else "paper's"
    say(f"adapted by the {ran} protocol; written to {out}")


def _has_kernel(model: object) -> bool:
    """Return whether a model can be adapted by the strong protocol."""
    if isinstance(model, timl.TIML):
        return model.deep_kernel is not None
    return isinstance(model, timl.nn.DeepKernel)


def require_no_model(out: Path, start: Path) -> None:
    """Raise ValueError if a folder for a classifier is that of a model that it would replace.

    That is the model that the classifier starts from, or any that is not adapted to a task.
    """
    try:
        there = timl.nn.load_pretrained(out.absolute())  # a folder, never the name of a model
    except (OSError, ValueError):
        return
    if out.samefile(model_folder(start)) or isinstance(there, timl.TIML | timl.nn.DeepKernel):
        raise ValueError(
            f"--out is {out}, which holds a model that the classifier would replace: give another "
            f"folder"
        )


def _month(text: str) -> int:
    """Return a number of months as it was given between commas."""
    if not text.strip().isdigit():
        raise ValueError(f"--months is of {text!r}: give numbers with commas between, such as 4,6")
    return int(text)


def _line(scores: timl.evaluation.Scores | timl.evaluation.ClassScores) -> str:
    """Return scores as a line of text."""
    if isinstance(scores, timl.evaluation.ClassScores):
        return f"{scores!r}"
    return (
        f"AUC ROC {scores.auc_roc:.3f}, F1 {scores.f1:.3f}, IoU {scores.iou:.3f} on "
        f"{scores.samples} samples"
    )
