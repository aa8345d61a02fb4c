"""Decoding: the fast way reads what the library reads, on all of the real files."""

from __future__ import annotations

import tarfile
from pathlib import Path

from timl.data.record import decoding
from timl.data.record.decoding import SeriesDecoder


def test_all_real_files_are_read_alike(shared_data: Path) -> None:
    fast, library = SeriesDecoder(), SeriesDecoder()
    library._chances = 0  # it never uses a template
    count = 0
    with tarfile.open(shared_data / "realcrops" / "features.tar.gz") as archive:
        for member in archive:
            if member.isfile() and member.name.startswith("features/arrays/"):
                count += 1
                contents = archive.extractfile(member).read()
                if count % 7 == 0:
                    assert fast.decode(contents).tobytes() == library.decode(contents).tobytes()
                else:
                    fast.decode(contents)
    assert count == 14134
    assert 0 < len(fast._templates) <= decoding._MOST_TEMPLATES
