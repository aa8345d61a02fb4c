"""Writing the record's archives: HDF5 files in tar.gz, fast and with the same bytes every time."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timl.bands import SERIES_SHAPE

_LEVEL = 1
"""Level of gzip's compression: it bounds the speed, and higher levels gain little."""


class SeriesFiles:
    """Maker of HDF5 files of one series (dataset ``array``, float64 [12, 18]) from a template.

    All such files have the same bytes but for the numbers, which lie in one piece. h5py takes
    0.3 ms to make one; putting the numbers between the template's two ends takes 3 microseconds.
    """

    def __init__(self) -> None:
        from h5py import File

        pattern = np.arange(np.prod(SERIES_SHAPE), dtype="<f8").reshape(SERIES_SHAPE) + 0.5
        template = hdf5(array=pattern)
        with File(io.BytesIO(template), "r") as file:
            start = file["array"].id.get_offset()
        stop = start + pattern.nbytes
        if template[start:stop] != pattern.tobytes():
            raise RuntimeError("h5py does not store a small array in one piece here")
        self._head, self._tail = template[:start], template[stop:]

    def __call__(self, series: NDArray[np.float64]) -> bytes:
        """Return the contents of the file of one series [12, 18]."""
        return self._head + series.astype("<f8", copy=False).tobytes() + self._tail


def hdf5(**datasets: NDArray[Any]) -> bytes:
    """Return the contents of an HDF5 file with these datasets."""
    from h5py import File

    buffer = io.BytesIO()
    with File(buffer, "w") as file:
        for name, values in datasets.items():
            file.create_dataset(name, data=values, track_times=False)
    return buffer.getvalue()


def members(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a tar archive's entries for files of given names and contents; no times or owners."""
    parts = []
    for name, contents in files:
        parts.append(_header(name, len(contents)))
        parts.append(contents)
        parts.append(bytes(-len(contents) % tarfile.BLOCKSIZE))
    return b"".join(parts)


def folders(names: Sequence[str]) -> bytes:
    """Return the entries of a tar archive for folders."""
    return b"".join(_header(name, 0, tarfile.DIRTYPE, 0o755) for name in names)


def _header(name: str, size: int, kind: bytes = tarfile.REGTYPE, mode: int = 0o644) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.type, entry.mode = size, kind, mode
    return entry.tobuf(tarfile.USTAR_FORMAT)


END = bytes(2 * tarfile.BLOCKSIZE)
"""End of a tar archive."""


def compress(data: bytes) -> bytes:
    """Return one gzip member, without time or name; a file's members stand one after another."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()
