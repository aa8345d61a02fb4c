"""Archives that are damaged or made to harm: an error or a report, and a whole store or none."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from timl.data.record import archives
from timl.data.record.store import open_store
from worlds import Files, hdf5, measured, packed, stores, tar, write_world

GOOD = hdf5(array=measured(9))


def zipped(plain: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("features.tar", plain)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda plain: plain, "Not a gzipped file"),
        (bz2.compress, "Not a gzipped file"),
        (lzma.compress, "Not a gzipped file"),
        (zipped, "Not a gzipped file"),
        (lambda plain: b"", "empty"),
        (lambda plain: b"<html>not found</html>", "Not a gzipped file"),
        (lambda plain: gzip.compress(b""), "empty"),
        (lambda plain: gzip.compress(b"hello"), "damaged or cut short"),
        (lambda plain: gzip.compress(bytes(range(256)) * 8), "damaged or cut short"),
        (lambda plain: gzip.compress(gzip.compress(plain)), "damaged or cut short"),
        (lambda plain: gzip.compress(plain)[:20], "damaged or cut short"),
        (lambda plain: gzip.compress(plain) + b"garbage", "Not a gzipped file"),
        (lambda plain: gzip.compress(plain + b"garbage" * 100), "a header is broken"),
        # Python 3.10's tarfile stumbles over it; later ones find no member.
        (lambda plain: gzip.compress(bytes(10240)), "not one series|damaged or cut short"),
    ],
    ids=[
        "plain tar", "bzip2", "xz", "zip", "no bytes", "a web page", "nothing inside",
        "no tar inside", "bytes inside", "compressed twice", "only a header", "garbage after gzip",
        "garbage after tar", "empty tar",
    ],
)  # fmt: skip
def test_what_is_no_whole_archive_is_refused(
    tmp_path: Path, features: Files, wrap: Callable[[bytes], bytes], message: str
) -> None:
    (tmp_path / "features.tar.gz").write_bytes(wrap(tar(features)))
    with pytest.raises(ValueError, match=message):
        open_store(tmp_path)
    assert stores(tmp_path) == []


def test_an_archive_in_several_pieces_of_gzip_is_read(tmp_path: Path, features: Files) -> None:
    plain = tar(features)
    pieces = gzip.compress(plain[:5000]) + gzip.compress(plain[5000:])
    (tmp_path / "features.tar.gz").write_bytes(pieces)
    assert len(open_store(tmp_path).series) == len(features)


def member(name: str, content: bytes = GOOD, **fields: object) -> bytes:
    """One member of a tar archive: its header, with some fields replaced, and its content."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def extended(content: bytes) -> bytes:
    """An extended (pax) header for the member that follows."""
    return member("x", content, type=tarfile.XHDTYPE)


def write(root: Path, features: Files, *extra: bytes) -> None:
    plain = b"".join([*(member(name, content) for name, content in features.items()), *extra])
    (root / "features.tar.gz").write_bytes(gzip.compress(plain + bytes(1024)))


