"""What meta-training tasks share with the evaluation tasks: samples, labels and places."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from timl.data.regions.sphere import chord_to_km, on_unit_sphere
from timl.data.tasks.labelled_data import BenchmarkTask
from timl.data.tasks.task import has_label
from timl.data.tasks.task_set import TaskSet

if TYPE_CHECKING:
    import pandas as pd


def overlap_report(
    tasks: TaskSet, benchmarks: Iterable[BenchmarkTask] | None = None, radius_km: float = 10.0
) -> pd.DataFrame:
    """Report what training tasks share with evaluation tasks that were withheld.

    Withholding a task takes its pair of region and label out of meta-training, not its samples:
    they may be in other tasks, of the same region or of one that overlaps it.

    The table has one row per benchmark and task, sorted by benchmark and distance. The benchmark's
    own training samples come first, as a task of its region and label, for comparison. Columns:

    - benchmark, region, label: benchmark and task that are compared;
    - same_region, same_label: whether the task's region is the benchmark's (or of its country), and
      its label the benchmark's;
    - shared: number of the task's samples that the benchmark is fine-tuned on;
    - target: number of the task's samples, positive or negative, that carry the benchmark's label
      (for crop versus non-crop: are crops) and lie in its region;
    - test_rows: number of them that are marked as test, which none should be;
    - nearest_km: least distance of one of them to a test sample, NaN without a test set;
    - near: number of them within ``radius_km`` of a test sample.

    Parameters
    ----------
    tasks
        Tasks to train on.
    benchmarks
        Evaluation tasks; by default all of the tasks' data set.
    radius_km
        Greatest distance that counts as near a test sample. Tasks that share nothing and have no
        sample so near are left out.

    Raises
    ------
    ValueError
        If a benchmark is of another data set than the tasks, or radius_km is not positive.
    """
    import pandas as pd

    if not radius_km > 0:
        raise ValueError(f"radius_km is {radius_km}: give a positive number of kilometres")
    data = tasks.data
    labels = data.labels[data.labels["position"] >= 0]
    rows = np.zeros(int(labels["position"].max()) + 1, np.int64)  # of each position
    rows[labels["position"]] = np.arange(len(labels))
    points = on_unit_sphere(labels["lat"].to_numpy(), labels["lon"].to_numpy())
    is_test = (labels["is_test"] == 1).to_numpy()
    samples = [
        rows[np.unique(np.concatenate(pair))]
        for pair in zip(tasks.positives, tasks.negatives, strict=True)
    ]
    found = []
    for benchmark in data.benchmarks if benchmarks is None else benchmarks:
        if benchmark.data.labels is not data.labels:
            raise ValueError(
                f"benchmark {benchmark.name!r} is of {benchmark.data!r}: give benchmarks of the "
                f"tasks' data set, {data!r}"
            )
        task = benchmark.task
        own = rows[np.unique(np.concatenate([benchmark.positives, benchmark.negatives]))]
        distance = _nearest_km(benchmark, points)
        target = has_label(labels, task.target_label) & task.bounding_box.contains(
            labels["lat"].to_numpy(), labels["lon"].to_numpy()
        )
        pairs = [(task, own), *zip(tasks, samples, strict=True)]
        for other, chosen in pairs:
            same_region = benchmark.withholds(other.bounding_box, task.target_label)
            shared = 0 if chosen is own else int(np.isin(chosen, own).sum())
            near = int((distance[chosen] <= radius_km).sum())
            if not (same_region or shared or near):
                continue
            found.append(
                {
                    "benchmark": benchmark.name,
                    "region": other.bounding_box.name,
                    "label": other.target_label,
                    "same_region": same_region,
                    "same_label": other.target_label == task.target_label,
                    "shared": shared,
                    "target": int(target[chosen].sum()),
                    "test_rows": int(is_test[chosen].sum()),
                    "nearest_km": float(distance[chosen].min(initial=np.inf)),
                    "near": near,
                    "own": chosen is own,
                }
            )
    columns = [
        "benchmark",
        "region",
        "label",
        "same_region",
        "same_label",
        "shared",
        "target",
        "test_rows",
        "nearest_km",
        "near",
    ]
    report = pd.DataFrame(found, columns=[*columns, "own"]).replace(
        {"nearest_km": {np.inf: np.nan}}
    )
    order = ["benchmark", "own", "nearest_km", "region", "label"]
    report = report.sort_values(order, ascending=[True, False, True, True, True], kind="stable")
    return report[columns].reset_index(drop=True)


def _nearest_km(benchmark: BenchmarkTask, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each point's distance to the nearest test sample, km [n]; inf without a test set."""
    from scipy.spatial import KDTree

    try:
        test = benchmark.test
    except FileNotFoundError:
        return np.full(len(points), np.inf)
    chords, _ = KDTree(np.unique(on_unit_sphere(test.lats, test.lons), axis=0)).query(points)
    return chord_to_km(chords)
