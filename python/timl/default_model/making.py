"""Making a model to start from: record, training, scores, card and provenance."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timl import defaults
from timl.data import BBox, CropHarvest, meta_tasks, overlap_report
from timl.data.download.record import PAPER_RECORD, RECORD_FILES, download
from timl.default_model.card import CARD, BenchmarkScores, write_card
from timl.evaluation.runner import provenance
from timl.evaluation.scores import evaluate
from timl.files import atomic_write, output_folder, read_json, user_cache
from timl.meta import finetune, meta_train
from timl.model_folders import CONFIGURATION, DEFAULT_MODEL, WEIGHTS, named_folder
from timl.nn import TIML, Device, checked_device, seeded

TRAINING, PROVENANCE = "training", "provenance.json"
EPOCHS = 100
"""Epochs of meta-training: the strong protocol, the default, does not use what they learn."""


def make_model(
    data: str | Path | None = None,
    name: str = DEFAULT_MODEL,
    *,
    record: int = PAPER_RECORD,
    epochs: int = EPOCHS,
    kernel_steps: int = defaults.KERNEL_STEPS,
    regions: str | Path | Sequence[BBox] | None = None,
    seed: int = 0,
    device: Device | None = None,
    base_url: str | None = None,
    restart: bool = False,
    progress: bool = True,
) -> Path:
    """Train a model on the record and keep it in the user's cache, where its name is enough.

    ``timl.TIML.from_pretrained(name)``, ``timl.finetune(name, task)``,
    ``timl.CropClassifier(pretrained=name)`` and ``timl.data.own_points(like=name)`` find it. A call
    that was stopped goes on when it is given again; one of a finished model trains nothing.

    Parameters
    ----------
    data
        Folder in the layout of CropHarvest's record. None: a version of the record itself, which
        is downloaded into the user's cache if it is not there.
    name
        Name of the model: 1 to 80 letters, digits, - and _.
    record
        Number of that version on Zenodo: 5828893 (the paper's), 7257688 or 10251170.
    epochs
        Epochs of meta-training, which the paper's protocol starts from. The strong protocol uses
        the deep kernel alone.
    kernel_steps
        Steps of learning each network of the deep kernel, at least 1.
    regions
        As of `timl.meta_tasks`.
    seed
        Seed of everything.
    device
        Device that the model is meta-trained and scored on, as of `timl.meta_train`. None: the CPU.
    base_url
        Mirror of Zenodo, as of `timl download`.
    restart
        Train anew, even if there is a training to go on with. The old model stays until then.
    progress
        Show bars with the time left.

    Returns
    -------
    Path
        The model's folder: model.safetensors and config.json, which holds its checksum and
        normalising statistics, model-card.md, provenance.json, and the folder training. The first
        four are all that another computer needs.

    Raises
    ------
    ConnectionError, PermissionError
        If the record is not there and cannot be downloaded.
    ValueError
        If an argument is out of range, the training in the folder is of other data or options, the
        data have no region with two labels to learn a kernel from, or there is no such device.
    BlockingIOError
        If another process is making the model.
    """
    folder = named_folder(name)
    if kernel_steps < 1:
        raise ValueError(f"kernel_steps is {kernel_steps}: give at least 1")
    # before a long download
    place = {} if device is None else {"device": str(checked_device(device))}
    harvest = CropHarvest(_record(folder, record, base_url, progress) if data is None else data)
    tasks = meta_tasks(harvest, regions)
    settings = {"epochs": epochs, "kernel_steps": kernel_steps, "seed": seed, **place}
    described = provenance(harvest, settings)
    described["data"]["meta_training_tasks"] = [task.id for task in tasks]
    with output_folder(folder):
        start = time.perf_counter()
        with seeded(seed):
            model = TIML()
        history = meta_train(
            model,
            tasks,
            epochs=epochs,
            kernel_steps=kernel_steps,
            seed=seed,
            device=device,
            out=folder / TRAINING,
            resume=not restart,
            progress=progress,
        )
        if model.deep_kernel is None:
            raise ValueError(
                f"data is {harvest!r}, of which no region has two labels of 5 samples to learn a "
                f"deep kernel from: give more regions"
            )
        if _is_finished(folder, folder / TRAINING):
            return folder
        described["training"] = {
            "epochs": history.epochs,
            "best_epoch": history.best_epoch,
            "forgotten": int((~history.remaining).sum()),
            "seconds": round(time.perf_counter() - start, 1),
        }
        scores = _scores(model, harvest, seed)
        model.save_pretrained(folder)
        described["sha256"] = read_json(folder / CONFIGURATION, "make it again")["sha256"]
        write_card(folder / CARD, name, described, tasks, overlap_report(tasks), scores)
        with atomic_write(folder / PROVENANCE, "w") as file:  # the last: all is there with it
            file.write(json.dumps(described, indent=2) + "\n")
    return folder


def _record(folder: Path, record: int, base_url: str | None, progress: bool) -> Path:
    """Return the folder of the record in the user's cache, downloaded where needed."""
    root = user_cache() / f"record-{record}"
    try:
        download(root, record, base_url=base_url, progress=progress)
    except (ConnectionError, PermissionError) as error:
        raise type(error)(
            f"{error}. Without internet copy {', '.join(RECORD_FILES)} into {root}, or into any "
            f"folder that is given as data; or copy the finished model of another computer, "
            f"{WEIGHTS} and {CONFIGURATION}, into {folder}"
        ) from error
    return root


def _is_finished(folder: Path, training: Path) -> bool:
    """Tell whether a folder holds all of the model that its training has made."""
    checksums = []
    for path in (folder / PROVENANCE, folder / CONFIGURATION, training / CONFIGURATION):
        if not path.is_file():
            return False
        checksums.append(read_json(path, "remove it")["sha256"])
    return len(set(checksums)) == 1 and (folder / WEIGHTS).is_file() and (folder / CARD).is_file()


def _scores(model: TIML, data: CropHarvest, seed: int) -> list[BenchmarkScores]:
    """Return scores of the model and of two simple methods on the data's evaluation tasks."""
    from timl.baselines import logistic_regression, random_forest

    found = []
    for task in data.benchmarks:
        try:
            test = task.test
        except FileNotFoundError:  # a task whose test files are not at hand
            continue
        x, y = task.train_arrays()
        methods: dict[str, Any] = {"this model": finetune(model, task, seed=seed)}
        for method, baseline in (
            ("logistic regression", logistic_regression()),
            ("Random Forest", random_forest(seed)),
        ):
            methods[method] = baseline.fit(x, y).predict_proba(test.x)
        found.append(
            BenchmarkScores(
                task.name,
                int(y.sum()),
                len(y) - int(y.sum()),
                {method: evaluate(predictor, task) for method, predictor in methods.items()},
            )
        )
    return found
