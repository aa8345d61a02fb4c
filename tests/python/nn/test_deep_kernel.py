"""The deep kernel: its regression against a plain one, and how it describes a task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from timl.data import CLASSES
from timl.nn import DeepKernel, load_pretrained
from timl.nn.strong.deep_kernel import Head, class_weights, fit_ridge, ridge_logits

HEAD = Head(*torch.tensor([0.7, 1.3, 4.0], dtype=torch.float64))


def example(seed: int, positives: int, negatives: int) -> tuple[torch.Tensor, ...]:
    """Points and prior means of labelled series, and targets."""
    generator = torch.Generator().manual_seed(seed)
    count = positives + negatives
    points = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    prior = torch.randn(count, generator=generator, dtype=torch.float64)
    targets = torch.tensor([1.0] * positives + [-1.0] * negatives, dtype=torch.float64)
    return points, prior, targets


def test_the_regression_is_kernel_ridge_regression_of_what_the_prior_leaves() -> None:
    points, prior, targets = example(0, positives=2, negatives=6)
    query, query_prior, _ = example(1, 3, 2)
    coefficients, level = fit_ridge(points, prior, targets, HEAD)
    found = ridge_logits(query, query_prior, points, coefficients, level, HEAD)

    def similar(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(torch.exp(-((a - b) ** 2).sum() / 0.7))

    gram = np.array([[similar(a, b) for b in points] for a in points])
    noise = np.diag([1.3] * 2 + [1.3 * 6 / 2] * 6)  # negatives weigh as much in all as positives
    middle = (prior[:2].mean() + prior[2:].mean()).numpy() / 2
    left = targets.numpy() - (prior.numpy() - middle)
    plain = np.linalg.solve(gram + noise, left)
    expected = [
        4 * (sum(a * similar(z, b) for a, b in zip(plain, points, strict=True)) + float(m) - middle)
        for z, m in zip(query, query_prior, strict=True)
    ]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


def test_padding_and_the_batch_change_nothing() -> None:
    short, long = example(2, 2, 3), example(3, 4, 5)
    points, prior, targets = (
        torch.stack([torch.cat([a, 9 * torch.ones_like(b[5:]) * (i < 2)]), b])
        for i, (a, b) in enumerate(zip(short, long, strict=True))
    )
    coefficients, levels = fit_ridge(points, prior, targets, HEAD)
    for row, (alone, count) in enumerate(((short, 5), (long, 9))):
        expected, level = fit_ridge(*alone, HEAD)
        torch.testing.assert_close(coefficients[row, :count], expected)
        torch.testing.assert_close(levels[row], level)
        assert (coefficients[row, count:] == 0).all()


def test_both_classes_weigh_as_much_as_the_rarer_has_labels() -> None:
    weights = class_weights(torch.tensor([1.0, 1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0]))
    assert weights[:2].tolist() == [1, 1] and weights[2:].sum() == pytest.approx(2)


def test_a_task_is_described_by_its_class_and_its_name() -> None:
    kernel = DeepKernel(12, 1, 4, 2, ["crop", "maize"])
    maize = kernel.describe_task("cereals", "maize")
    assert maize.nonzero().flatten().tolist() == [CLASSES.index("cereals"), len(CLASSES) + 1]
    crop = kernel.describe_task("crop", "crop")
    torch.testing.assert_close(crop[: len(CLASSES)], torch.tensor([0.0] + [1 / 9] * 9))
    assert kernel.describe_task(None, "rye").tolist() == [0.0] * 12


def test_the_prior_mean_is_a_sum_over_class_and_name() -> None:
    kernel = DeepKernel(12, 1, 4, 2, ["maize"])
    with torch.no_grad():
        for parameter in kernel.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(0))
    x = torch.randn(5, len(kernel.mean), generator=torch.Generator().manual_seed(1)).double()
    both, by_class, by_name = (
        next(kernel.embed(x, kernel.describe_task(*task)[None]))[2]
        for task in (("cereals", "maize"), ("cereals", None), (None, "maize"))
    )
    torch.testing.assert_close(both, by_class + by_name)


def test_a_deep_kernel_is_written_and_read(tmp_path: Path) -> None:
    kernel = DeepKernel(12, 2, 4, 3, ["maize"]).eval()
    kernel.normalization = {"mean": np.zeros(18), "std": np.ones(18), "ndvi": "true"}
    kernel.save_pretrained(tmp_path)
    read = load_pretrained(tmp_path)
    assert isinstance(read, DeepKernel) and read.names == ("maize",)
    assert read.configuration() == kernel.configuration()
    assert not any(parameter.requires_grad for parameter in read.parameters())
    for name, tensor in kernel.state_dict().items():
        assert torch.equal(tensor, read.state_dict()[name])
