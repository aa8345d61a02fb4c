"""Chips of several dates: the published layout, its pixels, and their simulation."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import timl
from timl.data import Chip, chip_pixels, open_chips, raster_labels, simulate_chips
from timl.data.chips import CHIP_BANDS, CHIP_CLASSES, CHIP_KINDS
from timl.meta import pretrain
from timl.nn import Classifier

rasterio = pytest.importorskip("rasterio")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_chips(tmp_path_factory.mktemp("simulated") / "chips", 4, 2, size=64, seed=0)


@pytest.fixture(scope="module")
def chips(folder: Path) -> list[Chip]:
    return open_chips(folder)


def test_a_chip_is_written_and_read_as_published(folder: Path, chips: list[Chip]) -> None:
    assert [chip.name for chip in chips] == (folder / "training_data.txt").read_text().split()
    chip = chips[0]
    with rasterio.open(folder / "training_chips" / f"{chip.name}_merged.tif") as file:
        raw, kind = file.read(), file.dtypes[0]
        assert (file.crs.to_epsg(), file.res) == (5070, (30, 30))
    with rasterio.open(folder / "training_chips" / f"{chip.name}.mask.tif") as file:
        mask = file.read(1)
    assert (raw.shape, kind) == ((18, 64, 64), "int16")
    assert set(np.unique(mask)) <= {0, *CHIP_CLASSES}
    series = chip.series()
    assert series.shape == (64, 64, 3, 6)
    for step, band in np.ndindex(3, 6):  # all bands of the first date first
        expected = np.where(raw[6 * step + band] == -9999, np.nan, raw[6 * step + band])
        np.testing.assert_array_equal(series[:, :, step, band], expected)
    np.testing.assert_array_equal(chip.labels(), mask.astype(int) - 1)
    assert (chip.labels()[np.isnan(series).any(axis=(2, 3))] == -1).all()
    assert len(chip.class_names) == 13 and set(CHIP_KINDS) == set(chip.class_names)


def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(
    folder: Path, tmp_path: Path
) -> None:
    again = simulate_chips(tmp_path / "again", 4, 2, size=64, seed=0)
    other = simulate_chips(tmp_path / "other", 4, 2, size=64, seed=1)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.tif"))
    assert len(files) == 12
    assert all((again / f).read_bytes() == (folder / f).read_bytes() for f in files)
    assert not (other / files[0]).exists() or (
        (other / files[0]).read_bytes() != (folder / files[0]).read_bytes()
    )
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"notes\.txt"):
        simulate_chips(tmp_path / "other", 1, 1, size=64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"training": 0}, "training is 0"),
        ({"validation": 900}, "at most 900 chips"),
        ({"size": 63}, "size is 63"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_simulations_out_of_range(tmp_path: Path, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate_chips(tmp_path / "chips", **arguments)
    with pytest.raises(TypeError, match=r"size is 64\.5"):
        simulate_chips(tmp_path / "chips", size=64.5)  # type: ignore[arg-type]


def test_lists_choose_the_chips_and_are_not_needed(folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "chips"
    shutil.copytree(folder, copied)
    listed = copied / "training_data.txt"
    names = listed.read_text().split()
    (copied / "training_chips" / "training_data.txt").write_text(f"{names[1]}\n\n{names[0]}\n")
    assert len(open_chips(copied)) == 4  # that of the folder counts first
    listed.unlink()
    assert [chip.name for chip in open_chips(copied)] == names[:2]
    (copied / "training_chips" / "training_data.txt").unlink()
    assert [chip.name for chip in open_chips(copied)] == names
    listed.write_text(f"{names[0]}\n{names[0]}\n")
    with pytest.raises(ValueError, match=f"names {names[0]} twice"):
        open_chips(copied)
    for wrong in ("chip_999_999", f"../validation_chips/{names[0]}"):
        listed.write_text(wrong)
        with pytest.raises(FileNotFoundError, match="does not exist, for a chip of training"):
            open_chips(copied)
    with pytest.raises(FileNotFoundError, match="without the folder training_chips"):
        open_chips(tmp_path)
    with pytest.raises(ValueError, match="part is 'test'"):
        open_chips(copied, "test")  # type: ignore[arg-type]


def test_pixels_of_chips_are_a_data_set_with_a_region_each(chips: list[Chip]) -> None:
    data = chip_pixels(chips, 20, erosion=1, seed=3)
    again = chip_pixels(chips, 20, erosion=1, seed=3)
    assert data.checksum == again.checksum != chip_pixels(chips, 20, erosion=1).checksum
    assert data.series(np.arange(len(data))).shape == (len(data), 3, 6)
    np.testing.assert_allclose(data.series(np.arange(len(data))).mean((0, 1)), 0, atol=1e-4)
    table = data.labels
    for number, chip in enumerate(chips):
        own = table[table["chip"] == number]
        assert own.groupby("label").size().max() <= 20
        rows, columns = own["row"].to_numpy(), own["column"].to_numpy()
        x = data.series(own["position"].to_numpy(), normalize=False)
        np.testing.assert_array_equal(x, chip.series()[rows, columns])
        codes = chip.labels(erosion=1)[rows, columns]
        np.testing.assert_array_equal(codes, data.codes[own["position"].to_numpy()])
        inside = chip.region.contains(own["lat"].to_numpy(), own["lon"].to_numpy())
        assert inside.all()


def test_one_chip_is_one_region_of_nway_tasks(chips: list[Chip]) -> None:
    data = chip_pixels(chips, 12)
    tasks = data.nway_tasks(3, k=4, query=8)
    assert [task.bounding_box.name for task in tasks] == [chip.name for chip in chips]
    for number in range(len(tasks)):
        for name, positions in zip(tasks[number].classes, tasks.samples(number), strict=True):
            own = data.labels.iloc[positions]
            assert set(own["chip"]) == {number} and set(own["label"]) == {name}
    model = timl.TIML(bands=6, steps=3, hidden=8, outputs=3, encoder=False)
    timl.meta_train(
        model, tasks, epochs=2, k=4, query=8, inner_lr=0.1, kernel_steps=0, progress=False
    )
    with pytest.raises(ValueError, match="no chip has 14 classes of 12 pixels"):
        data.nway_tasks(14, k=4, query=8)
    with pytest.raises(ValueError, match="ways is 1"):
        data.nway_tasks(1)


def test_a_chip_and_its_mask_are_a_task_of_few_labels(chips: list[Chip]) -> None:
    data = chip_pixels(chips, 5)
    chip = chips[1]
    task = raster_labels(
        chip.required_mask, chip, CHIP_CLASSES, like=data, per_class=3, test_per_class=9,
        block_m=300, distance_m=60, lacking="leave out", classification_labels=CHIP_KINDS,
    )  # fmt: skip
    rows, columns = (task.data.labels[at].to_numpy() for at in ("row", "column"))
    kept = task.data.labels["is_test"].to_numpy() == 0
    expected = (chip.series()[rows[kept], columns[kept]] - data.mean) / data.std
    np.testing.assert_allclose(task.train_arrays()[0], expected, rtol=1e-5, atol=1e-5)
    classifier = timl.finetune(Classifier(6, 3, 8), task, steps=2, k=2, protocol="paper")
    assert timl.evaluate(classifier, task).classes == task.classes
    with pytest.raises(ValueError, match="like is a Classifier, which tells no statistics"):
        raster_labels(chip.required_mask, chip, CHIP_CLASSES, like=Classifier(6, 3, 8), per_class=3)


def test_a_network_learns_all_classes_of_the_pixels_it_is_trained_on(chips: list[Chip]) -> None:
    data = chip_pixels(chips, 30, seed=0)
    if len(set(data.codes.tolist())) < 13:  # four small chips need not have all classes
        with pytest.raises(ValueError, match="chips is 4 chips, without a pixel of"):
            data.task()
    x, y = data.series(np.arange(len(data))), data.codes
    with timl.nn.seeded(0):
        network = Classifier(6, 3, 16, outputs=13)
    pretrain(network, x, y, batch=32, epochs=12)
    found = timl.evaluation.probabilities(network, x).argmax(axis=1)
    assert (found == y).mean() > 0.6
    with pytest.raises(ValueError, match="y is 13"):
        pretrain(network, x, np.full(len(x), 13))


def test_chips_that_do_not_fit(chips: list[Chip], tmp_path: Path) -> None:
    chip = chips[0]
    with pytest.raises(ValueError, match=r"of 18 bands: give a multiple of the 4 bands"):
        Chip(chip.image, chip.mask, ("a", "b", "c", "d")).series()
    assert Chip(chip.image, bands=CHIP_BANDS[:3]).series().shape == (64, 64, 6, 3)
    with pytest.raises(FileNotFoundError, match="has no mask"):
        Chip(chip.image).labels()
    with pytest.raises(ValueError, match=r"labels is .* and source is .*give labels on the source"):
        Chip(chip.image, chips[1].mask).labels()
    with pytest.raises(ValueError, match="an empty list"):
        chip_pixels([], 3)
    with pytest.raises(ValueError, match="give chips of the same classes"):
        chip_pixels([chip, Chip(chip.image, chip.mask, classes={1: "a", 2: "b"})], 3)
    with pytest.raises(ValueError, match="give chips of the same dates"):
        chip_pixels([chip, Chip(chip.image, chip.mask, CHIP_BANDS[:3])], 3)
    damaged = tmp_path / "chip_merged.tif"
    damaged.write_bytes(chip.image.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"which is (damaged|no readable GeoTIFF)"):
        Chip(damaged).series()
