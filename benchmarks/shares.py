"""How near the shares that few labels tell come to the true ones, in countries held out.

Of every fold of `timl benchmark --data DATA --out RESULTS --rows strong`, up to --most tasks:
fine-tune on 25 + 25 labels with the fold's deep kernel, and compare on the test samples, which are
apart in space: counting above 0.5, counting above the threshold of the greatest cross-validated
balanced accuracy, and the share estimated from logits, as they are and calibrated by
cross-validation.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import timl
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve
from timl.evaluation.few_shot import FewShotTask, few_shot_folds
from timl.evaluation.prediction import logits
from timl.evaluation.prevalence import at_prevalence, estimate_prevalence, given_prevalence
from timl.nn import DeepKernel

PER_CLASS = 25
EDGE = 1e-3
"""Shares are at least so far from 0 and 1 where probabilities are computed."""


def measure(kernel: DeepKernel, task: FewShotTask) -> dict[str, float]:
    """Return errors of shares, Brier scores and balanced accuracies of one task."""
    part = task.with_labels(PER_CLASS)
    found = timl.cross_validate(kernel, part, seed=0)
    classifier = timl.finetune(kernel, part, seed=0)
    y = task.test.y
    raw = at_prevalence(logits(classifier, task.test.x), 0.5, given_prevalence(classifier))
    calibrated = found.calibrate().apply(raw)
    right_less_wrong = roc_curve(found.labels, found.logits)
    cut = float(right_less_wrong[2][np.argmax(right_less_wrong[1] - right_less_wrong[0])])
    chosen = float(np.log(p := found.choose_threshold()) - np.log1p(-p))
    true = float(y.mean())
    shares = {
        "counted": float((raw > 0).mean()),
        "estimated": estimate_prevalence(raw),
        "estimated, calibrated": estimate_prevalence(calibrated),
    }

    def brier(z: np.ndarray, share: float) -> float:
        p = 1 / (1 + np.exp(-at_prevalence(z, float(np.clip(share, EDGE, 1 - EDGE)))))
        return float(np.mean((p - y) ** 2))

    return {
        "cross-validated AUC": roc_auc_score(found.labels, found.logits),
        **{f"error: {name}": abs(share - true) for name, share in shares.items()},
        "Brier at 0.5": brier(raw, 0.5),
        "Brier at the true share": brier(raw, true),
        "Brier at the true share, calibrated": brier(calibrated, true),
        "Brier at the estimated share": brier(raw, shares["estimated"]),
        "Brier at the estimated share, calibrated": brier(
            calibrated, shares["estimated, calibrated"]
        ),
        "balanced accuracy at 0.5": balanced_accuracy_score(y, raw > 0),
        "balanced accuracy at the greatest": balanced_accuracy_score(y, raw >= cut),
        "balanced accuracy as chosen": balanced_accuracy_score(y, raw > chosen),
    }


def main() -> None:
    """Measure the tasks and print means and medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--most", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    rows = {}
    for fold in few_shot_folds(timl.CropHarvest(options.data), seed=0, held_out="country"):
        kernel = DeepKernel.from_pretrained(options.results / f"strong-{fold.number}")
        order = np.random.default_rng(fold.number).permutation(len(fold.tasks))
        tasks = (fold.draw(int(i)) for i in order)
        enough = [t for t in tasks if min(len(t.positives), len(t.negatives)) >= PER_CLASS]
        for task in enough[: options.most]:
            rows[task.task.id] = measure(kernel, task)
            print(task.task.id, file=sys.stderr, flush=True)
    table = pd.DataFrame.from_dict(rows, orient="index")
    good = table["cross-validated AUC"] >= 0.9
    for name, part in (("all", table), ("AUC >= 0.9", table[good]), ("below", table[~good])):
        print(f"\n{name}: {len(part)} tasks")
        print(pd.DataFrame({"mean": part.mean(), "median": part.median()}).round(3).to_string())
    nearer = table["error: estimated"] < table["error: counted"]
    print(f"\nthe estimated share is nearer in {int(nearer.sum())} of {len(table)}")


if __name__ == "__main__":
    main()
