"""Scores a per-pixel network on simulated chips, beside a forest and a regression.

First all 13 classes, learned from many chips; then few labels of one new chip, with and without
what other chips teach. Run `python benchmarks/chips.py --help`; docs/how-to/chips.md explains the
figures.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timl
from common import table
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from timl.data import Chip, ChipPixels, CropTypeTask, chip_pixels, open_chips, raster_labels
from timl.data.chips import CHIP_CLASSES, CHIP_KINDS
from timl.data.rasters.series_data import normalised
from timl.evaluation import ClassScores, class_scores, probabilities
from timl.maps import evaluate_chips, predict_chip
from timl.maps.drawing.legend import CLASS_COLOURS, NO_DATA_COLOUR
from timl.meta import meta_train, pretrain
from timl.meta.finetuning import descend
from timl.nn import TIML, Classifier, seeded

HIDDEN, RATE = 64, 0.1
"""Units of the network; size of the inner steps of meta-training. These, the steps of fine-tuning
and the training's options below were chosen on the chips of seed 0."""
Start = tuple[Callable[[CropTypeTask], Classifier], int, float]
"""What makes the network to fine-tune from a last layer of zeros; number and size of the steps."""


def rows(x: NDArray[Any]) -> NDArray[Any]:
    """Return series [n, T, F] as rows of numbers."""
    return x.reshape(len(x), -1)


def others(seed: int) -> dict[str, Any]:
    """Return the classifiers of scikit-learn by name."""
    return {
        "Random Forest": RandomForestClassifier(random_state=seed),
        "logistic regression": LogisticRegression(max_iter=2000),
    }


def evaluated(estimator: Any, chips: list[Chip], data: ChipPixels) -> ClassScores:
    """Score a classifier of scikit-learn on the pixels that `evaluate_chips` counts."""
    truth, found = [], []
    for chip in chips:
        series, labels = chip.series(), chip.labels()
        counted = (labels >= 0) & ~np.isnan(series).any(axis=(2, 3))
        truth.append(labels[counted])
        found.append(estimator.predict(rows(normalised(series[counted], data.mean, data.std))))
    return class_scores(np.concatenate(truth), np.concatenate(found), data.classes)


def learned_from_all(data: ChipPixels, epochs: int, seed: int) -> Classifier:
    """Train a network on the pixels of all chips, all classes at once."""
    with seeded(seed):
        network = Classifier(bands=6, steps=3, hidden=HIDDEN, outputs=len(data.classes))
    task = data.task()
    pretrain(network, *task.train_arrays(), batch=128, patience=5, epochs=epochs, seed=seed)
    network.normalization = data.normalization
    return network


def meta_learned(data: ChipPixels, epochs: int, seed: int) -> TIML:
    """Meta-train a network on N-way tasks, one chip a region."""
    with seeded(seed):
        model = TIML(bands=6, steps=3, hidden=HIDDEN, encoder=False, outputs=4)
    meta_train(
        model,
        data.nway_tasks(4, k=5, query=10, inner_steps=3),
        epochs=epochs,
        meta_batch=8,
        k=5,
        query=10,
        inner_lr=RATE,
        inner_steps=3,
        forgetting_threshold=None,
        kernel_steps=0,
        seed=seed,
        progress=False,
    )
    return model


def few_labels(
    chips: list[Chip], data: ChipPixels, starts: dict[str, Start], labels: int, seed: int
) -> dict[str, list[ClassScores]]:
    """Return scores of each method on each chip, from so many labels of each of its classes."""
    found: dict[str, list[ClassScores]] = {}
    for chip in chips:
        task = raster_labels(
            chip.required_mask,
            chip,
            CHIP_CLASSES,
            like=data,
            per_class=labels,
            test_per_class=300,
            block_m=900,
            distance_m=200,
            lacking="leave out",
            classification_labels=CHIP_KINDS,
            seed=seed,
        )
        x, y = task.train_arrays()
        predicted = {
            name: estimator.fit(rows(x), y).predict(rows(task.test.x))
            for name, estimator in others(seed).items()
        }
        for name, (start, steps, rate) in starts.items():
            network = start(task).with_outputs(len(task.classes))
            k = min(5, *task.counts)
            descend(network, x, y, steps=steps, k=k, learning_rate=rate, seed=seed)
            predicted[name] = probabilities(network, task.test.x).argmax(axis=1)
        for name, classes in predicted.items():
            scores = class_scores(task.test.y, classes, task.classes)
            found.setdefault(name, []).append(scores)
    return found