NAME = "features/arrays/40_made.h5"


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (member("../" + NAME), "unexpected name"),
        (member("/" + NAME), "unexpected name"),
        (member("./../" + NAME), "unexpected name"),
        (member("features\\arrays\\40_made.h5"), "unexpected name"),
        (member(NAME + "\n"), "unexpected name"),
        (member("features/arrays/\u0664_made.h5"), "unexpected name"),
        (member("features/arrays/40_m\udce4de.h5"), "unexpected name"),
        (member("features/arrays/" + "4" * 400 + "_made.h5"), "unexpected name"),
        (member("features/normalizing_dict.h5.bak"), "unexpected name"),
        (extended(b"31 path=../../../../etc/passwd\n") + member(NAME), "unexpected name"),
        (member(NAME, b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "not a regular file"),
        (member(NAME, b"", type=tarfile.LNKTYPE, linkname="../secret"), "not a regular file"),
        (member(NAME, b"", type=tarfile.CHRTYPE), "not a regular file"),
        (member(NAME, b"", type=tarfile.BLKTYPE), "not a regular file"),
        (member(NAME, b"", type=tarfile.FIFOTYPE), "not a regular file"),
        (extended(b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n") + member(NAME, b"1\n0\n9\n"),
         "not a regular file"),
        (extended(b"26 GNU.sparse.size=999999\n26 GNU.sparse.numblocks=0\n") + member(NAME),
         "not a regular file"),
        (member(NAME, bytes(2**24 + 1)), "larger than 16777216 bytes"),
        (member("features/arrays/0_made.h5"), "a second file of this name"),
        (member(NAME, b""), "not a readable HDF5 file"),
    ],
)  # fmt: skip
def test_a_hostile_member_is_reported_and_the_rest_is_packed(
    tmp_path: Path, features: Files, extra: bytes, reason: str
) -> None:
    last = "features/arrays/99_made.h5"
    write(tmp_path, features, extra, member(last, hdf5(array=measured(99))))
    before = set(tmp_path.parent.rglob("*"))
    store, reasons = packed(tmp_path)
    assert store.index.tolist() == [0, 1, 2, 3, 4, 99]
    for position, index in enumerate(store.index):
        np.testing.assert_array_equal(store.series[position], measured(index).astype(np.float32))
    assert [text[: len(reason)] for text in reasons.values()] == [reason]
    assert all(name.isprintable() and len(name) <= 200 for name in reasons)
    made = set(tmp_path.parent.rglob("*")) - before
    assert all(".timl" in path.parts for path in made)


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (member(NAME, b"", size=2**62), "damaged or cut short after 6 members"),
        (member("notes", b"", size=2**40), "damaged or cut short after 6 members"),
        (member(NAME, GOOD, size=-1), "damaged or cut short"),
        (member(NAME, GOOD, size=len(GOOD) + 10**5), "damaged or cut short after 6 members"),
        (extended(b"0 path=a\n") + member(NAME), "damaged or cut short"),
        (extended(bytes(2**22)) + member(NAME), "a header is larger than 1048576 bytes"),
        (member("long", bytes(2**22), type=tarfile.GNUTYPE_LONGNAME) + member(NAME),
         "a header is larger than 1048576 bytes"),
        (bytes(512) + member(NAME), "a header is broken"),
        (b"\xff" * 512, "a header is broken"),
    ],
)  # fmt: skip
def test_a_broken_header_is_an_error_or_ends_what_is_salvaged(
    tmp_path: Path, features: Files, extra: bytes, reason: str
) -> None:
    write(tmp_path, features, extra)
    with pytest.raises(ValueError, match=reason):
        open_store(tmp_path)
    assert stores(tmp_path) == []
    store, reasons = packed(tmp_path, salvage=True)
    assert store.index.tolist() == [0, 1, 2, 3, 4]
    assert reason in reasons["features.tar.gz"]


def test_archives_with_a_flipped_bit_never_give_other_series(
    tmp_path: Path, features: Files
) -> None:
    good = tar(features)
    blob = gzip.compress(good)
    expected = {measured(i).astype(np.float32).tobytes() for i in range(5)}
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(40):
        damaged = bytearray(blob)
        damaged[random.integers(len(blob))] ^= 1 << random.integers(8)
        (tmp_path / "features.tar.gz").write_bytes(damaged)
        try:
            store, _ = packed(tmp_path)
        except ValueError:
            refused += 1
        else:
            assert {series.tobytes() for series in store.series} == expected
    assert refused > 30


def test_a_damaged_test_archive_is_refused_too(world: Callable[..., Path]) -> None:
    root = world()
    archive = root / "test_features.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"test_features\.tar\.gz: archive is damaged"):
        open_store(root)
    assert stores(root) == []


def test_strange_things_in_an_unpacked_folder_are_reported(tmp_path: Path, features: Files) -> None:
    root = write_world(tmp_path / "world", features, archived=False)
    folder = root / "features" / "arrays"
    (folder / "40_made.h5").symlink_to(tmp_path / "nowhere")
    (folder / "41_made.h5").mkdir()
    os.mkfifo(folder / "42_made.h5")
    (folder / "notes.txt").write_text("hello")
    (root / "features" / "more").mkdir()
    store, reasons = packed(root)
    assert store.index.tolist() == [0, 1, 2, 3, 4]
    assert reasons == {
        "features/arrays/40_made.h5": "not a regular file",
        "features/arrays/41_made.h5": "not a regular file",
        "features/arrays/42_made.h5": "not a regular file",
        "features/arrays/notes.txt": "unexpected name",
        "features/more": "not a regular file",
    }


def test_an_archive_that_cannot_be_opened_is_an_error(
    world: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("not for you")

    monkeypatch.setattr(archives.Progress, "open", refuse)
    with pytest.raises(PermissionError):
        open_store(world())
    assert stores(world()) == []
