"""A fast way to read HDF5 files that differ only in their numbers and attributes.

The HDF5 library takes some 100 microseconds to open a file, find one dataset and read it; over
the record's 65,000 files that is most of the time of packing. But those files come from one
program: apart from the numbers and the attributes they hold the same bytes. A `Template` is one
such file, read by the library, with a list of those bytes. Where another file has every one of
them, the library would find the same dataset of the same type at the same place in it, so its
numbers are taken from there directly. For any other file there is no answer, and the library
reads it.

Where attributes lie is parsed after the HDF5 File Format Specification, version 2.0 and 3.0:
superblock version 0 (III.A), version 1 B-trees (III.A.1), symbol table nodes (III.B), local heaps
(III.D), global heaps (III.E) and object headers of version 1 (IV.A.1.a). Everything that the
library follows to the dataset must lie outside the bytes that may differ.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_SUPERBLOCK = 96
_ATTRIBUTE, _CONTINUATION, _SYMBOL_TABLE, _MODIFIED = 0x0C, 0x10, 0x11, 0x12
_KNOWN_MESSAGES = range(0x19)
_MOST_MESSAGES = 1000

Extent = tuple[int, int]
"""Start and stop, in bytes."""


@dataclass(frozen=True)
class Template:
    """The bytes that fix where a dataset of little-endian float64 lies, and where that is.

    Parameters
    ----------
    size
        Size of the file in bytes.
    fixed
        Triples of start, stop and the bytes between them, which another file must hold too.
    offset
        Start of the dataset's numbers.
    shape
        Shape of the dataset.
    """

    size: int
    fixed: list[tuple[int, int, bytes]]
    offset: int
    shape: tuple[int, ...]

    def read(self, contents: bytes) -> NDArray[np.float64] | None:
        """Return the dataset of a file, or None where the library has to read it."""
        if len(contents) != self.size:
            return None
        for start, stop, held in self.fixed:
            if contents[start:stop] != held:
                return None
        count = int(np.prod(self.shape))
        return np.frombuffer(contents, "<f8", count, self.offset).reshape(self.shape)


def make_template(contents: bytes, name: str) -> Template | None:
    """Make a template of a file that the HDF5 library can read.

    There is none, None, if the dataset is not one piece of little-endian float64 without filters,
    or the file has any form that is not understood completely.

    Parameters
    ----------
    contents
        Contents of the file.
    name
        Name of the dataset, directly below the root.
    """
    from h5py import h5d, h5f, h5o, h5t

    file = h5f.open_file_image(contents)
    dataset = h5d.open(file, name.encode())
    creation = dataset.get_create_plist()
    offset, shape = dataset.get_offset(), dataset.shape
    plain = (
        dataset.get_type().equal(h5t.IEEE_F64LE)
        and creation.get_layout() == h5d.CONTIGUOUS
        and creation.get_nfilters() == 0
        and creation.get_external_count() == 0
    )
    if not plain or offset is None:
        return None
    headers = [h5o.get_info(file).addr, h5o.get_info(dataset).addr]
    stop = offset + int(np.prod(shape)) * 8
    try:
        followed = [(0, _SUPERBLOCK)]
        free = [(offset, stop)]
        for header in headers:
            _walk_header(contents, header, followed, free)
        _walk_root(contents, followed)
        free += _global_heaps(contents)
    except (struct.error, ValueError):
        return None
    # What may differ must not overlap what the library follows, nor itself.
    free.sort()
    everything = sorted(free + followed)
    overlapping = any(a[1] > b[0] for a, b in pairwise(everything))
    inside = all(0 <= a <= b <= len(contents) for a, b in everything)
    if overlapping or not inside:
        return None
    stops = [0, *(stop for _, stop in free)]
    starts = [*(start for start, _ in free), len(contents)]
    fixed = [(a, b, contents[a:b]) for a, b in zip(stops, starts, strict=True) if a < b]
    return Template(len(contents), fixed, offset, shape)


def _walk_header(
    contents: bytes, address: int, followed: list[Extent], free: list[Extent]
) -> list[tuple[int, int]]:
    """Divide an object header into what is followed and what may differ; return its messages.

    Returns
    -------
    list of (type, offset)
        Type and offset of each message's body.
    """
    version, count, _, size = struct.unpack_from("<BxHII", contents, address)
    if version != 1 or count > _MOST_MESSAGES:
        raise ValueError("not an object header of version 1")
    followed.append((address, address + 16))
    messages: list[tuple[int, int]] = []
    chunks = [(address + 16, size)]
    while chunks:
        start, length = chunks.pop()
        stop = start + length
        while start < stop:
            kind, size, flags = struct.unpack_from("<HHB", contents, start)
            body, start = start + 8, start + 8 + size
            if start > stop or kind not in _KNOWN_MESSAGES or flags & ~1 or len(messages) >= count:
                raise ValueError("an object header that is not understood")
            messages.append((kind, body))
            followed.append((body - 8, body))
            if kind == _ATTRIBUTE:
                free.append((body, start))
            elif kind == _MODIFIED and size == 8:
                followed.append((body, body + 4))
                free.append((body + 4, start))
            elif size:
                followed.append((body, start))
            if kind == _CONTINUATION:
                chunks.append(struct.unpack_from("<QQ", contents, body))
    if len(messages) != count:
        raise ValueError("an object header with too few messages")
    return messages


def _walk_root(contents: bytes, followed: list[Extent]) -> None:
    """Add the superblock's root group: its B-tree of one level, its nodes and its heap."""
    if contents[:16] != b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0":
        raise ValueError("not a superblock of version 0")
    leaf, internal = struct.unpack_from("<HH", contents, 16)
    base, _, end, _ = struct.unpack_from("<QQQQ", contents, 24)
    if base != 0 or end != len(contents):
        raise ValueError("a file that does not start or end where it says")
    (header,) = struct.unpack_from("<Q", contents, 64)
    tables = [
        body for kind, body in _walk_header(contents, header, [], []) if kind == _SYMBOL_TABLE
    ]
    tree, heap = struct.unpack_from("<QQ", contents, tables[0]) if tables else (0, 0)
    signature, kind, level, used = struct.unpack_from("<4sBBH", contents, tree)
    if (signature, kind, level) != (b"TREE", 0, 0) or used > 2 * internal:
        raise ValueError("not a B-tree of one level")
    followed.append((tree, tree + 24 + 8 * (4 * internal + 1)))
    for number in range(used):
        (node,) = struct.unpack_from("<Q", contents, tree + 32 + 16 * number)
        if contents[node : node + 4] != b"SNOD":
            raise ValueError("not a symbol table node")
        followed.append((node, node + 8 + 2 * leaf * 40))
    signature, size, _, data = struct.unpack_from("<4s4xQQQ", contents, heap)
    if signature != b"HEAP":
        raise ValueError("not a local heap")
    followed += [(heap, heap + 32), (data, data + size)]


def _global_heaps(contents: bytes) -> Iterator[Extent]:
    """Find the collections that hold attributes of variable length."""
    start = contents.find(b"GCOL\1\0\0\0")
    while start >= 0:
        (size,) = struct.unpack_from("<Q", contents, start + 8)
        # The head stays fixed: it says where the collection ends.
        yield start + 16, start + max(size, 16)
        start = contents.find(b"GCOL\1\0\0\0", start + max(size, 16))
