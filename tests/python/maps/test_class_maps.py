"""Maps of several classes: bands, colours and names of the classes, and their areas."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import exports
import numpy as np
import pandas as pd
import pytest
import rasterio
import timl
import torch
from map_files import TAGS, made_bands, write_map
from timl.area import assess_map, open_map
from timl.cli import app
from timl.data.sources import windows
from timl.data.sources.grid import Grid
from timl.evaluation.prevalence import classes_at_prevalence
from timl.maps import MapFiles, predict_map
from timl.maps.drawing.legend import CLASS_COLOURS, NO_DATA_COLOUR, layers_of
from timl.maps.drawing.map_file import read_map_file, read_shrunk
from timl.maps.drawing.page import write_page
from timl.maps.drawing.quicklook import write_quicklook
from timl.maps.drawing.stac import write_stac_item
from timl.maps.writing import Parts, write_classes
from timl.meta import fit_strong_classes, unlearned_kernel
from timl.nn import Classifier, StrongClassifier
from typer.testing import CliRunner

HOSTILE = "</script><b>{0} & $x^2$"
NAMES = ["maize", HOSTILE, "winter wheat", "Öl/rape"]


def several(hidden: int = 8, seed: int = 0) -> Classifier:
    """Classifier of four classes with random weights, whose series start in February."""
    with timl.nn.seeded(seed):
        made = Classifier(hidden=hidden, outputs=4).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(3)
    made.normalization = {
        "mean": np.linspace(1000, 3000, 18),
        "std": np.linspace(900, 1500, 18),
        "ndvi": "true",
        "start_months": [2],
    }
    return made


def strong() -> StrongClassifier:
    """Classifier of the strong protocol of four classes, fitted to noise."""
    normalization = several().normalization
    assert normalization is not None
    x = np.random.default_rng(0).normal(size=(40, 12, 18)).astype(np.float32)
    return fit_strong_classes(
        unlearned_kernel(x, normalization), x, np.arange(40) % 4, NAMES, normalization=normalization
    )


def read(files: MapFiles) -> dict[str, np.ndarray]:
    """Return a map's bands by name."""
    with rasterio.open(files.map) as file:
        return dict(zip(file.descriptions, file.read(), strict=True))


@pytest.mark.usefixtures("empty_pictures")
def test_each_pixel_has_its_most_probable_class(export: Path, tmp_path: Path):
    classifier, other = several(), several(seed=1)
    files = predict_map(
        classifier, export, tmp_path / "m.tif", classes=NAMES, ensemble=[classifier, other],
        progress=False,
    )  # fmt: skip
    bands = read(files)
    own = [f"probability_{name}" for name in NAMES]
    assert list(bands) == ["probability", "class", "uncertainty", *own]
    missing = np.isnan(bands["class"])
    assert missing.sum() == 1 and all(np.isnan(band[missing]).all() for band in bands.values())
    each, mapped = np.stack([bands[name] for name in own]), bands["class"][~missing].astype(int)
    np.testing.assert_allclose(each[:, ~missing].sum(axis=0), 1, atol=1e-6)
    np.testing.assert_array_equal(mapped, each[:, ~missing].argmax(axis=0))
    np.testing.assert_array_equal(bands["probability"], each.max(axis=0))
    assert len(np.unique(mapped)) > 1
    alone = read(predict_map(other, export, tmp_path / "o.tif", classes=NAMES, progress=False))
    theirs = np.stack([alone[name] for name in own])[:, ~missing]
    half = np.abs(theirs[mapped, np.arange(len(mapped))] - bands["probability"][~missing]) / 2
    np.testing.assert_allclose(bands["uncertainty"][~missing], half, atol=1e-6)


@pytest.mark.usefixtures("empty_pictures")
@pytest.mark.parametrize("protocol", ["paper", "strong"])
def test_neither_windows_nor_threads_nor_dask_change_a_bit(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
):
    classifier = several() if protocol == "paper" else strong()
    classes = NAMES if protocol == "paper" else None
    whole = read(predict_map(classifier, export, tmp_path / "a.tif", classes=classes,
                             workers=1, progress=False))  # fmt: skip
    assert ("unlike" in whole) == (protocol == "strong")
    lazy = predict_map(classifier, export, classes=classes)
    assert lazy["class"].attrs["classes"] == NAMES
    monkeypatch.setattr(windows, "_PIXELS", 170)
    small = read(predict_map(classifier, export, tmp_path / "b.tif", classes=classes,
                             workers=3, progress=False))  # fmt: skip
    for name, band in whole.items():
        np.testing.assert_array_equal(band, small[name])
        np.testing.assert_array_equal(band, lazy[name].to_numpy())


