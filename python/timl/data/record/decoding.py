"""Decoding the record's HDF5 files from memory, without trusting what they say of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from timl.bands import BANDS, SERIES_SHAPE
from timl.data.record.templates import Template, make_template

if TYPE_CHECKING:
    from h5py import h5f

_LARGEST_DATASET = 2**31
"""Largest size of a dataset, bytes as float64."""

_MOST_TEMPLATES = 16
"""Most templates: trying more on each file would cost what they save."""


class SeriesDecoder:
    """Decoder of training files; it learns from the first ones how to read the rest fast."""

    def __init__(self) -> None:
        self._templates: list[Template] = []
        self._chances = _MOST_TEMPLATES

    def decode(self, contents: bytes) -> NDArray[np.float32]:
        """Decode one training file: dataset ``array``, [12, 18].

        Raises
        ------
        ValueError
            If the file is damaged, has another shape, or holds NaN or infinite values.
        """
        for template in self._templates:
            values = template.read(contents)
            if values is not None:
                return _finite_series(values, "array")
        with _opened(contents) as file:
            values = _read(file, "array", SERIES_SHAPE)
            if self._chances > 0:
                self._learn(contents, values)
        return _finite_series(values, "array")

    def _learn(self, contents: bytes, values: NDArray[np.float64]) -> None:
        self._chances -= 1
        template = make_template(contents, "array")
        # A template is used only where it reads, bit for bit, what the library has read.
        if template is not None:
            read = template.read(contents)
            if read is not None and read.tobytes() == values.tobytes():
                self._templates.append(template)


def decode_test(contents: bytes) -> dict[str, NDArray[Any]]:
    """Decode one test file: ``x`` [n, 12, 18], ``y``, ``lats`` and ``lons`` [n].

    x is float32, y int8 (1, 0, or -1 for no label), lats and lons are float64.

    Raises
    ------
    ValueError
        If the file is damaged, shapes do not fit, y has other values, or x, lats or lons are not
        finite.
    """
    with _opened(contents) as file:
        x = _finite_series(_read(file, "x", (None, *SERIES_SHAPE)), "x")
        flat = {name: _read(file, name, (len(x),)) for name in ("y", "lats", "lons")}
    if not np.isin(flat["y"], (-1, 0, 1)).all():
        raise ValueError("y holds values other than 1, 0 and -1")
    if not (np.isfinite(flat["lats"]).all() and np.isfinite(flat["lons"]).all()):
        raise ValueError("lats or lons hold NaN or infinite values")
    return {"x": x, **flat, "y": flat["y"].astype(np.int8)}


def decode_statistics(contents: bytes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Decode the normalising statistics: datasets ``mean`` and ``std``, [18].

    Raises
    ------
    ValueError
        If the file is damaged, shapes do not fit, or a number is not finite or a std not positive.
    """
    with _opened(contents) as file:
        mean, std = (_read(file, name, (len(BANDS),)) for name in ("mean", "std"))
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise ValueError("mean or std hold NaN or infinite values, or a std is not positive")
    return mean, std


class _opened:  # noqa: N801
    """An HDF5 file in memory; every failure inside becomes a ValueError that says why.

    The low-level interface: a third of the time of ``h5py.File(io.BytesIO(contents))``.
    """

    def __init__(self, contents: bytes) -> None:
        self.contents = contents

    def __enter__(self) -> h5f.FileID:
        from h5py import h5f

        try:
            self.file = h5f.open_file_image(self.contents)
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(f"not a readable HDF5 file: {error}") from error
        return self.file

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: Any) -> None:
        self.file.close()
        if kind is not None and not issubclass(kind, ValueError) and issubclass(kind, Exception):
            raise ValueError(f"not a readable HDF5 file: {error}") from error


def _read(file: h5f.FileID, name: str, shape: tuple[int | None, ...]) -> NDArray[np.float64]:
    """Read a dataset as float64; None in ``shape`` is any size but 0."""
    from h5py import h5d, h5g, h5l, h5s

    key = name.encode()
    group = h5g.open(file, b"/")
    links = group.links
    # A link or a layout that points elsewhere could make HDF5 read other files of this machine.
    if not links.exists(key) or links.get_info(key).type != h5l.TYPE_HARD:
        raise ValueError(f"has no dataset {name!r}")
    dataset = h5d.open(file, key)
    layout = dataset.get_create_plist()
    if layout.get_layout() == h5d.VIRTUAL or layout.get_external_count() > 0:
        raise ValueError(f"{name} is stored outside the file")
    if dataset.shape is None:
        raise ValueError(f"{name} has no shape")
    fits = len(dataset.shape) == len(shape) and all(
        size > 0 if wanted is None else size == wanted
        for size, wanted in zip(dataset.shape, shape, strict=True)
    )
    if not fits or np.prod(dataset.shape, dtype=np.float64) * 8 > _LARGEST_DATASET:
        wanted_shape = ["n" if size is None else size for size in shape]
        raise ValueError(f"{name} has shape {list(dataset.shape)}, not {wanted_shape}")
    values = np.empty(dataset.shape, np.float64)
    dataset.read(h5s.ALL, h5s.ALL, values)
    return values


def _finite_series(values: NDArray[np.float64], name: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        series = values.astype(np.float32)
    if not np.isfinite(series).all():
        raise ValueError(f"{name} holds NaN or infinite values")
    return series
