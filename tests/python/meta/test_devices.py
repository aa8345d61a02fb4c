"""device="cuda": what runs there, agrees with the CPU and is read there again; and clear errors."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import timl
import torch
from made import SAMPLES, MadeData, made_task, made_tasks, small_model
from pretended_gpu import pretended_gpu, to_cpu
from timl.data import BenchmarkTask, CropTypeTask
from timl.meta import fit_strong, pretrain, unlearned_kernel
from timl.meta.ranks import Ranks
from timl.nn import Classifier, DeepKernel, StrongClassifier, checked_device, load_pretrained
from timl.nn.devices import device_of
from torch import Tensor

REAL = torch.cuda.is_available()
QUICK: dict[str, Any] = {
    "epochs": 3,
    "meta_batch": 3,
    "k": 3,
    "query": 4,
    "validation": 0.3,
    "best_window": 2,
    "kernel_steps": 0,
    "progress": False,
}


def require_agreement(module: torch.nn.Module, expected: torch.nn.Module) -> None:
    """All of a module is on the GPU, and has the other's values."""
    state, other = module.state_dict(), to_cpu(expected.state_dict())
    assert {tensor.device.type for tensor in state.values()} == {"cuda"}
    require_close(to_cpu(state), other)


def require_close(found: Any, expected: Any) -> None:
    """The same bits where the GPU is pretended, because the CPU computes them."""
    exact = {"rtol": 1e-3, "atol": 1e-4} if REAL else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(found, expected, **exact)


@pytest.fixture
def kernel() -> DeepKernel:
    data = MadeData(1, easy=1)
    plain = {"mean": data.mean, "std": data.std, "ndvi": "true"}
    return unlearned_kernel(data.x[:10], plain)  # type: ignore[arg-type]


@pytest.mark.skipif(REAL, reason="the GPU of this machine is not pretended")
def test_the_pretended_gpu_gives_the_errors_of_a_real_one() -> None:
    with pretended_gpu():
        there, here = torch.ones(3, device="cuda"), torch.ones(3)
        assert (there.device.type, (there + 1).device.type, here.device.type) == (
            "cuda",
            "cuda",
            "cpu",
        )
        for mixed in (
            lambda: there + here,
            lambda: torch.cat([there, here]),
            lambda: here[there.long()],
            lambda: there.numpy(),
            lambda: np.asarray(there),
        ):
            with pytest.raises((RuntimeError, TypeError), match="cuda:0"):
                mixed()
        there.copy_(2 * here)
        assert torch.equal(there[torch.tensor([0, 1])].cpu(), torch.full((2,), 2.0))
        there.mul_(torch.tensor(2.0))
        classifier = Classifier(3, 2, 4).cuda()
        with pytest.raises(ValueError, match=r"x is on cpu.*on cuda:0: move one"):
            classifier(torch.zeros(2, 2, 3))
        assert (classifier.eval()(torch.zeros(2, 2, 3).cuda()).device.type) == "cuda"
    assert there.device.type == "cpu"


@pytest.mark.parametrize("arguments", [{}, {"encoder": False, "append_information": True}])
def test_finetune_and_evaluate(
    gpu: str, benchmark_task: BenchmarkTask, tmp_path: Path, arguments: dict[str, Any]
) -> None:
    model = small_model(**arguments)
    options: dict[str, Any] = {"protocol": "paper", "steps": 4, "learning_rate": 0.1}
    here = timl.finetune(model, benchmark_task, **options)
    there = timl.finetune(model, benchmark_task, **options, device=gpu)
    require_agreement(there, here)
    assert device_of(model).type == "cpu"
    from_there = timl.finetune(model.to(gpu), benchmark_task, **options)
    require_agreement(from_there, here)

    x, y = benchmark_task.train_arrays()
    test = timl.data.TestInstance(x, y, np.zeros(len(x)), np.zeros(len(x)))
    scores = [
        timl.evaluate(here, test),
        timl.evaluate(here, test, device=gpu),
        timl.evaluate(there, test),
        timl.evaluate(there, test, device="cpu"),
    ]
    assert {score.auc_roc for score in scores} == {scores[0].auc_roc}
    assert device_of(here).type == "cpu" and device_of(there).type == "cuda"

    there.save_pretrained(tmp_path)
    read = load_pretrained(tmp_path)
    assert device_of(read).type == "cpu"
    require_close(to_cpu(dict(read.state_dict())), to_cpu(dict(there.state_dict())))


