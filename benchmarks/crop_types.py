"""Maps the crop types of a simulated scene from a hundred points, beside its truth and a forest.

The deep kernel is learned in the other countries of the scene's simulated world. Run
`python benchmarks/crop_types.py --help`; README.md in this folder says what is printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
import timl
from common import table
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, f1_score, jaccard_score
from timl.data import read_regions
from timl.demo.mapping import scene_series
from timl.maps.drawing.legend import CLASS_COLOURS
from timl.meta import fit_strong_classes, learn_deep_kernel

ELSEWHERE = "#BBBBBB"
"""Colour of what none of the points shows."""


def scores(truth: NDArray[np.int64], found: NDArray[np.int64], classes: list[str]) -> pd.DataFrame:
    """Return IoU and F1 of each class, over all pixels, those of no point's class too."""
    numbers = list(range(len(classes)))
    columns = {
        name: score(truth, found, labels=numbers, average=None, zero_division=0)
        for name, score in (("IoU", jaccard_score), ("F1", f1_score))
    }
    return pd.DataFrame(columns, index=classes)


def main() -> None:
    """Map, score and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=100, help="surveyed points")
    parser.add_argument("--size", type=int, default=256, help="edge of the scene, pixels")
    parser.add_argument("--countries", type=int, default=12, help="countries of the world")
    parser.add_argument("--samples", type=int, default=4000, help="labelled samples of the world")
    parser.add_argument("--steps", type=int, default=200, help="steps of learning each network")
    parser.add_argument("--out", type=Path, default=Path("results/crop-types"))
    options = parser.parse_args()
    out = options.out
    world = timl.data.simulate(out / "world", options.countries, options.samples)
    scene = timl.data.simulate_scene(out / "scene", world, size=options.size, points=options.points)
    data = timl.CropHarvest(world)
    others = [box for box in read_regions(world / "regions.json") if box.name != scene.country]
    tasks = timl.data.meta_tasks(data, others)
    kernel = learn_deep_kernel(tasks, steps=options.steps, out=out / "kernel")
    assert kernel is not None and kernel.normalization is not None
    crop = pd.read_csv(scene.points).query("is_crop == 1")["label"].mode()[0]
    own = timl.data.own_points(scene.points, scene.export, like=kernel, target_label=crop)
    names = own.data.labels["label"]
    classes = names.value_counts().index.tolist()  # the commonest first
    y = names.map(classes.index).to_numpy()
    x = own.data.series(np.arange(len(names)))
    classifier = fit_strong_classes(kernel, x, y, classes, normalization=kernel.normalization)
    shown = own.data.labels[["lat", "lon"]].assign(label=names)
    files = timl.predict_map(
        classifier, scene.export, out / "map.tif", points=shown, progress=False
    )
    with rasterio.open(files.map) as file:
        strong = file.read(file.descriptions.index("class") + 1).astype(np.int64)
    series, shape = scene_series(scene.export, data)
    forest = RandomForestClassifier(random_state=0).fit(x.reshape(len(x), -1), y)
    other = forest.predict(series.reshape(len(series), -1)).reshape(shape)
    with rasterio.open(scene.truth) as file:
        covers = file.read(1)
    number = {name: place for place, name in enumerate(classes)}
    truth = np.full(shape, len(classes))
    for value, label in scene.legend.items():
        truth[covers == value] = number.get(label, len(classes))
    pictures = {"Truth": truth, "Strong protocol": strong, "Random Forest": other}
    rows = []
    for name, found in list(pictures.items())[1:]:
        each = scores(truth.ravel(), found.ravel(), classes)
        accuracy = accuracy_score(truth.ravel(), found.ravel())
        means = [f"{value:.3f}" for value in (each["F1"].mean(), each["IoU"].mean(), accuracy)]
        rows.append([name, *means])
    print(f"{len(names)} points of {len(classes)} classes, {truth.size:,} pixels\n")
    print(table(["method", "macro F1", "mean IoU", "accuracy"], rows))
    draw(pictures, classes, out / "crop-types.png", len(names))


def draw(
    pictures: dict[str, NDArray[np.int64]], classes: list[str], path: Path, points: int
) -> None:
    """Draw the truth and the maps beside each other."""
    colours = np.array([list(bytes.fromhex(c[1:])) for c in CLASS_COLOURS[: len(classes)]])
    colours = np.vstack([colours, list(bytes.fromhex(ELSEWHERE[1:]))]).astype(np.uint8)
    figure = Figure(figsize=(12, 5), dpi=110, layout="constrained")
    for axes, (name, numbers) in zip(figure.subplots(1, 3), pictures.items(), strict=True):
        axes.imshow(colours[numbers], interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(name if name == "Truth" else f"{name}, {points} points")
    handles = [
        Patch(fc=colour / 255, ec="0.5", label=name)
        for colour, name in zip(colours, [*classes, "of none of the points"], strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(path, metadata={"Software": None})


if __name__ == "__main__":
    main()