def main() -> None:
    """Simulate, train, score, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--training", type=int, default=40, help="chips to learn from")
    parser.add_argument("--validation", type=int, default=10, help="chips to score on")
    parser.add_argument("--size", type=int, default=224, help="edge of a chip, pixels")
    parser.add_argument("--per-class", type=int, default=100, help="pixels of a class and chip")
    parser.add_argument("--labels", type=int, nargs="*", default=[5, 25], help="labels of a class")
    parser.add_argument("--epochs", type=int, default=40, help="most epochs of training")
    parser.add_argument("--meta-epochs", type=int, default=150, help="epochs of meta-training")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/chips"))
    options = parser.parse_args()
    seed, out = options.seed, options.out
    timl.data.simulate_chips(
        out / "chips", options.training, options.validation, size=options.size, seed=seed
    )
    training, validation = (open_chips(out / "chips", part) for part in ("training", "validation"))
    data = chip_pixels(training, options.per_class, seed=seed)
    x, y = data.task().train_arrays()
    lines, cards = [], {}
    for name, estimator in others(seed).items():
        start = time.process_time()
        estimator.fit(rows(x), y)
        cards[name] = evaluated(estimator, validation, data)
        lines.append(summary(name, cards[name], time.process_time() - start))
    start = time.process_time()
    network = learned_from_all(data, options.epochs, seed)
    network.save_pretrained(out / "classifier")
    cards["network"] = evaluate_chips(network, validation)
    lines.append(summary("network", cards["network"], time.process_time() - start))
    scored = cards["network"].samples
    told = f"{len(y):,} pixels of {options.training} chips"
    print(f"{told}; all {scored:,} of {len(validation)} others\n")
    print(table(["method", "mIoU", "mAcc", "aAcc", "CPU seconds"], lines))
    for name, scores in cards.items():
        print(f"\n{name}\n\n{scores.to_model_card()}")
    start = time.process_time()
    model = meta_learned(data, options.meta_epochs, seed)
    print(f"meta-training: {time.process_time() - start:.0f} CPU seconds\n")
    with seeded(seed):
        new = Classifier(bands=6, steps=3, hidden=HIDDEN)
    starts: dict[str, Start] = {
        "network, nothing learned elsewhere": (lambda task: new, 250, 0.1),
        "network, meta-trained on N-way tasks": (lambda task: model.for_task(task.info), 50, RATE),
        "network, trained on all classes": (lambda task: network, 100, 0.02),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer labels
        for labels in options.labels:
            found = few_labels(validation, data, starts, labels, seed)
            ious = {n: np.array([s.mean_iou for s in scores]) for n, scores in found.items()}
            best = ious["logistic regression"]
            lines = []
            for name, scores in found.items():
                each = ious[name]
                accuracy = np.mean([s.overall_accuracy for s in scores])
                better = "" if each is best else f"{int((each > best).sum())} of {len(each)}"
                lines.append([name, f"{each.mean():.3f}", f"{accuracy:.3f}", better])
            print(f"{labels} labels of each class of a new chip, means of {len(validation)}\n")
            print(table(["method", "mIoU", "aAcc", "better than logistic regression"], lines))
            print()
    draw(validation[-1], network, out / "chip.png")


def summary(name: str, scores: ClassScores, seconds: float) -> list[str]:
    """Return a row of the table of means."""
    means = (scores.mean_iou, scores.balanced_accuracy, scores.overall_accuracy)
    return [name, *(f"{value:.3f}" for value in means), f"{seconds:.0f}"]


def draw(chip: Chip, network: Classifier, path: Path) -> None:
    """Draw the dates of a chip, its truth and its map beside each other."""
    series, labels = chip.series(), chip.labels()
    found = predict_chip(network, chip, path.with_name(f"{chip.name}.tif"))
    names = chip.class_names
    palette = [*CLASS_COLOURS[: len(names)], NO_DATA_COLOUR]  # the last is that of -1
    colours = np.array([list(bytes.fromhex(c[1:])) for c in palette], np.uint8)
    figure = Figure(figsize=(13, 3.6), dpi=90, layout="constrained")
    axes = figure.subplots(1, 5)
    low, high = np.array([[300, 300, 300], [5000, 2500, 2000.0]])
    for step in range(3):
        image = np.clip((series[:, :, step, [3, 2, 1]] - low) / (high - low), 0, 1)
        axes[step].imshow(np.nan_to_num(image, nan=0.35), interpolation="nearest")
        axes[step].set_title(f"Date {step + 1}: NIR, red, green")
    for place, (title, numbers) in enumerate((("Truth", labels), ("Network", found)), start=3):
        axes[place].imshow(colours[numbers], interpolation="nearest")
        axes[place].set_title(title)
    for each in axes:
        each.set(xticks=[], yticks=[])
    shown = [*np.unique(np.concatenate([labels[labels >= 0], found[found >= 0]])).tolist(), -1]
    handles = [
        Patch(fc=colours[n] / 255, ec="0.5", label=names[n] if n >= 0 else "no data") for n in shown
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=7, frameon=False)
    figure.savefig(path, metadata={"Software": None})


if __name__ == "__main__":
    main()