def test_finetune_of_several_classes(gpu: str) -> None:
    data, region, positions = MadeData(1, easy=1), made_task(0).bounding_box, np.arange(30)
    task = CropTypeTask(data, "made", region, ("maize", "rice", "rye"), positions, positions % 3)
    model = small_model()
    here = timl.finetune(model, task, protocol="paper", steps=2)
    require_agreement(timl.finetune(model, task, protocol="paper", steps=2, device=gpu), here)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"learned_steps": 1}, {"encoder": False, "append_information": True}],
)
def test_meta_train(gpu: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    here, there = small_model(**arguments), small_model(**arguments)
    timl.meta_train(here, made_tasks(), **QUICK)
    timl.meta_train(there, made_tasks(), **QUICK, device=gpu, out=tmp_path)
    require_agreement(there, here)
    assert device_of(timl.TIML.from_pretrained(tmp_path)).type == "cpu"

    again = small_model(**arguments)
    timl.meta_train(again, made_tasks(), **QUICK, device=gpu, out=tmp_path)  # from the checkpoint
    require_agreement(again, here)
    with pytest.raises(ValueError, match=r"is of a run with device = 'cuda' \(now None\)"):
        timl.meta_train(small_model(**arguments), made_tasks(), **QUICK, out=tmp_path)


def test_the_strong_classifier(gpu: str, kernel: DeepKernel, benchmark_task: BenchmarkTask) -> None:
    here = timl.finetune(kernel, benchmark_task)
    there = timl.finetune(kernel, benchmark_task, device=gpu)
    assert isinstance(here, StrongClassifier) and isinstance(there, StrongClassifier)
    require_agreement(there, here)
    x = torch.from_numpy(benchmark_task.train_arrays()[0])
    x[3, 4, 5] = torch.nan  # is completed
    found: tuple[Tensor, ...] = there.logits_and_distances(x.to(gpu))
    require_close(to_cpu(found), here.logits_and_distances(x))
    with pytest.raises(ValueError, match="x is on cpu"):
        there(x)
    data = MadeData(1, easy=1)
    fitted = fit_strong(
        kernel.to(gpu), data.x[:20], np.arange(20) % 2, normalization=here.normalization
    )
    assert device_of(fitted).type == "cuda"


def test_ensemble_and_pretraining(
    gpu: str, kernel: DeepKernel, benchmark_task: BenchmarkTask
) -> None:
    members = timl.finetune_ensemble(kernel, benchmark_task, 2, device=gpu)
    assert {device_of(member).type for member in members} == {"cuda"}
    model = small_model()
    data = MadeData(2, easy=2)
    here = model.for_task(np.zeros(13))
    there = model.for_task(np.zeros(13)).to(gpu)
    for classifier in (here, there):
        pretrain(classifier, data.x, np.arange(len(data.x)) % 2, epochs=2)
    require_agreement(there, here)


@pytest.mark.parametrize(
    ("device", "match"),
    [
        ("gpu", "device is 'gpu': give 'cpu', 'cuda' or 'cuda:1'"),
        (1.5, "device is 1.5: give"),
        ("meta", "device is 'meta', where timl does not compute: give 'cpu' or 'cuda'"),
        ("cuda:7", "device is 'cuda:7', and there is 1 GPU: give 'cuda:0'"),
    ],
)
@pytest.mark.skipif(REAL, reason="this machine may have several GPUs")
def test_other_devices_are_refused(gpu: str, device: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        checked_device(device)


def test_each_process_of_a_machine_has_a_gpu_of_its_own(
    gpu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks = Ranks()
    ranks.count = 4
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert [str(ranks.device(name)) for name in ("cuda", "cuda:0", "cpu")] == [
        "cuda:1", "cuda:0", "cpu",
    ]  # fmt: skip
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match=r"has 2 GPUs: start as many .* --nproc-per-node 2"):
        ranks.device("cuda")


def test_processes_with_gpus_need_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = Ranks()
    ranks.count, there = 2, torch.device("cuda", 0)
    for backends, accepted in (("cpu:gloo,cuda:gloo", False), ("cpu:gloo,cuda:nccl", True)):
        monkeypatch.setattr(torch.distributed, "get_backend_config", lambda b=backends: b)
        with nullcontext() if accepted else pytest.raises(ValueError, match="cpu:gloo,cuda:nccl"):
            ranks.require_exchange(there)
        ranks.require_exchange(torch.device("cpu"))


@pytest.mark.skipif(REAL, reason="this machine has a GPU")
@pytest.mark.parametrize(
    ("built", "torch_built", "match"),
    [
        (
            False,
            False,
            "this timl was built without CUDA: install one that was built where nvcc is",
        ),
        (
            True,
            False,
            r"PyTorch \S+ was built without CUDA: install one that has it, or give 'cpu'",
        ),
        (True, True, "PyTorch finds no GPU: see nvidia-smi, or give 'cpu'"),
    ],
)
def test_without_a_gpu_the_error_says_what_is_missing(
    benchmark_task: BenchmarkTask, built: bool, torch_built: bool, match: str
) -> None:
    with (
        mock.patch("timl.nn.devices.HAS_CUDA", built),
        mock.patch("torch.backends.cuda.is_built", lambda: torch_built),
    ):
        for call in (
            lambda: timl.finetune(small_model(), benchmark_task, device="cuda"),
            lambda: timl.meta_train(small_model(), made_tasks(), **QUICK, device="cuda"),
            lambda: timl.evaluate(Classifier(), benchmark_task, device="cuda"),
            lambda: timl.CropClassifier(device="cuda").fit(MadeData(1, 1).x, np.arange(48) % 2),
        ):
            with pytest.raises(ValueError, match=f"device is 'cuda', and {match}"):
                call()


def test_a_device_for_predictions_is_refused(benchmark_task: BenchmarkTask) -> None:
    with pytest.raises(ValueError, match="device is 'cpu' for a ndarray of predictions: leave"):
        timl.evaluate(np.zeros(2 * SAMPLES), benchmark_task, device="cpu")  # type: ignore[call-overload]
