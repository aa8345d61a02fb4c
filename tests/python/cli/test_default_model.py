"""A model to start from: made by one command, then found by its name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timl
from exports import bands, write_export
from test_cli import run
from timl.data.download.record import PAPER_RECORD, RECORD_FILES
from timl.nn import load_pretrained
from timl.nn.checkpoint import CONFIGURATION, WEIGHTS
from timl.normalization import read_normalization
from zenodo_server import RECORD, Server

OPTIONS = {"epochs": 2, "kernel_steps": 1, "progress": False}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache of this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "timl"


def test_it_is_made_from_the_downloaded_record_and_found_by_name(
    benchmarked_world: Path, server: Server, cache: Path
) -> None:
    server.files = {name: (benchmarked_world / name).read_bytes() for name in RECORD_FILES}
    made = run(
        "model", "--epochs", 2, "--kernel-steps", 1, "--base-url", server.url, "--quiet",
        "--record", RECORD, "--regions", benchmarked_world / "regions.json",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    folder = cache / "models" / "default"
    assert str(folder) in made.stdout.replace("\n", "")
    card = (folder / "model-card.md").read_text()
    assert "2 of 2 epochs" in card
    model = timl.TIML.from_pretrained("default")
    assert model.deep_kernel is not None and model.normalization is not None
    asked = len(server.requests)
    again = run("model", "--epochs", 2, "--kernel-steps", 1, "--quiet", "--record", RECORD,
                "--regions", benchmarked_world / "regions.json")  # fmt: skip
    assert again.exit_code == 0 and len(server.requests) == asked
    task = timl.CropHarvest(benchmarked_world).benchmarks[0]
    by_name, by_model = timl.finetune("default", task), timl.finetune(model, task)
    x, y = task.train_arrays()
    np.testing.assert_array_equal(
        timl.evaluation.probabilities(by_name, x), timl.evaluation.probabilities(by_model, x)
    )
    measured = x * task.data.std + task.data.mean
    estimator = timl.CropClassifier("default", random_state=0).fit(measured, y)
    assert isinstance(estimator.classifier_, timl.nn.StrongClassifier)
    tuned = run("finetune", "--model", "default", "--data", benchmarked_world,
                "--benchmark", task.name, "--out", cache.parent / "clf")  # fmt: skip
    assert tuned.exit_code == 0, tuned.output
    refused = run("finetune", "--model", "default", "--data", benchmarked_world,
                  "--benchmark", task.name, "--out", folder)  # fmt: skip
    assert refused.exit_code == 2 and "would replace" in refused.stderr


def test_a_stopped_run_goes_on_to_the_same_model(
    benchmarked_world: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = timl.make_model(benchmarked_world, "whole", **OPTIONS)

    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("timl.meta.training.learn_deep_kernel", stop)
        with pytest.raises(KeyboardInterrupt):
            timl.make_model(benchmarked_world, "stopped", **OPTIONS)
    with pytest.raises(FileNotFoundError, match="timl model --name stopped"):
        load_pretrained("stopped")
    stopped = timl.make_model(benchmarked_world, "stopped", **OPTIONS)
    assert (stopped / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    with pytest.raises(ValueError, match="epochs"):
        timl.make_model(benchmarked_world, "whole", **{**OPTIONS, "epochs": 3})


def test_without_internet_the_message_says_what_to_copy_where(
    benchmarked_world: Path, cache: Path
) -> None:
    nothing = run("model", "--base-url", "http://127.0.0.1:9", "--quiet")
    assert nothing.exit_code == 2 and nothing.stderr.count("\n") == 1
    for wanted in ("labels.geojson", f"record-{PAPER_RECORD}", "models/default"):
        assert wanted in nothing.stderr
    with pytest.raises(FileNotFoundError, match=f"copy the folder .* to {cache}/models/default"):
        timl.TIML.from_pretrained("default")
    made = timl.make_model(benchmarked_world, "elsewhere", **OPTIONS)
    copied = cache / "models" / "copied"
    copied.mkdir()
    for name in (WEIGHTS, CONFIGURATION):
        shutil.copy(made / name, copied / name)
    assert isinstance(load_pretrained("copied"), timl.TIML)
    content = bytearray((copied / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (copied / WEIGHTS).write_bytes(content)
    with pytest.raises(ValueError, match="checksum differs"):
        load_pretrained("copied")
    with pytest.raises(ValueError, match=r"name is .\.\./x"):
        timl.make_model(benchmarked_world, "../x", **OPTIONS)
    with pytest.raises(ValueError, match="device is 'gpu': give 'cpu', 'cuda' or"):
        timl.make_model(benchmarked_world, "other", device="gpu", **OPTIONS)


def test_a_folder_of_the_name_comes_first(cache: Path) -> None:
    timl.TIML(hidden=8).save_pretrained("mine")
    assert load_pretrained("mine").configuration()["hidden"] == 8


def test_the_authors_models_are_used_with_statistics_of_the_record(
    shared_data: Path, benchmarked_world: Path, tmp_path: Path
) -> None:
    published = shared_data / "upstream_weights"
    if not published.exists():
        pytest.skip(f"no published weights: {published} is absent")
    pytest.importorskip("rasterio")
    export = write_export(tmp_path / "e" / "a_2019-02-06_2020-02-01.tif", bands(2, 2))
    table = pd.DataFrame({"lat": [], "lon": []})
    with pytest.raises(ValueError, match=r"normalizing_dict\.h5 beside the authors' files"):
        timl.data.own_points(table, export, like=published)
    world = timl.CropHarvest(benchmarked_world)
    given = timl.TIML.from_pretrained(published, statistics=world)
    np.testing.assert_array_equal(given.normalization["mean"], world.mean)
    folder = tmp_path / "authors"
    shutil.copytree(published, folder)
    shutil.copy(shared_data / "cropharvest" / "normalizing_dict.h5", folder)
    model = timl.TIML.from_pretrained(folder)
    stored = read_normalization(folder)
    assert stored["ndvi"] == model.normalization["ndvi"] == "record"
    with pytest.raises(ValueError, match="leave statistics out"):
        timl.TIML.from_pretrained(folder, statistics=world)
    classifier = timl.finetune(folder, world.benchmarks[0], steps=1, k=2)
    assert isinstance(classifier, timl.nn.Classifier)
    (folder / "normalizing_dict.h5").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is no file of statistics"):
        timl.TIML.from_pretrained(folder)
