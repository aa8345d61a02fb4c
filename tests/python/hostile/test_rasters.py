"""GeoTIFF: nothing but the file itself is opened, and damage is an error, not a crash."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import timl
from damage import Reader, damages
from exports import PIXEL, bands, centre, write_export
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from timl.area.class_map import open_map
from timl.data import own_points, read_export
from timl.maps import open_files
from timl.maps.drawing.map_file import read_map_file
from timl.maps.drawing.page import write_page
from timl.maps.drawing.quicklook import write_quicklook
from timl.maps.drawing.stac import write_stac_item

rasterio = pytest.importorskip("rasterio")

LIKE = {"mean": np.zeros(18), "std": np.ones(18), "ndvi": "true"}
PLACES = pd.DataFrame(
    [(*centre(0, 0), "maize"), (*centre(1, 2), "non_crop")], columns=["lat", "lon", "label"]
)
VRT = """<VRTDataset rasterXSize="6" rasterYSize="5"><SRS>EPSG:4326</SRS>
<GeoTransform>34, {pixel}, 0, 1, 0, -{pixel}</GeoTransform>
{bands}</VRTDataset>"""
BAND = """<VRTRasterBand dataType="Float64" band="{band}"><SimpleSource>
<SourceFilename relativeToVRT="0">{source}</SourceFilename><SourceBand>{band}</SourceBand>
</SimpleSource></VRTRasterBand>"""


class Counting(BaseHTTPRequestHandler):
    """Count the requests and answer none."""

    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.requests.append(self.path)
        self.send_error(404)

    do_HEAD = do_GET  # noqa: N815 (the base class calls it so)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Address of a web server on this machine that counts what it is asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Requests that the server has got."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    Counting.requests.clear()
    return Counting.requests


def write_vrt(path: Path, source: object, count: int = 206) -> Path:
    """Write a VRT of 5 x 6 pixels whose bands are all those of one source."""
    path.parent.mkdir(exist_ok=True)
    made = "".join(BAND.format(band=1 + n, source=source) for n in range(count))
    path.write_text(VRT.format(pixel=PIXEL, bands=made))
    return path


# --- a VRT by another name -----------------------------------------------------------------------


def open_as_map(path: Path) -> None:
    with open_map(path):
        pass


def map_it(path: Path) -> None:
    classifier = timl.nn.Classifier()
    classifier.normalization = LIKE  # type: ignore[assignment]
    timl.predict_map(classifier, path, path.with_name("map.tif"), progress=False)


DOORS: dict[str, Callable[[Path], object]] = {
    "read_export": lambda path: read_export(path, "true"),
    "own_points": lambda path: own_points(PLACES, path, like=LIKE),
    "own_points of a folder": lambda path: own_points(PLACES, path.parent, like=LIKE),
    "open_map": open_as_map,
    "read_map_file": read_map_file,
    "write_quicklook": lambda path: write_quicklook(path, path.with_suffix(".png")),
    "write_page": lambda path: write_page(path, path.with_suffix(".html")),
    "write_stac_item": lambda path: write_stac_item(path, path.with_suffix(".json")),
    "predict_map": map_it,
    "predict_map of a folder": lambda path: map_it(path.parent),
}


@pytest.mark.parametrize("to", ["web", "file"])
@pytest.mark.parametrize("door", DOORS)
def test_a_vrt_by_another_name_reaches_neither_the_web_nor_other_files(
    address: str, asked: list[str], tmp_path: Path, door: str, to: str
) -> None:
    secret = write_export(tmp_path / "secret.tif", bands(5, 6))
    source = f"/vsicurl/{address}/x.tif" if to == "web" else secret
    trap = write_vrt(tmp_path / "given" / "export.tif", source)
    with pytest.raises(ValueError, match=r"export\.tif.* is no readable GeoTIFF"):
        DOORS[door](trap)
    assert asked == []
    assert [path.name for path in trap.parent.iterdir()] == ["export.tif"]


def test_the_server_would_have_been_asked(address: str, asked: list[str], tmp_path: Path) -> None:
    trap = write_vrt(tmp_path / "export.tif", f"/vsicurl/{address}/x.tif", count=1)
    with pytest.raises(rasterio.errors.RasterioError), rasterio.open(trap, driver="VRT") as file:
        file.read()
    assert asked


# --- a VRT by its name ---------------------------------------------------------------------------


def test_a_mosaic_within_its_folder_is_read(tmp_path: Path) -> None:
    from rasterio.shutil import copy

    source = write_export(tmp_path / "in" / "a.tif", bands(5, 6))
    written = write_vrt(tmp_path / "in" / "all.vrt", source)
    copy(source, tmp_path / "in" / "gdal.vrt", driver="VRT")
    for path in (written, tmp_path / "in" / "gdal.vrt"):
        there = open_files(path, vrt_within=tmp_path)
        whole = open_files(source)
        assert np.array_equal(there.read(there.windows[0]), whole.read(whole.windows[0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("{source}", "{web}"), "names /vsicurl/http"),
        (("{source}", "{outside}"), "secret.tif, which is no file in"),
        (('relativeToVRT="0">{source}', 'relativeToVRT="1">../secret.tif'), "is no file in"),
        (("{source}", "{link}"), "is no file in"),
        (("{source}", "{nested}"), "is no readable GeoTIFF"),
        (("{source}", "none.tif"), "names none.tif"),
        (("<SimpleSource>", '<SimpleSource SourceFilename="{web}">'), "holds SourceFilename|names"),
        (("<SimpleSource>", '<SimpleSource sourcefilename="{web}">'), "holds sourcefilename"),
        (('band="1"', 'band="1" subClass="VRTRawRasterBand"'), "holds subClass"),
        (('band="1"', 'band="1" subClass="VRTDerivedRasterBand"'), "holds subClass"),
        (("<SimpleSource>", "<KernelFilteredSource>"), "VRT"),
        (("<SRS>", "<MaskBand></MaskBand><SRS>"), "holds MaskBand"),
        (("<SRS>", "<OverviewList>2</OverviewList><SRS>"), "holds OverviewList"),
        (("<SRS>", "<GDALWarpOptions></GDALWarpOptions><SRS>"), "holds GDALWarpOptions"),
        (("<VRTDataset", '<!DOCTYPE a [<!ENTITY b "c">]><VRTDataset'), "holds declarations"),
        (("</VRTDataset>", ""), "is no readable VRT"),
    ],
)
def test_a_vrt_that_reaches_out_of_its_folder_is_refused(
    address: str, asked: list[str], tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    inside = tmp_path / "in"
    source = write_export(inside / "a.tif", bands(5, 6))
    outside = write_export(tmp_path / "secret.tif", bands(5, 6))
    (inside / "link.tif").symlink_to(outside)
    names = {
        "{source}": str(source),
        "{web}": f"/vsicurl/{address}/x.tif",
        "{outside}": str(outside),
        "{link}": str(inside / "link.tif"),
        "{nested}": str(write_vrt(inside / "nested.tif", outside)),
    }
    given = write_vrt(inside / "all.vrt", source, count=2)
    old, new = (re.sub(r"\{\w+\}", lambda m: names[m[0]], part) for part in change)
    assert old in given.read_text()
    given.write_text(given.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        open_files(given, vrt_within=inside)
    assert asked == []


# --- what is stored otherwise --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        ((PIXEL, 0, 34, 0, PIXEL, 1), "is stored south first"),
        ((-PIXEL, 0, 34, 0, -PIXEL, 1), "is stored south first or east first"),
        ((PIXEL, PIXEL, 34, 0, -PIXEL, 1), "is rotated"),
    ],
)
def test_an_export_that_lies_otherwise_is_refused(
    tmp_path: Path, transform: tuple[float, ...], message: str
) -> None:
    path = write_export(tmp_path / "a.tif", bands(5, 6))
    with rasterio.open(path, "r+") as file:
        file.transform = rasterio.Affine(*transform)
    with pytest.raises(ValueError, match=message):
        read_export(path, "true")
    with pytest.raises(ValueError, match=message):
        own_points(PLACES, path, like=LIKE)
    with pytest.raises(ValueError, match=message):
        open_files(path)


def test_a_reference_system_of_no_place_is_refused(tmp_path: Path) -> None:
    """Found by damaging files: PROJ cannot turn a system of an engineer's own into degrees."""
    path = write_export(tmp_path / "a.tif", bands(5, 6))
    with rasterio.open(path, "r+") as file:
        file.crs = rasterio.CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
    for read in (
        lambda: read_export(path, "true"),
        lambda: own_points(PLACES, path, like=LIKE),
        lambda: open_files(path),
        lambda: open_map(path).__enter__(),
        lambda: read_map_file(path),
    ):
        with pytest.raises(ValueError, match="a reference system of no place on the Earth, LOCAL"):
            read()


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_export(path, bands(5, 6))
    with rasterio.open(path) as file:
        raw, profile = file.read(), file.profile
    with rasterio.open(path, "w", **{**profile, "dtype": "complex64"}) as file:
        file.write(raw.astype(np.complex64))
    for read in (lambda: read_export(path, "true"), lambda: open_files(path)):
        with pytest.raises(ValueError, match=r"is of complex64: give bands of real numbers"):
            read()


