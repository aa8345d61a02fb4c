"""The page of a map works in a browser: it says true values, moves, zooms and fits a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from map_files import made_bands, made_points, write_map
from timl.maps.drawing.page import write_page

pytest.importorskip("rasterio", reason="rasterio is not installed: timl[maps]")
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

BANDS = made_bands(20, 30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[(1440, 900), (390, 844)], ids=["desk", "phone"])
def page(request: pytest.FixtureRequest, browser: Any, tmp_path: Path) -> Iterator[Any]:
    """An open page; nothing may be requested, and nothing may fail."""
    path = write_map(tmp_path / "map.tif", BANDS)
    write_page(path, tmp_path / "map.html", points=made_points())
    width, height = request.param
    context = browser.new_context(
        viewport={"width": width, "height": height}, has_touch=width < 500, is_mobile=width < 500
    )
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.partition(":")[0]))
    page.goto((tmp_path / "map.html").as_uri())
    wait_until(page, "document.getElementById('scale').offsetWidth > 10")
    yield page
    assert not wrong and set(asked) <= {"file", "data"}
    context.close()


def wait_until(page: Any, condition: str) -> None:
    """Wait for a condition; Playwright's own waiting evaluates what the page's policy forbids."""
    for _ in range(500):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"ten seconds, and not {condition}")


def on_screen(page: Any, column: float, row: float) -> tuple[float, float]:
    box = page.locator("#map").bounding_box()
    x, y = page.evaluate(f"toScreen({column}, {row})")
    return box["x"] + x, box["y"] + y


def point_at(page: Any, column: float, row: float) -> None:
    """Move the mouse there, or tap where there is none."""
    place = on_screen(page, column, row)
    if page.evaluate("navigator.maxTouchPoints"):
        page.touchscreen.tap(*place)
    else:
        page.mouse.move(*place)


def view(page: Any) -> dict[str, float]:
    found: dict[str, float] = page.evaluate("({...view})")
    return found


def test_what_the_page_says_is_what_the_map_holds(page: Any):
    for row, column in [(0, 18), (7, 12), (19, 29)]:
        point_at(page, column + 0.5, row + 0.5)
        value = float(page.inner_text("#at-probability"))
        assert value == pytest.approx(BANDS["probability"][row, column], abs=0.0051)
        of_maize = BANDS["class"][row, column] == 1
        assert page.inner_text("#at-class") == ("maize" if of_maize else "not maize")
        unlike = BANDS["unlike"][row, column]
        assert float(page.inner_text("#at-unlike").split()[0]) == pytest.approx(
            min(unlike, 2), abs=0.011
        )
        lat, lon = (float(text.split("°")[0]) for text in page.inner_text("#at-place").split(", "))
        assert lat == pytest.approx(0.6 - (row + 0.5) * 1e-4, abs=6e-6)
        assert lon == pytest.approx(34.2 + (column + 0.5) * 1e-4, abs=6e-6)
    point_at(page, 0.5, 3)
    assert page.inner_text("#at-probability") == "no data"
    point_at(page, 5, 5)
    assert "</script><script>alert(1)</script>: maize" in page.inner_text("#at-point")


def test_the_wheel_zooms_about_the_pointer_and_a_drag_moves(page: Any):
    place = on_screen(page, 10, 8)
    page.mouse.move(*place)
    before = view(page)
    page.mouse.wheel(0, -300)
    wait_until(page, f"view.scale > {1.5 * before['scale']}")
    np.testing.assert_allclose(on_screen(page, 10, 8), place, atol=0.5)
    page.mouse.down()
    page.mouse.move(place[0] + 40, place[1] - 30, steps=4)
    page.mouse.up()
    np.testing.assert_allclose(on_screen(page, 10, 8), np.add(place, (40, -30)), atol=0.5)


def test_two_fingers_zoom_by_as_much_as_they_part(page: Any):
    (x, y), before = on_screen(page, 15, 10), view(page)
    touch = page.context.new_cdp_session(page)

    def send(kind: str, *halves: int) -> None:
        fingers = [{"x": x + half, "y": y, "id": int(half > 0)} for half in halves]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    send("touchStart", -30, 30)
    for half in range(33, 46, 3):
        send("touchMove", -half, half)
    send("touchEnd")
    assert view(page)["scale"] == pytest.approx(1.5 * before["scale"], rel=0.02)
    np.testing.assert_allclose(on_screen(page, 15, 10), (x, y), atol=2)


def test_keys_move_and_zoom_and_what_is_there_is_read_out(page: Any):
    page.focus("#map")
    before = view(page)
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    after = view(page)
    assert after["scale"] == pytest.approx(1.5 * before["scale"])
    assert after["column"] > before["column"] and after["row"] == before["row"]
    assert "Probability of maize: 0." in page.inner_text("#live")
    page.keyboard.press("0")
    assert view(page) == before


def test_the_scale_bar_is_as_long_as_it_says(page: Any):
    for _ in range(3):
        number, unit = page.inner_text("#scale").split()
        metres = float(number) * {"m": 1, "km": 1000}[unit]
        width = page.evaluate("parseFloat(document.getElementById('scale').style.width)")
        ends = f"[0, {width}].map((x) => degrees(view.column + x / across(), view.row)[1])"
        start, end = page.evaluate(ends)
        # 1 degree of longitude at the equator on WGS 84
        assert (end - start) * 111_319.5 == pytest.approx(metres, rel=1e-3)
        page.click("#closer")
        page.wait_for_timeout(50)


def test_nothing_is_wider_than_the_window_and_layers_change(page: Any):
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    box = page.locator("#map").bounding_box()
    pictures = set()
    for band in BANDS:
        page.check(f"input[value={band}]")
        page.wait_for_timeout(50)
        pictures.add(
            page.screenshot(clip={name: box[name] for name in ("x", "y", "width", "height")})
        )
    assert len(pictures) == 4
    page.uncheck("#points")
    page.uncheck("#unlike")
    page.locator("#opacity").fill("0")
    page.wait_for_timeout(50)
    colour = page.evaluate(
        "[...paint.getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data]"
    )
    assert colour == [0x59, 0x59, 0x59, 255]
