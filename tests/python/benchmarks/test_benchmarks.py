"""The benchmark programs run, check before they time, and refuse to time what is wrong."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a benchmark with options, and return what it prints: it measures in another process."""

    def by_name(name: str, *options: object) -> str:
        monkeypatch.syspath_prepend(str(BENCHMARKS))
        monkeypatch.setattr(sys, "argv", [name, *map(str, options)])
        importlib.import_module(name).main()
        return capsys.readouterr().out

    return by_name


def test_meta_step_checks_and_then_times_every_contender(
    run: Callable[..., str], tmp_path: Path
) -> None:
    written = tmp_path / "meta_step.json"
    options = ["--tasks", 2, "--repeats", 1, "--threads", 1, "--skip", "compile,jax"]
    shown = run("meta_step", *options, "--no-sizes", "--json", written)
    assert "Checked: timl float64 is within" in shown
    for name in ("timl", "torch.func, eager", "module-cloning MAML"):
        assert f"| {name} " in shown

    (report,) = json.loads(written.read_text())
    assert report["twin_error"] < 1e-9
    assert report["first_order_distance"] > 1e-2
    for row in report["rows"]:
        assert 0 < row["error"] < (1e-4 if row["name"] == "timl" else 1e-3)
        assert len(row["milliseconds"]) == 1


def test_a_peer_without_its_second_order_part_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import meta_step
    from meta_batch import Sizes, draw
    from peers import Contender, Gradients, engine

    batch = draw(Sizes(tasks=1))

    def first_order(step_size: float) -> Gradients:
        result = engine.meta_gradient(batch, step_size, order=1)
        return Gradients(result.loss, result.weights_gradient, result.film_gradient)

    peer = Contender("first order", first_order, lambda result: result)
    with pytest.raises(meta_step.WrongGradientError, match="first order: relative error"):
        meta_step.checked(peer, meta_step.exact(batch), batch.sizes, meta_step.PEER_TOLERANCE)


def test_a_gradient_that_is_not_a_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import meta_step
    from meta_batch import Sizes, draw
    from peers import Gradients

    batch = draw(Sizes(tasks=1))
    want = meta_step.exact(batch)
    spoilt = want.film.clone()
    spoilt[0, -1] = torch.nan
    block, error = meta_step.worst(Gradients(want.loss, want.weights, spoilt), want, batch.sizes)
    assert block == "beta_2"
    with pytest.raises(meta_step.WrongGradientError):
        meta_step.require("peer", (block, error), meta_step.PEER_TOLERANCE)


def test_a_block_that_is_all_zeros_must_be_exactly_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one time step the hidden state is zero, and so is the gradient of its weights."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import meta_step
    from meta_batch import Sizes, draw
    from peers import engine

    batch = draw(Sizes(tasks=1, steps=1))
    want = meta_step.exact(batch)
    row = meta_step.checked(engine.contender(batch), want, batch.sizes, meta_step.TIML_TOLERANCE)
    assert 0 < row.error <= meta_step.TIML_TOLERANCE
    off = want._replace(weights=want.weights + 1e-30)
    assert dict(meta_step.block_errors(off, want, batch.sizes))["hidden_weight"] == float("inf")


def test_strong_checks_and_then_times_every_contender(
    run: Callable[..., str], tmp_path: Path
) -> None:
    written = tmp_path / "strong.json"
    run(
        "strong", "--series", 300, "--labels", 30, "--repeats", 1, "--threads", 1, "--json", written
    )
    (report,) = json.loads(written.read_text())
    errors = {row["name"]: row["error"] for row in report["rows"]}
    assert errors["network_evaluate"] is None and len(errors) == 5
    assert 0 < errors["strong, 30 labels, distances"] < 1e-4


def test_strong_refuses_to_time_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import strong

    logits = torch.linspace(-1, 1, 9)
    assert strong.checked("same", (logits,), (logits[:4].double(),)) < 1e-6
    for wrong in (logits * 1.001, logits * torch.nan):
        with pytest.raises(SystemExit, match="it is wrong"):
            strong.checked("it", (wrong,), (logits.double(),))


def test_film_lstm_checks_and_then_times_every_contender(
    run: Callable[..., str], tmp_path: Path
) -> None:
    written = tmp_path / "film_lstm.json"
    options = ["--batch", 24, "--repeats", 1, "--threads", 1, "--skip", "compile"]
    run("film_lstm", *options, "--json", written)
    (report,) = json.loads(written.read_text())
    assert report["first_order_distance"] > 1e-3
    higher = importlib.util.find_spec("higher") is not None
    assert len(report["rows"]) == 4 * 3 + 2 + 3 * higher
    assert all(0 < row["error"] < 1e-4 for row in report["rows"])


def test_the_gpu_benchmark_checks_and_times_where_it_is_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    written = tmp_path / "gpu.json"
    small = ["--tasks", "2", "--series", "64", "--batch", "24", "--repeats", "1"]
    gpu.main(["--device", "cpu", *small, "--skip", "compile,jax", "--json", str(written)])
    report = json.loads(written.read_text())
    assert [len(rows) for rows in report.values()] == [2, 1, 2, *[3] * gpu.LAYER_WORKS]
    for row in (row for rows in report.values() for row in rows):
        assert len(row["milliseconds"]) == 1 and (row["error"] or 0) < 1e-4
    assert "| torch.func, eager " in capsys.readouterr().out
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit, match="no GPU: PyTorch finds none"):
            gpu.main([])


def test_the_report_of_a_gpu_says_which_step_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS.parent / "tools"))
    import gpu_report

    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    names = list(gpu_report.commands(tmp_path))
    assert names[0] == "C++ tests" and names[-2:] == ["Python tests", "benchmark"]
    assert sum(name.startswith("compute-sanitizer") for name in names) == 4
    steps = [
        gpu_report.run(name, [sys.executable, "-c", code], tmp_path)
        for name, code in (
            ("Python tests", "print('2 passed | 1 skipped')"),
            ("benchmark", "import sys; print('| timl | 0.4 |'); sys.exit(3)"),
        )
    ]
    text = gpu_report.report(steps, {"GPU": "H100"})
    assert re.search(r"\| Python tests \| passed \| \d+ \| 2 passed / 1 skipped \|", text)
    assert re.search(r"\| benchmark \| failed \(3\) \| \d+ \|", text)
    assert text.endswith("| timl | 0.4 |\n")
    assert "- GPU: H100\n" in text and "compute-sanitizer is not installed" in text
    assert (tmp_path / "Python-tests.log").read_text() == "2 passed | 1 skipped\n"


def test_the_cycles_of_a_loop_are_its_instructions_times_how_often_it_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS.parent / "tools"))
    import cuda_cycles

    body = ["FFMA R1, R2, R3, R1"] * 160 + ["LDS.128 R4, [R5]"] * 28 + ["IADD3 R5, R5, 1, RZ"] * 3
    lines = [*body, "@P0 BRA 0x0", "EXIT"]
    code = "".join(f"        /*{16 * i:04x}*/   {text} ;\n" for i, text in enumerate(lines))
    loops = cuda_cycles.loops_of(f"\t\tFunction : _ZN12lstm_forward_kernelIfEEv\n{code}")
    (loop,) = loops["lstm_forward"]
    assert loop.size == 192 and loop.ops["LDS.128"] == 28
    # 2 x 32 tiles, so 4 threads share a depth of 148: 10 fours each, on 8 warps of 4 schedulers.
    product = cuda_cycles.Product(20, 128, [148])
    assert product.cycles([loop]) == (10 * 192 * 8 / 4, 2 * 256 * 40 / 32)
