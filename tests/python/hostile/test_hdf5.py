"""HDF5 files that are damaged or unusual, and the fast way to read the usual ones."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from timl.data.record.decoding import SeriesDecoder
from timl.data.record.templates import make_template
from worlds import Files, measured, packed, write_world

VALUES = measured(7)


def made(fill: Callable[[h5py.File], object], **options: object) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", **options) as file:
        fill(file)
    return buffer.getvalue()


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((12, 18), np.float64)
    layout[:] = h5py.VirtualSource("/etc/passwd", "array", (12, 18))
    file.create_virtual_dataset("array", layout)


def soft_link(file: h5py.File) -> None:
    file["other"] = VALUES
    file["array"] = h5py.SoftLink("/other")


def looping_link(file: h5py.File) -> None:
    file["array"] = h5py.SoftLink("/array")


def stored_outside(file: h5py.File) -> None:
    file.create_dataset("array", (12, 18), np.float64, external=[("/etc/passwd", 0, 1728)])


@pytest.mark.parametrize(
    ("fill", "reason"),
    [
        (lambda f: f.create_group("array"), "not a readable HDF5 file"),
        (lambda f: f.create_dataset("array", data=1.0), "shape []"),
        (lambda f: f.create_dataset("array", data=h5py.Empty("f8")), "no shape"),
        (lambda f: f.create_dataset("array", data=VALUES.T), "shape [18, 12]"),
        (lambda f: f.create_dataset("array", data=VALUES[None]), "shape [1, 12, 18]"),
        (lambda f: f.create_dataset("array", (10**6, 10**6), "f8", chunks=(1, 18)), "shape"),
        (lambda f: f.create_dataset("array", data=np.full((12, 18), b"abc")), "not a readable"),
        (lambda f: f.create_dataset("array", (12, 18), h5py.string_dtype()), "not a readable"),
        (lambda f: f.create_dataset("array", (12, 18), h5py.ref_dtype), "not a readable"),
        (lambda f: f.create_dataset("array", (12, 18), [("a", "f8")]), "not a readable"),
        (lambda f: f.create_dataset("array", (12, 18), "V8"), "not a readable"),
        (lambda f: f.create_dataset("array", (12, 18), h5py.vlen_dtype(np.float64)), "not a"),
        (lambda f: f.create_dataset("array", data=VALUES * np.nan), "NaN"),
        (lambda f: f.create_dataset("array", data=VALUES * np.inf), "infinite"),
        (virtual, "stored outside the file"),
        (stored_outside, "stored outside the file"),
        (soft_link, "has no dataset 'array'"),
        (looping_link, "has no dataset 'array'"),
    ],
)
def test_a_file_of_another_form_is_reported(
    tmp_path: Path, features: Files, fill: Callable[[h5py.File], object], reason: str
) -> None:
    root = write_world(tmp_path, features | {"features/arrays/9_made.h5": made(fill)})
    store, reasons = packed(root)
    assert reasons.keys() == {"features/arrays/9_made.h5"}
    assert reason in reasons["features/arrays/9_made.h5"]
    assert store.index.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (VALUES.astype(np.float32), {}),
        (VALUES.astype(">f8"), {}),
        (VALUES.round().astype(np.int16), {}),
        (VALUES.round().astype(np.uint64), {}),
        (VALUES, {"chunks": (3, 18), "compression": "gzip", "shuffle": True}),
        (VALUES, {"maxshape": (None, 18), "fletcher32": True}),
        (VALUES, {"chunks": True, "scaleoffset": 6}),
    ],
)
@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_numbers_of_any_form_are_read(
    values: np.ndarray, options: dict[str, object], version: str
) -> None:
    contents = made(lambda f: f.create_dataset("array", data=values, **options), libver=version)
    decoder = SeriesDecoder()
    for _ in range(2):  # the second time a template may be there
        series = decoder.decode(contents)
        np.testing.assert_allclose(series, values, rtol=1e-6, atol=1e-6)


def outcome(decoder: SeriesDecoder, contents: bytes) -> bytes | None:
    try:
        return decoder.decode(contents).tobytes()
    except ValueError:
        return None


def like_the_record(seed: int) -> bytes:
    """A file with attributes as CropHarvest's have them."""

    def fill(file: h5py.File) -> None:
        file["array"] = measured(seed)
        file.attrs["label"] = "maize" * (seed % 4)
        file.attrs["instance_lat"] = seed / 7
        file.attrs["is_crop"] = seed % 2

    return made(fill)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> SeriesDecoder:
    """A decoder that never uses a template."""
    decoder = SeriesDecoder()
    decoder._chances = 0
    return decoder


def test_a_template_reads_what_the_library_reads(library: SeriesDecoder) -> None:
    template = make_template(like_the_record(0), "array")
    assert template is not None
    for seed in range(1, 20):
        contents = like_the_record(seed)
        read = template.read(contents)
        assert read is not None
        np.testing.assert_array_equal(read, measured(seed))
        assert library.decode(contents).tobytes() == read.astype(np.float32).tobytes()


def test_a_file_with_any_byte_changed_is_read_as_the_library_reads_it(
    library: SeriesDecoder,
) -> None:
    contents = like_the_record(0)
    fast = SeriesDecoder()
    fast.decode(contents)
    (template,) = fast._templates
    fast._chances = 0
    random = np.random.default_rng(0)
    by_template = 0
    for number in range(600):
        changed = bytearray(contents)
        # Every third only where a template would still be used.
        places = np.arange(len(contents))
        if number % 3 == 0:
            fixed = np.concatenate([np.arange(a, b) for a, b, _ in template.fixed])
            places = np.setdiff1d(places, fixed)
        for place in random.choice(places, random.integers(1, 9)):
            changed[place] = random.integers(256)
        by_template += template.read(bytes(changed)) is not None
        assert outcome(fast, bytes(changed)) == outcome(library, bytes(changed))
    assert by_template >= 200


@pytest.mark.parametrize("size", [0, 8, 95, 96, 800, -1])
def test_a_file_cut_short_is_refused_even_after_a_whole_one(size: int) -> None:
    decoder = SeriesDecoder()
    contents = like_the_record(0)
    decoder.decode(contents)
    with pytest.raises(ValueError, match="not a readable HDF5 file"):
        decoder.decode(contents[:size])


def test_no_template_is_made_where_what_may_differ_overlaps_what_is_followed() -> None:
    contents = like_the_record(0)
    assert make_template(contents, "array") is not None
    # A collection of attributes that claims more than the file.
    start = contents.index(b"GCOL")
    stretched = bytearray(contents)
    stretched[start + 8 : start + 16] = (2 * len(contents)).to_bytes(8, "little")
    assert make_template(bytes(stretched), "array") is None
    # The same head inside the numbers, reaching into what follows.
    inside = bytearray(contents)
    offset = decode_offset(contents)
    inside[offset : offset + 16] = b"GCOL\1\0\0\0" + (4000).to_bytes(8, "little")
    assert make_template(bytes(inside), "array") is None
    assert (
        make_template(
            made(lambda f: f.create_dataset("array", data=VALUES), libver="latest"), "array"
        )
        is None
    )


def decode_offset(contents: bytes) -> int:
    with h5py.File(io.BytesIO(contents)) as file:
        return int(file["array"].id.get_offset())