@pytest.mark.parametrize("fill", ["banana", "", None, 3, "Pixel"])
def test_a_filling_that_is_none_is_refused(tmp_path: Path, fill: str) -> None:
    path = write_export(tmp_path / "a.tif", bands(5, 6))
    for read in (
        lambda: read_export(path, "true", fill=fill),  # type: ignore[arg-type]
        lambda: own_points(PLACES, path, like=LIKE, fill=fill),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match=f"fill is {fill!r}: give 'pixel' or 'file'"):
            read()


def test_a_name_that_two_exports_have_is_no_name(tmp_path: Path) -> None:
    write_export(tmp_path / "exports" / "a.tif", bands(5, 6, seed=1))
    write_export(tmp_path / "exports" / "more" / "a.tif", bands(5, 6, seed=2))
    with pytest.raises(ValueError, match=r"2 files called 'a\.tif', such as .*row 0 does not say"):
        own_points(PLACES.assign(filename="a.tif"), tmp_path / "exports", like=LIKE)


@pytest.mark.parametrize("std", [0.0, -1.0, np.nan, np.inf])
def test_a_deviation_that_cannot_be_divided_by_is_refused(tmp_path: Path, std: float) -> None:
    path = write_export(tmp_path / "a.tif", bands(5, 6))
    like = LIKE | {"std": np.where(np.arange(18) == 3, std, 1.0)}
    with pytest.raises(ValueError, match=r"like has mean .*: give finite numbers, and std above 0"):
        own_points(PLACES, path, like=like)