@pytest.mark.usefixtures("empty_pictures")
def test_class_probabilities_may_be_left_out(export: Path, tmp_path: Path):
    out, stated = tmp_path / "m.tif", dict(zip(NAMES, (0.1, 0.2, 0.3, 0.4), strict=True))
    whole = read(predict_map(several(), export, out, classes=NAMES, progress=False))
    files = predict_map(
        several(), export, out, classes=NAMES, class_probabilities=False, prevalence=stated,
        progress=False,
    )  # fmt: skip
    bands = read(files)
    assert list(bands) == ["probability", "class"]
    even = np.stack([whole[f"probability_{name}"] for name in NAMES]).astype(np.float64)
    shifted = even * np.array(list(stated.values()))[:, None, None]  # Bayes' theorem
    shifted /= shifted.sum(axis=0)
    np.testing.assert_allclose(bands["probability"], shifted.max(axis=0), atol=1e-5)
    described = read_map_file(files.map)
    assert described.prevalence == stated and described.target == "crop types"
    assert any(f"0.1 maize, 0.2 {HOSTILE}" in text for text in described.origin)


def test_the_classes_alone_have_colours_and_names_for_a_gis(tmp_path: Path):
    validate = pytest.importorskip("rio_cogeo").cog_validate
    from rasterio.shutil import copy

    rows, columns = np.mgrid[:600, :600]
    mapped = ((rows // 9 + columns // 7) % 4).astype(np.float32)
    mapped[:9] = np.nan
    window = windows.Window(0, 0, 600, 600)
    path = tmp_path / "m.classes.tif"
    parts = Parts(path, {}, [window])
    parts.write(0, np.stack([np.full_like(mapped, 0.5), mapped]))
    grid = Grid(
        rasterio.crs.CRS.from_epsg(32636), rasterio.Affine(10, 0, 5e5, 0, -10, 1e5), 600, 600
    )
    write_classes(path, parts, grid, 1, NAMES, {}, 1)
    valid, errors, warned = validate(path, quiet=True)
    assert valid and not errors and not warned
    with rasterio.open(path) as file:
        assert file.dtypes == ("uint8",) and file.nodata == 255 and file.overviews(1)
        np.testing.assert_array_equal(file.read(1), np.nan_to_num(mapped, nan=255))
        assert set(np.unique(file.read(1, out_shape=(300, 300)))) == {0, 1, 2, 3, 255}
        table = [file.colormap(1)[value] for value in range(4)]
    assert table == [(*bytes.fromhex(colour[1:]), 255) for colour in CLASS_COLOURS[:4]]
    copy(path, tmp_path / "m.vrt", driver="VRT")  # it tells what GDAL knows of the file
    names = ElementTree.parse(tmp_path / "m.vrt").iter("Category")
    assert [element.text for element in names] == NAMES


@pytest.mark.usefixtures("empty_pictures")
def test_a_stopped_map_is_made_whole(export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from timl.maps import predict

    def stop(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(predict, "write_classes", stop)
        predict_map(several(), export, tmp_path / "m.tif", classes=NAMES, progress=False)
    assert (tmp_path / ".m.tif.parts").is_dir()
    predict_map(several(), export, tmp_path / "m.tif", classes=NAMES, progress=False)
    beside = ("classes.tif", "classes.tif.aux.xml", "html", "json", "png", "tif")
    found = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert found == {f"m.{kind}" for kind in beside}


def test_picture_page_and_item_show_the_classes_in_the_same_colours(export: Path, tmp_path: Path):
    Image = pytest.importorskip("PIL.Image")
    lat, lon = exports.centre(5, 5)
    points = pd.DataFrame({"lat": [lat] * 2, "lon": [lon] * 2, "label": [NAMES[1], NAMES[0]]})
    files = predict_map(
        several(), export, tmp_path / "m.tif", classes=NAMES, points=points, progress=False
    )
    mapped = read(files)["class"]
    present = np.unique(mapped[~np.isnan(mapped)]).astype(int)
    with Image.open(files.quicklook) as picture:
        shown = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}
    assert {tuple(bytes.fromhex(CLASS_COLOURS[number][1:])) for number in present} <= shown
    text = files.page.read_text(encoding="utf-8")
    (script,) = re.findall(r'id="data">(.*?)</script>', text)
    data = json.loads(script)
    assert [layer["band"] for layer in data["layers"]] == ["class", "probability"]
    assert data["layers"][0]["classes"] == NAMES and HOSTILE not in text
    assert [kind["name"] for kind in data["kinds"]] == NAMES
    palette = ["#{:02X}{:02X}{:02X}".format(*colour) for colour in data["layers"][0]["palette"]]
    assert palette == [kind["colour"] for kind in data["kinds"]] == list(CLASS_COLOURS[:4])
    assert [point["kind"] for point in data["points"]] == [1, 0]
    item = json.loads(files.item.read_text(encoding="utf-8"))
    assert item["properties"]["timl:classes"] == NAMES
    (alone,) = item["assets"]["classes"]["bands"]
    assert (alone["data_type"], alone["nodata"]) == ("uint8", 255)
    bands = {band["name"]: band for band in item["assets"]["map"]["bands"]}
    for listed in (bands["class"], alone):
        kinds = listed["classification:classes"]
        assert [kind["title"] for kind in kinds] == NAMES
        assert [f"#{kind['color_hint']}" for kind in kinds] == list(CLASS_COLOURS[:4])
        assert all(re.fullmatch("[0-9A-Za-z_-]+", kind["name"]) for kind in kinds)
    assert bands["probability_maize"]["description"] == "Probability that the pixel is maize."


def class_map(path: Path, classes: np.ndarray, names: list[str], **tags: str) -> Path:
    """Write a map of classes without the files beside it."""
    bands = {"probability": np.full(classes.shape, 0.5, np.float32), "class": classes}
    several = {"TIML_CLASSES": json.dumps(names), "TIML_CREATED": "2026-02-03T10:11:12Z"}
    return write_map(path, bands, tags=several | tags)


def test_a_shrunk_map_has_the_most_frequent_class(tmp_path: Path):
    classes = np.random.default_rng(0).choice(4, (60, 90), p=[0.1, 0.1, 0.2, 0.6])
    classes = classes.astype(np.float32)
    classes[:, :9] = np.nan
    classes[:, 9:10] = np.nan  # a third of the next cells
    _, _, bands = read_shrunk(class_map(tmp_path / "m.tif", classes, NAMES), 30)
    blocks = classes.reshape(20, 3, 30, 3).swapaxes(1, 2).reshape(20, 30, 9)
    counts = np.stack([(blocks == number).sum(-1) for number in range(4)])
    ordered = np.sort(counts, axis=0)
    clear = ordered[-1] > ordered[-2]
    assert np.isnan(bands["class"][:, :3]).all() and clear[:, 3:].sum() > 400
    np.testing.assert_array_equal(bands["class"][clear], counts.argmax(axis=0)[clear])


@pytest.mark.parametrize("count", [2, 13, 32])
def test_any_number_of_classes_to_32_is_drawn(tmp_path: Path, count: int):
    classes = (np.arange(400) % count).reshape(20, 20).astype(np.float32)
    names = [f"class {number} with a name that is long" for number in range(count)]
    path = class_map(tmp_path / "m.tif", classes, names)
    write_quicklook(path, tmp_path / "m.png")
    write_page(path, tmp_path / "m.html")
    write_stac_item(path, tmp_path / "m.json")
    assert len(layers_of(names)["class"].palette()) == count


def test_class_colours_can_be_told_apart_without_red_or_green():
    from test_map_file import SIGHTS, lab, linear

    for sight in SIGHTS.values():
        colours = [bytes.fromhex(colour[1:]) for colour in (*CLASS_COLOURS, NO_DATA_COLOUR)]
        seen = lab(np.clip(linear(colours) @ np.array(sight).T, 0, 1))
        apart = np.linalg.norm(seen[:, None] - seen, axis=-1) + 100 * np.eye(len(seen))
        assert apart.min() > 13 and apart[:16, :16].min() > 17 - 0.05


def test_areas_have_the_names_of_the_classes(tmp_path: Path):
    classes = (np.arange(3600) % 3).reshape(60, 60).astype(np.float32)
    path = class_map(tmp_path / "m.tif", classes, ["maize", "wheat", "fallow"])
    with open_map(path) as opened:
        assert opened.names == {0: "maize", 1: "wheat", 2: "fallow"}
    folder = tmp_path / "sample"
    drawn = CliRunner().invoke(
        app, ["sample", "--map", str(path), "--out", str(folder), "--size", "90"]
    )
    assert drawn.exit_code == 0 and "class 1 (wheat): 30 points" in drawn.output
    table = pd.read_csv(folder / "sample.csv")
    with open_map(path) as opened:
        names = opened.names
        found = opened.classes_at(table["lat"].to_numpy(), table["lon"].to_numpy())
    truth = ["maize" if row % 10 == 0 else names[c or 0] for row, c in enumerate(found)]
    table.assign(reference=truth).to_csv(folder / "sample.csv", index=False)
    done = CliRunner().invoke(
        app, ["area", "--map", str(path), "--reference", str(folder / "sample.csv")]
    )
    assert done.exit_code == 0 and "wheat" in done.output
    result = assess_map(path, folder / "sample.csv").to_frame()
    assert {"maize", "wheat", "fallow"} <= set(result.index)
    assert result.loc["maize", "area"] > result.loc["wheat", "area"]
    table.assign(reference=["water", *truth[1:]]).to_csv(folder / "sample.csv", index=False)
    with pytest.raises(ValueError, match="class 'water': give one of"):
        assess_map(path, folder / "sample.csv")
    seen = assess_map(path, folder / "sample.csv", names={3: "water"}).to_frame()
    assert seen.loc["water", "area"] > 0 and {"maize", "wheat", "fallow"} <= set(seen.index)


def test_the_command_maps_with_a_classifier_of_several_classes(export: Path, tmp_path: Path):
    several().save_pretrained(tmp_path / "classifier")
    shares = "a=.4,b=.3,c=.2,d=.1"
    base = ["map", "--model", str(tmp_path / "classifier"), "--exports", str(export), "--quiet"]
    done = CliRunner().invoke(
        app,
        [*base, "--out", str(tmp_path / "m"), "--classes", "a, b,c,d", "--prevalence", shares,
         "--no-class-probabilities"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert read_map_file(tmp_path / "m" / "map.tif").classes == ("a", "b", "c", "d")
    for given, message in (
        ("much", "--prevalence is 'much': give a share"),
        ("a=.5,a=.5", "give each class once"),
    ):
        done = CliRunner().invoke(app, [*base, "--out", str(tmp_path / "n"), "--prevalence", given])
        assert done.exit_code != 0 and message in " ".join(done.output.split())


def test_classes_that_make_no_sense_are_refused(export: Path, tmp_path: Path):
    one, four, own = Classifier(hidden=8), several(), strong()
    one.normalization = four.normalization
    cases: list[tuple[Classifier | StrongClassifier, dict[str, object], str]] = [
        (four, {}, "classes is None for a classifier of 4 classes: give 4 names"),
        (four, {"classes": ["a", "b"]}, "give 4 names"),
        (four, {"classes": ["a", "b", "b", "c"]}, "all different"),
        (four, {"classes": ["a", "b", "c", "d\n"]}, "control characters"),
        (own, {"classes": ["a", "b", "c", "d"]}, "'winter wheat'"),
        (one, {"classes": ["a", "b"]}, "has one logit, of the positive class: leave it out"),
        (one, {"prevalence": {"a": 0.5, "b": 0.5}}, "give the share of the positive class"),
        (own, {"threshold": 0.3}, "threshold is 0.3, and the classifier is of the classes maize"),
        (own, {"calibration": timl.evaluation.prevalence.Calibration(1, 0.5)}, "calibration is"),
        (own, {"prevalence": 0.3}, "give a share of each, by name"),
        (own, {"prevalence": {"maize": 1.0}}, "prevalence is of maize: give the shares of maize"),
        (own, {"prevalence": dict.fromkeys(NAMES, 0.5)}, "2 in all: give shares"),
        (own, {"ensemble": [one]}, "give classifiers of the same classes"),
    ]
    for classifier, named, message in cases:
        with pytest.raises(ValueError, match=re.escape(message)):
            predict_map(classifier, export, tmp_path / "m.tif", progress=False, **named)  # type: ignore[call-overload]
    assert not (tmp_path / "m.tif").exists()
    points = pd.DataFrame({"lat": [1.0], "lon": [34.0], "label": ["rye"]})
    path = class_map(tmp_path / "c.tif", np.zeros((4, 4), np.float32), ["a", "b"])
    with pytest.raises(ValueError, match="label is 'rye' in row 0: give one of a, b"):
        write_page(path, tmp_path / "c.html", points=points)
    for tag in ("[1, 2]", '["a", "a"]', '["a"]', "no list", '{"a": 1}'):
        bad = write_map(tmp_path / "bad.tif", made_bands(2, 3), tags=TAGS | {"TIML_CLASSES": tag})
        with pytest.raises(ValueError, match=re.escape("bad.tif")):
            read_map_file(bad)


def test_shares_move_logits_by_bayes_rule():
    logits = np.random.default_rng(0).normal(size=(5, 3))
    shares = {"b": 0.5, "a": 0.3, "c": 0.2}
    moved = classes_at_prevalence(logits, ["a", "b", "c"], shares)
    odds = np.exp(moved - logits)
    np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), [[0.3, 0.5, 0.2]] * 5)
