"""The data set: labels, series, benchmarks and test sets of a folder in CropHarvest's layout."""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch  # noqa: F401  # before the core, which finds PyTorch's libraries loaded
from numpy.typing import ArrayLike, NDArray

from timl import _core
from timl.bands import SERIES_SHAPE
from timl.data.download.record import PAPER_RECORD
from timl.data.download.record import download as download_record
from timl.data.record.calendar import start_months
from timl.data.record.names import BENCHMARKS, LABELS, REGIONS
from timl.data.record.store import Store, open_store
from timl.data.regions.boxes import BBox
from timl.data.regions.reading import read_regions
from timl.data.tasks.benchmark_file import SHIPPED_BENCHMARKS, Benchmark, read_benchmarks
from timl.data.tasks.labelled_data import BenchmarkTask
from timl.data.tasks.task_set import TaskSet, meta_tasks
from timl.data.tasks.test_instance import TestInstance

if TYPE_CHECKING:
    import pandas as pd


class CropHarvest:
    """A data set in the layout of CropHarvest's Zenodo record: a `LabelledData`.

    The series are packed once into one array that is mapped into memory, see `open_store`. The
    cropharvest package's class of this name holds the samples of one task: see `TaskSamples`.

    Parameters
    ----------
    root
        Folder with labels.geojson, features.tar.gz (or the folder features) and, for benchmarks,
        test_features.tar.gz (or the folder test_features).
    cache
        Folder that holds the packed series. By default ``root/.timl``, or the user's cache folder
        if ``root`` is read-only.
    benchmarks
        Benchmark file (see `read_benchmarks`). By default benchmark.json in ``root``; without one
        those of CropHarvest's record (Kenya maize, Brazil coffee, Togo crop, China crop) that have
        a test file or positive training samples here.
    download
        Download the record first if it is not in ``root`` yet, see `timl.data.download.record`.
    record
        Number of the Zenodo record to download.
    salvage
        Pack what can be read of a damaged archive, instead of raising.

    Attributes
    ----------
    root
        As given.
    labels
        One row per sample of labels.geojson with its properties, and ``position``, that of its
        series, -1 if it has none.
    mean, std : float64 arrays of shape [18]
        Normalising statistics of the bands.
    ndvi
        NDVI that the series carry: "record", "true" or "unknown", see `NdviMeter`.
    start_months
        Calendar months, 1 to 12, in which the series start; None where no label has a date.
    benchmarks
        Evaluation tasks.

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
            raise FileNotFoundError(f"root is {self.root}, which is not a folder: give one")
        if not (self.root / LABELS).is_file():
            raise FileNotFoundError(
                f"root is {self.root}, which has no {LABELS}: give the folder of CropHarvest's "
                "files, or download=True"
            )
        store = open_store(self.root, None if cache is None else Path(cache), salvage=salvage)
        self._fill(store.labels(), store, self.root)
        path = self.root / BENCHMARKS if benchmarks is None else Path(benchmarks)
        if benchmarks is not None or path.is_file():
            self.benchmarks = [BenchmarkTask(self, *entry) for entry in read_benchmarks(path)]
        else:
            self.benchmarks = self._applicable(read_benchmarks(SHIPPED_BENCHMARKS))

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
        labels
            Table with the columns of labels.geojson: dataset, index, lat, lon, label,
            classification_label, is_crop and is_test. The rows without is_test are those of the
            series, in their order.
        series : float32 array of shape [n, 12, 18]
            Series as measured, not normalised.
        mean, std : float64 arrays of shape [18]
            Normalising statistics.
        ndvi
            NDVI that the series carry: "record", "true" or "unknown".
        tests
            Test sets, as measured, by name.
        root
            Origin of the series, for messages only.

        Raises
        ------
        ValueError
            If shapes do not fit.
        """
        rows = labels[(labels["is_test"] == 0).to_numpy()]
        if series.shape != (len(rows), *SERIES_SHAPE):
            raise ValueError(
                f"series has shape {list(series.shape)}: give {[len(rows), *SERIES_SHAPE]} for "
                f"{len(rows)} training labels"
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
            None,
        )
        self.benchmarks = []
        return self

    def _fill(self, labels: pd.DataFrame, store: Store, files: Path | None) -> None:
        """Keep what the files hold; ``files`` is their folder, None for series in memory."""
        self._store, self._files = store, files
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

    def __len__(self) -> int:
        """Return the number of training series."""
        return len(self._store.series)

    def __repr__(self) -> str:
        return (
            f"CropHarvest({str(self.root)!r}: {len(self.labels)} labels, "
            f"{len(self)} training series, {len(self.benchmarks)} benchmarks, "
            f"NDVI {self.ndvi})"
        )

    def _repr_html_(self) -> str:
        counts = self.labels.groupby("dataset").agg(
            labels=("index", "size"),
            series=("position", lambda positions: int((positions >= 0).sum())),
            crops=("is_crop", lambda is_crop: int((is_crop == 1).sum())),
            test=("is_test", lambda is_test: int((is_test == 1).sum())),
        )
        return f"<p>{html.escape(repr(self))}</p>{counts.to_html()}"

    @cached_property
    def checksum(self) -> str:
        """SHA-256 sum of labels, series, statistics and test sets, in hexadecimal digits."""
        table = (
            self.labels.to_csv().encode()
            if self._files is None
            else (self._files / LABELS).read_bytes()
        )
        digest = hashlib.sha256(table)
        store = self._store
        digest.update(json.dumps([store.tests, list(store.dataset)]).encode())
        arrays = [store.index, store.series, store.mean, store.std, *store.test.values()]
        for array in arrays:
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    @cached_property
    def start_months(self) -> list[int] | None:
        """Calendar months in which the series start, see `start_months`; None where unknown."""
        return start_months(self.labels)

    @property
    def regions(self) -> list[BBox] | None:
        """Regions of regions.json in ``root``; None if there is no such file."""
        path = None if self._files is None else self._files / REGIONS
        return read_regions(path) if path is not None and path.is_file() else None

    @property
    def report(self) -> pd.DataFrame:
        """Table of the files left out when packing, and series without a label: file, reason."""
        import pandas as pd

        unlabelled = np.setdiff1d(np.arange(len(self)), self.labels["position"])
        rows = [
            *self._store.skipped,
            *(
                (f"{self._store.index[i]}_{self._store.dataset[i]}.h5", f"no row in {LABELS}")
                for i in unlabelled
            ),
        ]
        return pd.DataFrame(rows, columns=["file", "reason"])

    def series(self, positions: ArrayLike, normalize: bool = True) -> NDArray[np.float32]:
        """Return training series by their positions.

        Parameters
        ----------
        positions : integer array of any shape
            Values of ``labels["position"]``: each from 0 to ``len(data) - 1``.
        normalize
            Return (x - mean) / std instead of x; computed in float64, then rounded.

        Returns
        -------
        float32 array of shape [*positions.shape, 12, 18]

        Raises
        ------
        TypeError
            If positions are no integers.
        IndexError
            If a position is out of range; -1 marks a label without a series.
        """
        index, size = np.asarray(positions), len(self)
        if not np.issubdtype(index.dtype, np.integer):
            raise TypeError(f"positions is an array of {index.dtype}: give integers")
        if index.size and (index.min() < 0 or index.max() >= size):
            raise IndexError(
                f"positions is from {index.min()} to {index.max()}: give integers in [0, {size})"
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
        """Return the labels as a GeoDataFrame of points; needs the extra ``timl[geo]``."""
        from timl.data.regions.geometries import points_frame

        return points_frame(self.labels)

    def benchmark(self, name: str) -> BenchmarkTask:
        """Return one evaluation task by its name; case, spaces, "-" and "_" are ignored.

        Raises
        ------
        ValueError
            If there is none of that name.
        """
        for benchmark in self.benchmarks:
            if _plain(benchmark.name) == _plain(name):
                return benchmark
        known = ", ".join(benchmark.name for benchmark in self.benchmarks) or "none"
        raise ValueError(f"name is {name!r}, no benchmark of {self.root}: give one of {known}")

    def test_files(self, identifier: str) -> list[str]:
        """Return the names, without extension, of the test files that an identifier means.

        Parameters
        ----------
        identifier
            Name of a test file, or what the names of several begin with: CropHarvest's
            "Kenya_maize" means "Kenya_maize_2020_0_0" and others.
        """
        if identifier in self._store.tests:
            return [identifier]
        return sorted(name for name in self._store.tests if name.startswith(identifier))

    def test_instance(self, identifier: str, normalize: bool = True) -> TestInstance:
        """Return the test set of an identifier (see `test_files`): its files one after another.

        Raises
        ------
        FileNotFoundError
            If there is no readable test file of that name.
        """
        names = self.test_files(identifier)
        if not names:
            known = ", ".join(self._store.tests) or "none"
            raise FileNotFoundError(
                f"identifier is {identifier!r}, and {self.root} has no readable test file of this "
                f"name or whose name begins so: give one of {known}"
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
    """Return labels with the position of each one's series; ``rows`` are those of the series."""
    import pandas as pd

    keys = ["dataset", "index"]
    stored, wanted = (pd.MultiIndex.from_frame(table[keys]) for table in (rows, labels))
    return labels.assign(position=stored.get_indexer(wanted).astype(np.int64))
