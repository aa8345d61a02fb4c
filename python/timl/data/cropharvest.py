"""The data set: labels, series, benchmarks and test sets of a folder in CropHarvest's layout."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from timl import _core
from timl.bands import SERIES_SHAPE
from timl.data.cropharvest_interface import Familiar
from timl.data.download.record import PAPER_RECORD
from timl.data.download.record import download as download_record
from timl.data.record.names import BENCHMARKS, LABELS
from timl.data.record.store import Store, open_store
from timl.data.regions.boxes import BBox
from timl.data.tasks.benchmarks import (
    SHIPPED_BENCHMARKS,
    Benchmark,
    BenchmarkTask,
    TestInstance,
    read_benchmarks,
)
from timl.data.tasks.task import Task
from timl.data.tasks.task_set import TaskSet, meta_tasks

if TYPE_CHECKING:
    import pandas as pd


class CropHarvest(Familiar):
    """A data set in the layout of CropHarvest's Zenodo record.

    The series are packed once into one array that is mapped into memory, see `open_store`.

    With a task it also has the interface of the cropharvest package's class: `as_array`, `sample`,
    `test_data` and more, all of the samples of that task.

    Parameters
    ----------
    root : str or Path
        The folder with labels.geojson, features.tar.gz (or the folder features) and, for
        benchmarks, test_features.tar.gz (or the folder test_features).
    task : Task, optional
        The task whose samples the methods known from the cropharvest package give; by default, as
        there, crop versus non-crop on the whole globe.
    cache : str or Path, optional
        The folder that holds the packed series. By default ``root/.timl``, or the user's cache
        folder if ``root`` is read-only.
    benchmarks : str or Path, optional
        A benchmark file (see `read_benchmarks`). By default benchmark.json in ``root``; without
        one those of CropHarvest's record (Kenya maize, Brazil coffee, Togo crop, China crop) that
        have a test file or positive training samples here.
    download : bool
        Download the record first if it is not in ``root`` yet, see `timl.data.download.record`.
    record : int
        Number of the Zenodo record to download.
    salvage : bool
        Pack what can be read of a damaged archive, instead of raising.

    Attributes
    ----------
    labels : DataFrame
        One row per sample of labels.geojson with its properties, and ``position``: where its
        series is, -1 if it has none.
    mean, std : ndarray of float64, shape [18]
        The normalising statistics of the bands.
    ndvi : str
        Which NDVI the series carry: "record", "true" or "unknown", see `NdviMeter`.
    benchmarks : list of BenchmarkTask
        The evaluation tasks.
    task : Task
        As given.

    Raises
    ------
    FileNotFoundError
        If the folder or a file is missing.
    ValueError
        If labels or benchmarks cannot be read, not one series can, or an archive is damaged.
    OSError
        If the store cannot be written; with ``download``, what `timl.data.download.record` raises.
    """

    def __init__(
        self,
        root: str | Path,
        task: Task | None = None,
        *,
        cache: str | Path | None = None,
        benchmarks: str | Path | None = None,
        download: bool = False,
        record: int = PAPER_RECORD,
        salvage: bool = False,
    ) -> None:
        self.root = Path(root)
        if download:
            download_record(self.root, record)
        if not self.root.is_dir():
            raise FileNotFoundError(f"root {self.root} is not a folder")
        if not (self.root / LABELS).is_file():
            raise FileNotFoundError(
                f"{self.root / LABELS} does not exist; give the folder of CropHarvest's files, or "
                "download=True"
            )
        store = open_store(self.root, None if cache is None else Path(cache), salvage=salvage)
        self._fill(store.labels(), store)
        path = self.root / BENCHMARKS if benchmarks is None else Path(benchmarks)
        if benchmarks is not None or path.is_file():
            self.benchmarks = [BenchmarkTask(self, *entry) for entry in read_benchmarks(path)]
        else:
            self.benchmarks = self._applicable(read_benchmarks(SHIPPED_BENCHMARKS))
        self._select(task)

    @classmethod
    def from_series(
        cls,
        labels: pd.DataFrame,
        series: NDArray[np.float32],
        *,
        mean: NDArray[np.float64],
        std: NDArray[np.float64],
        ndvi: str,
        tests: Mapping[str, TestInstance] | None = None,
        root: str | Path = ".",
    ) -> CropHarvest:
        """Make a data set of series in memory instead of files.

        Parameters
        ----------
        labels : DataFrame
            Columns as of labels.geojson: dataset, index, lat, lon, label, classification_label,
            is_crop and is_test. The rows without is_test are those of the series, in their order.
        series : ndarray of float32, shape [n, 12, 18]
            As measured, not normalised.
        mean, std : ndarray of float64, shape [18]
            The normalising statistics.
        ndvi : str
            Which NDVI the series carry: "record", "true" or "unknown".
        tests : mapping of str to TestInstance, optional
            Test sets, as measured, by name.
        root : str or Path
            Where the series come from; for messages only.

        Raises
        ------
        ValueError
            If shapes do not fit.
        """
        rows = labels[(labels["is_test"] == 0).to_numpy()]
        if series.shape != (len(rows), *SERIES_SHAPE):
            raise ValueError(
                f"series has shape {list(series.shape)}; {len(rows)} training labels need "
                f"{[len(rows), *SERIES_SHAPE]}"
            )
        tests = dict(tests or {})
        stops = np.cumsum([0, *(len(test) for test in tests.values())]).tolist()
        empty = TestInstance(
            np.empty((0, *SERIES_SHAPE), np.float32),
            np.empty(0, np.int8),
            np.empty(0),
            np.empty(0),
        )
        self = cls.__new__(cls)
        self.root = Path(root)
        self._fill(
            _with_positions(labels, rows),
            Store(
                folder=self.root,
                series=series,
                dataset=rows["dataset"].to_numpy(str),
                index=rows["index"].to_numpy(np.int64),
                mean=np.asarray(mean, np.float64),
                std=np.asarray(std, np.float64),
                ndvi=ndvi,
                tests={
                    name: (start, stop)
                    for name, start, stop in zip(tests, stops, stops[1:], strict=False)
                },
                test={
                    field: np.concatenate(
                        [getattr(test, field) for test in (empty, *tests.values())]
                    )
                    for field in ("x", "y", "lats", "lons")
                },
                skipped=(),
            ),
        )
        self.benchmarks = []
        self._select(None)
        return self

    def _fill(self, labels: pd.DataFrame, store: Store) -> None:
        self._store = store
        self.mean, self.std, self.ndvi = store.mean, store.std, store.ndvi
        self.labels = labels

    def _applicable(self, described: list[Benchmark]) -> list[BenchmarkTask]:
        """Make those of the record's benchmarks that this data set has anything of."""
        made = (BenchmarkTask(self, *entry) for entry in described)
        return [
            benchmark
            for benchmark in made
            if len(benchmark.positives) or self.test_files(str(benchmark.task.test_identifier))
        ]

    def __repr__(self) -> str:
        return (
            f"CropHarvest({str(self.root)!r}: {len(self.labels)} labels, "
            f"{len(self._store.series)} training series, {len(self.benchmarks)} benchmarks, "
            f"NDVI {self.ndvi})"
        )

    def _repr_html_(self) -> str:
        counts = self.labels.groupby("dataset").agg(
            labels=("index", "size"),
            series=("position", lambda positions: int((positions >= 0).sum())),
            crops=("is_crop", lambda is_crop: int((is_crop == 1).sum())),
            test=("is_test", lambda is_test: int((is_test == 1).sum())),
        )
        return f"<p>{self!r}</p>{counts.to_html()}"

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of labels, series, statistics and test sets, in hexadecimal digits."""
        digest = hashlib.sha256((self.root / LABELS).read_bytes())
        store = self._store
        digest.update(json.dumps([store.tests, list(store.dataset)]).encode())
        arrays = [store.index, store.series, store.mean, store.std, *store.test.values()]
        for array in arrays:
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    @property
    def report(self) -> pd.DataFrame:
        """The files that were left out when packing, and series without a label: file, reason."""
        import pandas as pd

        unlabelled = np.setdiff1d(np.arange(len(self._store.series)), self.labels["position"])
        rows = [
            *self._store.skipped,
            *(
                (f"{self._store.index[i]}_{self._store.dataset[i]}.h5", f"no row in {LABELS}")
                for i in unlabelled
            ),
        ]
        return pd.DataFrame(rows, columns=["file", "reason"])

    def series(self, positions: ArrayLike, normalize: bool = True) -> NDArray[np.float32]:
        """Give training series by their positions.

        Parameters
        ----------
        positions : array of int, any shape
            Values of ``labels["position"]``: each from 0 to the number of series - 1.
        normalize : bool
            Give (x - mean) / std instead of x; computed in float64, then rounded.

        Returns
        -------
        ndarray of float32, shape [*positions.shape, 12, 18]

        Raises
        ------
        TypeError
            If positions are no integers.
        IndexError
            If a position is out of range; -1 marks a label without a series.
        """
        index, size = np.asarray(positions), len(self._store.series)
        if not np.issubdtype(index.dtype, np.integer):
            raise TypeError(f"positions must be integers, got {index.dtype}")
        if index.size and (index.min() < 0 or index.max() >= size):
            raise IndexError(
                f"positions must be in [0, {size}), got {index.min()} to {index.max()}"
            )
        stored = self._store.series
        if not normalize:
            plain: NDArray[np.float32] = stored[index]
            return plain
        series = _core.normalised_series(stored, index.reshape(-1), self.mean, self.std)
        return series.reshape(*index.shape, *stored.shape[1:])

    def tasks(self, regions: str | Path | Sequence[BBox] | None = None, **options: Any) -> TaskSet:
        """Make the tasks to meta-train on: `timl.meta_tasks` of this data set."""
        return meta_tasks(self, regions, **options)

    def to_geopandas(self) -> Any:
        """Give the labels as a GeoDataFrame of points; needs the extra ``timl[geo]``."""
        from timl.data.regions.geometries import points_frame

        return points_frame(self.labels)

    def benchmark(self, name: str) -> BenchmarkTask:
        """Give one evaluation task by its name; case, spaces, "-" and "_" do not matter.

        Raises
        ------
        ValueError
            If there is none of that name.
        """
        for benchmark in self.benchmarks:
            if _plain(benchmark.name) == _plain(name):
                return benchmark
        known = ", ".join(benchmark.name for benchmark in self.benchmarks) or "none"
        raise ValueError(f"no benchmark {name!r} in {self.root}; there are: {known}")

    def test_files(self, identifier: str) -> list[str]:
        """Give the names, without extension, of the test files that an identifier means.

        Parameters
        ----------
        identifier : str
            A test file's name, or what the names of several begin with: CropHarvest's
            "Kenya_maize" means "Kenya_maize_2020_0_0" and others.
        """
        if identifier in self._store.tests:
            return [identifier]
        return sorted(name for name in self._store.tests if name.startswith(identifier))

    def test_instance(self, identifier: str, normalize: bool = True) -> TestInstance:
        """Give the test set of an identifier (see `test_files`): its files one after another.

        Raises
        ------
        FileNotFoundError
            If there is no readable test file of that name.
        """
        names = self.test_files(identifier)
        if not names:
            known = ", ".join(self._store.tests) or "none"
            raise FileNotFoundError(
                f"{self.root} has no readable test file {identifier}.h5, and none whose name "
                f"begins so; there are: {known}"
            )
        spans = [slice(*self._store.tests[name]) for name in names]
        x, y, lats, lons = (
            np.concatenate([self._store.test[field][span] for span in spans])
            for field in ("x", "y", "lats", "lons")
        )
        return TestInstance(self._normalized(x, normalize), y, lats, lons)

    def _normalized(self, x: NDArray[np.float32], normalize: bool) -> NDArray[np.float32]:
        return ((x - self.mean) / self.std).astype(np.float32) if normalize else x


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _with_positions(labels: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Add to labels where each one's series is, given the rows of the series in their order."""
    import pandas as pd

    keys = ["dataset", "index"]
    stored, wanted = (pd.MultiIndex.from_frame(table[keys]) for table in (rows, labels))
    return labels.assign(position=stored.get_indexer(wanted).astype(np.int64))
