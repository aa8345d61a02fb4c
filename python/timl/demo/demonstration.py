"""The demonstration from the simulated world to the map, its scores and its area."""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from timl.baselines import cross_validated_logistic_regression, random_forest
from timl.data import CropHarvest, Scene, own_points, simulate, simulate_scene
from timl.data.own.exports import import_rasterio
from timl.data.own.points_table import read_points
from timl.demo.figure import Panels, save_figure
from timl.demo.mapping import estimate_area, scene_series
from timl.demo.result import Demonstration
from timl.evaluation.few_shot import FewShotResult, few_shot_benchmark
from timl.evaluation.plotting import require_matplotlib
from timl.evaluation.rows import Row, find_rows
from timl.evaluation.rows.strong import StrongRow
from timl.evaluation.runner import keep_same
from timl.files import atomic_write, output_folder
from timl.maps import predict_map, shown_points
from timl.meta import finetune
from timl.nn import TIML, DeepKernel

_ROWS = {
    "random-forest": "Random Forest",
    "logistic-regression-cv": "Logistic regression",
    "timl": "TIML, the paper's protocol",
    "strong-without-learning": "Strong, nothing learned",
    "strong": "Strong protocol",
}
"""Titles of the methods that are compared, by name."""

_FOLDS = 4
"""Parts of the world's countries, of which the one with the scene is held out."""


def demo(
    out: str | Path = "results/demo",
    *,
    countries: int = 12,
    samples: int = 4000,
    epochs: int = 60,
    kernel_steps: int = 200,
    budgets: tuple[int | None, ...] = (5, 10, None),
    size: int = 256,
    points: int = 50,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> Demonstration:
    """Simulate a world and a scene, score methods by number of labels, and map the scene.

    A fourth of the countries is held out from all training. Five methods are scored on their tasks;
    then the model, adapted to the scene's points by the strong protocol, maps the commonest crop of
    the scene, and the crop's area is estimated from a sample of the truth.

    Results that are there already are used again, so that the same call goes on after a stop.

    Parameters
    ----------
    out
        Folder for `world`, `scene`, `few-shot`, `model`, `map.tif` with what lies beside it,
        `report.html`, and `demo.md` with `demo.png`.
    countries, samples
        Sizes of the world, those of `timl.data.simulate`.
    epochs, kernel_steps
        Epochs of meta-training, and steps of learning each network of the deep kernel; fewer than
        `timl.meta_train` takes by default.
    budgets
        Labels per class at which methods are scored; None: all.
    size, points
        Edge of the scene in pixels and its labelled points, of `timl.data.simulate_scene`.
    seed
        Seed of world and scene, and of everything computed on them.
    workers
        Processes that score, as of `timl.few_shot_benchmark`.
    progress
        Whether to show progress bars.

    Raises
    ------
    ImportError
        If matplotlib, rasterio or shapely is not installed.
    ValueError, OSError
        If an argument is out of range, a file cannot be read or written, or `out` holds a
        demonstration with other arguments.
    """
    require_matplotlib("the demonstration needs")  # now, rather than after a minute of training
    import_rasterio()
    chosen = {
        "countries": countries,
        "samples": samples,
        "epochs": epochs,
        "kernel_steps": kernel_steps,
        "budgets": list(budgets),
        "size": size,
        "points": points,
        "seed": seed,
    }
    with output_folder(out) as folder:
        keep_same(folder, chosen)
        world = simulate(folder / "world", countries, samples, seed)
        scene = simulate_scene(folder / "scene", world, size=size, points=points, seed=seed)
        data = CropHarvest(world)
        with warnings.catch_warnings():
            # rare crops' tasks are left out, which few-shot.json says
            warnings.filterwarnings("ignore", ".*cannot be divided in space")
            result = few_shot_benchmark(
                data,
                folder / "few-shot",
                _rows(kernel_steps),
                epochs=epochs,
                budgets=budgets,
                held_out="district",
                folds=_FOLDS,
                scored=[scene.country],
                seed=seed,
                workers=workers,
                progress=progress,
            )
        model = _assemble(folder, result)
        return _map(folder, data, scene, result, model, seed, workers)


def _rows(kernel_steps: int) -> list[Row]:
    rows = []
    for row in find_rows(list(_ROWS)):
        if isinstance(row, StrongRow):
            row = dataclasses.replace(row, kernel_steps=kernel_steps)
        rows.append(dataclasses.replace(row, title=_ROWS[row.name]))
    return rows


def _assemble(folder: Path, result: FewShotResult) -> TIML:
    """Put the network and the deep kernel that the scores needed together into one model."""
    fold = result.cells[0].fold
    model = TIML.from_pretrained(folder / "few-shot" / f"timl-{fold}")
    model.deep_kernel = DeepKernel.from_pretrained(folder / "few-shot" / f"strong-{fold}")
    model.save_pretrained(folder / "model")
    return model


def _map(
    folder: Path,
    data: CropHarvest,
    scene: Scene,
    result: FewShotResult,
    model: TIML,
    seed: int,
    workers: int | None,
) -> Demonstration:
    """Adapt the model to the scene's points, map the crop that most have, estimate its area."""
    target = _commonest_crop(scene)
    own = own_points(scene.points, scene.export, like=data, target_label=target)
    series, shape = scene_series(scene.export, data)
    files = predict_map(
        finetune(model, own, seed=seed),
        scene.export,
        folder / "map.tif",
        target=target,
        points=shown_points(own),
        workers=workers,
        progress=False,
    )
    with import_rasterio().open(files.map) as file:
        probability = file.read(1).astype(np.float64)
    baselines = {
        "random-forest": random_forest(seed),
        "logistic-regression-cv": cross_validated_logistic_regression(),
    }
    maps = {"strong": probability}
    for name, classifier in baselines.items():
        fitted = classifier.fit(*own.train_arrays())
        maps[name] = fitted.predict_proba(series).reshape(shape)
    with import_rasterio().open(scene.truth) as file:
        covers = file.read(1)
    truth = covers == next(value for value, label in scene.legend.items() if label == target)
    demonstration = Demonstration(
        result=result,
        area=estimate_area(files.map, scene, target, seed),
        map_scores={name: _scores(found, truth) for name, found in maps.items()},
        target=target,
        labels=(len(own.positives), len(own.negatives)),
        world=data.root,
        scene=scene,
        model=folder / "model",
        map=files,
        figure=folder / "demo.png",
        report=folder / "report.html",
        text=folder / "demo.md",
    )
    save_figure(demonstration, Panels(scene, target, covers, truth, probability))
    document = demonstration.document()
    for path, text in (
        (demonstration.report, document.to_html()),
        (demonstration.text, document.to_markdown()),
    ):
        with atomic_write(path, "w") as file:
            file.write(text)
    return demonstration


def _commonest_crop(scene: Scene) -> str:
    points = read_points(scene.points)
    crops = Counter(points["label"][points["is_crop"] == 1])
    return str(crops.most_common(1)[0][0])


def _scores(probability: NDArray[np.float64], truth: NDArray[np.bool_]) -> dict[str, float]:
    from sklearn.metrics import f1_score, roc_auc_score

    y, p = truth.ravel(), probability.ravel()
    return {
        "auc_roc": float(roc_auc_score(y, p)),
        "f1": float(f1_score(y, p >= 0.5)),
        "accuracy": float((y == (p >= 0.5)).mean()),
    }
