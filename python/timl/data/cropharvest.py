"""The data set: labels, series, benchmarks and test sets of a folder in CropHarvest's layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from timl.data.benchmarks import BenchmarkTask, TestInstance, read_benchmarks
from timl.data.download import PAPER_RECORD
from timl.data.download import download as download_record
from timl.data.layout import BENCHMARKS, LABELS
from timl.data.store import open_store

if TYPE_CHECKING:
    import pandas as pd


class CropHarvest:
    """A data set in the layout of CropHarvest's Zenodo record.

    The series are packed once into one array that is mapped into memory, see `open_store`.

    Parameters
    ----------
    root : str or Path
        The folder with labels.geojson, features.tar.gz (or the folder features) and, for
        benchmarks, test_features.tar.gz (or the folder test_features).
    cache : str or Path, optional
        The folder that holds the packed series. By default ``root/.timl``, or the user's cache
        folder if ``root`` is read-only.
    benchmarks : str or Path, optional
        A benchmark file (see `read_benchmarks`). By default benchmark.json in ``root``; without
        one the data set has no benchmarks.

    download : bool
        Download the record first if it is not in ``root`` yet, see `timl.data.download`.
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
        Which NDVI the series carry: "record", "true" or "unknown", see `measure_ndvi`.
    benchmarks : list of BenchmarkTask
        The evaluation tasks.

    Raises
    ------
    FileNotFoundError
        If the folder or a file is missing.
    ValueError
        If labels or benchmarks cannot be read, not one series can, or an archive is damaged.
    OSError
        If the store cannot be written; what `timl.data.download` raises.
    """

    def __init__(
        self,
        root: str | Path,
        cache: str | Path | None = None,
        benchmarks: str | Path | None = None,
        *,
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
        self._store = open_store(self.root, None if cache is None else Path(cache), salvage=salvage)
        self.mean, self.std, self.ndvi = self._store.mean, self._store.std, self._store.ndvi
        self.labels = self._store.labels()
        path = self.root / BENCHMARKS if benchmarks is None else Path(benchmarks)
        described = read_benchmarks(path) if benchmarks is not None or path.is_file() else []
        self.benchmarks = [BenchmarkTask(self, name, task) for name, task in described]

    def __len__(self) -> int:
        return len(self._store.series)

    def __repr__(self) -> str:
        return (
            f"CropHarvest({str(self.root)!r}: {len(self.labels)} labels, {len(self)} training "
            f"series, {len(self.benchmarks)} benchmarks, NDVI {self.ndvi})"
        )

    def _repr_html_(self) -> str:
        counts = self.labels.groupby("dataset").agg(
            labels=("index", "size"),
            series=("position", lambda positions: int((positions >= 0).sum())),
            crops=("is_crop", lambda is_crop: int((is_crop == 1).sum())),
            test=("is_test", lambda is_test: int((is_test == 1).sum())),
        )
        return f"<p>{self!r}</p>{counts.to_html()}"

    @property
    def report(self) -> pd.DataFrame:
        """The files that were left out when packing, and series without a label: file, reason."""
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
        """Give training series by their positions.

        Parameters
        ----------
        positions : array of int, any shape
            Values of ``labels["position"]``, each in [0, len(self)).
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
        index = np.asarray(positions)
        if not np.issubdtype(index.dtype, np.integer):
            raise TypeError(f"positions must be integers, got {index.dtype}")
        if index.size and (index.min() < 0 or index.max() >= len(self)):
            raise IndexError(
                f"positions must be in [0, {len(self)}), got {index.min()} to {index.max()}"
            )
        return self._normalized(self._store.series[index], normalize)

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

    def test_instance(self, name: str, normalize: bool = True) -> TestInstance:
        """Give one test set by the name of its file, without the extension.

        Raises
        ------
        FileNotFoundError
            If there is no readable test file of that name.
        """
        if name not in self._store.tests:
            known = ", ".join(self._store.tests) or "none"
            raise FileNotFoundError(
                f"{self.root} has no readable test file {name}.h5; there are: {known}"
            )
        rows = slice(*self._store.tests[name])
        test = self._store.test
        x = self._normalized(np.array(test["x"][rows]), normalize)
        return TestInstance(x, *(test[field][rows].copy() for field in ("y", "lats", "lons")))

    def _normalized(self, x: NDArray[np.float32], normalize: bool) -> NDArray[np.float32]:
        return ((x - self.mean) / self.std).astype(np.float32) if normalize else x


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