# --- damage --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole export, compressed, in blocks."""
    options = {"compress": "deflate", "tiled": True, "blockxsize": 16, "blockysize": 16}
    return write_export(tmp_path_factory.mktemp("whole") / "a.tif", bands(5, 6), **options)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_export_is_read_or_refused(
    reader: Reader, whole: Path, tmp_path: Path, data: st.DataObject
) -> None:
    contents = whole.read_bytes()
    head = data.draw(st.sampled_from([300, 4000, len(contents)]))  # tags, tables, all
    path = tmp_path / "damaged.tif"
    path.write_bytes(data.draw(damages(contents, head)))
    reader.require_read_or_refused("export", path)


@pytest.mark.parametrize("content", [b"", b"II*\0", b"MM\0*\0\0\0\x08", b"II*\0\x08\0\0\0\xff\xff"])
def test_a_beginning_alone_is_refused(reader: Reader, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.tif"
    path.write_bytes(content + b"\0" * 20 * bool(content))
    assert reader.require_read_or_refused("export", path) == "refused"


def test_a_file_that_claims_to_be_huge_is_refused(reader: Reader, tmp_path: Path) -> None:
    path = shutil.copy(write_export(tmp_path / "a.tif", bands(5, 6)), tmp_path / "huge.tif")
    contents = bytearray(Path(path).read_bytes())
    for tag in (256, 257):  # width and height, as 32 bit numbers
        at = contents.index(np.array([tag, 3], "<u2").tobytes() + np.uint32(1).tobytes())
        contents[at + 2 : at + 4] = np.uint16(4).tobytes()
        contents[at + 8 : at + 12] = np.uint32(2**31 - 1).tobytes()
    Path(path).write_bytes(contents)
    assert reader.require_read_or_refused("export", Path(path)) == "refused"
