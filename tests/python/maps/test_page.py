"""The page of a map holds the map, the points and nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from map_files import TAGS, made_bands, made_points, write_map
from timl.maps.drawing.legend import LAYERS
from timl.maps.drawing.page import write_page

pytest.importorskip("rasterio", reason="rasterio is not installed: timl[maps]")
Image = pytest.importorskip("PIL.Image", reason="matplotlib is not installed: timl[plot]")

HOSTILE = "</title><script>alert('x')</script>\"'{{ 7 * 7 }}&amp;"


class Page(HTMLParser):
    """Elements of a page with their attributes, the text of each kind, and its data."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open = [""]
        self.feed(path.read_text(encoding="utf-8"))
        self.data: dict[str, Any] = json.loads(self.texts["script"][0])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.open.append("")

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1], []).append(data)


def picture(address: str) -> Any:
    kind, _, content = address.partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


@pytest.fixture
def page(tmp_path: Path) -> Page:
    path = write_map(tmp_path / "map.tif", made_bands(20, 30), tags=TAGS | {"TIML_TARGET": HOSTILE})
    imagery = np.zeros((40, 60, 3), np.uint8)
    write_page(path, tmp_path / "map.html", points=made_points(), title=HOSTILE, imagery=imagery)
    return Page(tmp_path / "map.html")


def test_the_page_has_no_outside_address(page: Page, tmp_path: Path):
    text = (tmp_path / "map.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", re.sub(r"base64,[^\"]*", "", text))
    for _, attributes in page.elements:
        assert not {"src", "href", "srcset", "action"} & set(attributes)
    (policy,) = (
        attributes["content"] or ""
        for tag, attributes in page.elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for text in (page.texts["style"][0], page.texts["script"][1]):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_hostile_names_stay_text(page: Page):
    assert page.texts["title"] == [HOSTILE] and page.texts["h1"] == [HOSTILE]
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 2 and tags.count("title") == 1
    assert page.data["points"][0]["name"] == "</script><script>alert(1)</script>"
    assert [kind["name"] for kind in page.data["kinds"]] == [f"not {HOSTILE}", HOSTILE]


def test_the_pictures_hold_the_bands(page: Page):
    bands = made_bands(20, 30)
    assert [layer["band"] for layer in page.data["layers"]] == list(LAYERS)
    for layer in page.data["layers"]:
        shown = np.asarray(picture(layer["picture"]).convert("RGBA")).astype(int)
        band, rule = bands[layer["band"]], LAYERS[layer["band"]]
        assert shown.shape == (20, 30, 4)
        np.testing.assert_array_equal(shown[..., 3], np.where(np.isnan(band), 0, 255))
        far = np.abs(shown[:, 1:, None, :3] - np.array(layer["palette"])).sum(-1)
        values = far.argmin(-1) * layer["step"]
        np.testing.assert_allclose(values, np.minimum(band[:, 1:], rule.top), atol=0.51 * rule.step)
    stripes = np.asarray(picture(page.data["unlike"]["picture"]).convert("RGBA"))[..., 3]
    np.testing.assert_array_equal(stripes > 0, np.nan_to_num(bands["unlike"]) > 1)
    assert picture(page.data["imagery"]["picture"]).size == (60, 40)


def test_the_points_are_counted_and_placed(page: Page):
    assert [point["kind"] for point in page.data["points"]] == [1, 0, 1]
    assert page.data["points"][1]["column"] == pytest.approx(15.5)
    text = " ".join(" ".join(text for texts in page.texts.values() for text in texts).split())
    assert "3 points: 2" in text and "1 outside the map" in text


def test_every_control_has_a_label(page: Page):
    for tag, attributes in page.elements:
        if tag in ("canvas", "button"):
            assert attributes.get("aria-label"), tag
    labels = [tag for tag, _ in page.elements].count("label")
    assert labels == [tag for tag, _ in page.elements].count("input") == 4 + 1 + 3


@pytest.mark.parametrize("name", ["probability", "class", "unlike"])
def test_a_map_of_one_band_or_pixel_gives_a_page(tmp_path: Path, name: str):
    path = write_map(
        tmp_path / "map.tif",
        {name: np.full((1, 1), np.nan, np.float32)},
        "EPSG:32636",
        5e5,
        1e5,
        10,
    )
    write_page(path, tmp_path / "map.html")
    data = Page(tmp_path / "map.html").data
    assert [layer["band"] for layer in data["layers"]] == [name]
    assert picture(data["layers"][0]["picture"]).size == (1, 1)
    assert (data["unlike"] is None) == (name != "unlike")


def test_a_large_map_is_shrunk(tmp_path: Path):
    path = write_map(tmp_path / "map.tif", made_bands(200, 300))
    write_page(path, tmp_path / "map.html", most_cells=30)
    data = Page(tmp_path / "map.html").data
    assert (data["width"], data["height"]) == (30, 20)
    assert {picture(layer["picture"]).size for layer in data["layers"]} == {(30, 20)}


def test_a_point_far_from_the_system_is_counted_as_outside(tmp_path: Path):
    path = write_map(tmp_path / "map.tif", made_bands(4, 4), "EPSG:32636", 5e5, 1e5, 10)
    write_page(path, tmp_path / "map.html", points=made_points().assign(lon=-147.0, lat=0.0))
    assert "Infinity" not in (tmp_path / "map.html").read_text("utf-8")


@pytest.mark.parametrize(
    "imagery", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_bad_imagery_is_told_so(tmp_path: Path, imagery: Any):
    path = write_map(tmp_path / "map.tif", made_bands(2, 3))
    with pytest.raises(ValueError, match=r"imagery is .*: give uint8 \[height, width, 3\]"):
        write_page(path, tmp_path / "map.html", imagery=imagery)
    with pytest.raises(ValueError, match="most_cells is 0: give at least 1"):
        write_page(path, tmp_path / "map.html", most_cells=0)
    assert [file.name for file in tmp_path.iterdir()] == ["map.tif"]
