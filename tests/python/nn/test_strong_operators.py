"""The strong protocol's operators: the twin's numbers, the same bits in any batch, clear errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from timl import reference
from timl.bands import BANDS
from timl.nn import operators
from torch import Tensor
from torch.autograd import forward_ad

NAMES = (
    *("x", "bands", "columns", "axes", "hidden_weight", "hidden_vectors", "point_weight", "heads"),
    *("points", "coefficients", "roots", "left", "right", "feature", "threshold", "value"),
    *("known", "constants"),
)
TREES = slice(NAMES.index("roots"), NAMES.index("value") + 1)
SIZES = {  # steps, networks, dimensions, width, labels, known points, outputs
    "as learned": (12, 4, 64, 128, 70, 90, 1),
    "no hidden layer": (12, 1, 6, 0, 3, 2, 1),
    "odd sizes": (5, 3, 5, 7, 33, 1, 1),
    "24 months, nothing known": (24, 2, 9, 40, 17, None, 1),
    "five classes": (12, 3, 20, 40, 70, 9, 5),
    "two classes, no hidden layer": (5, 2, 5, 0, 7, None, 2),
}
every_size = pytest.mark.parametrize("name", SIZES)


def bands() -> Tensor:
    """Mean and deviation like those of real bands, [2, 18]."""
    mean = [-12.0, -19, *[2000.0] * 11, 290, 0.003, 400, 3, 0.4]
    deviation = [4.0, 4, *[1200.0] * 11, 10, 0.003, 400, 4, 0.3]
    return torch.tensor([mean, deviation])


def trees(
    generator: torch.Generator, features: int, count: int, depth: int, outputs: int
) -> list[Tensor]:
    """Random trees; every third branch ends early."""
    parts: list[list[float]] = [[] for _ in NAMES[TREES]]
    roots, left, right, feature, threshold, value = parts

    def grow(level: int) -> int:
        node = len(left)
        for part in parts[1:]:
            part.append(node)
        value[node] = float(torch.rand((), generator=generator))
        feature[node] = int(torch.randint(features, (), generator=generator))
        threshold[node] = float(torch.randn((), generator=generator)) / 2
        if level < depth and node % 3 != 2:
            left[node] = grow(level + 1)
            right[node] = grow(level + 1)
        return node

    for _ in range(count):
        roots.append(grow(0))
    whole, real = torch.int64, torch.float32
    types = (whole, whole, whole, whole, real, real)
    made = [torch.tensor(part, dtype=kind) for part, kind in zip(parts, types, strict=True)]
    if outputs > 1:
        made[-1] = torch.rand(len(left), outputs, generator=generator)
        made[-1] /= made[-1].sum(dim=1, keepdim=True)
    return made


def arguments(name: str, batch: int = 101, dtype: torch.dtype = torch.float32) -> list[Any]:
    """Arguments of `strong_evaluate` in order; of several networks the first two share points."""
    steps, networks, d, width, labels, known, outputs = SIZES[name]
    g = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    x = normal(batch, steps, 18) * 0.5 + normal(batch, 1, 18)
    described = reference.describe(x, bands())
    features = described.shape[1]
    columns = torch.stack([described.mean(0), described.std(0).clamp_min(1e-3)]).float()
    axes = normal(networks, features, d) / (features * d * 2) ** 0.5
    point_weight = normal(networks, d, width) * 0.2 / max(1, d * width) ** 0.5
    points = normal(networks, labels, d) / (2 * d) ** 0.5
    if networks > 1:
        axes[1], points[1], point_weight[:2] = axes[0], points[0], 0
    made = [
        x,
        bands(),
        columns,
        axes,
        normal(networks, width, features) / features**0.5,
        normal(networks, 3 + outputs, width) * 0.3 + torch.eye(3 + outputs)[1][:, None],
        point_weight,
        torch.rand(networks, 2 + outputs, generator=g) + torch.tensor([0.5, 3, *[0.0] * outputs]),
        points,
        (normal(networks, labels) if outputs == 1 else normal(networks, outputs, labels)) / 4,
        *trees(g, features, 20, 6, outputs),
        None if known is None else normal(known, d) / (2 * d) ** 0.5,
        torch.tensor([0.6, 0.8, *torch.linspace(-0.1, 0.3, outputs), 0.7]),
    ]
    return [t.to(dtype) if t is not None and t.is_floating_point() else t for t in made]


def evaluate(given: Sequence[Any]) -> tuple[Tensor, Tensor]:
    return operators.strong_evaluate(*given)


def changed(given: list[Any], **values: Any) -> list[Any]:
    return [values.get(name, old) for name, old in zip(NAMES, given, strict=True)]


@pytest.mark.parametrize("steps", [4, 5, 12, 23])
@pytest.mark.parametrize(
    ("spread", "bound"),
    [
        (0.25, 3e-6),
        # a sum of reflectances near zero: float32 rounds numbers in the thousands to 1e-4, and an
        # index divides that by 1 at least
        (1.0, 1e-3),
    ],
)
def test_descriptions_are_the_twins(steps: int, spread: float, bound: float) -> None:
    x = spread * torch.randn(77, steps, 18, generator=torch.Generator().manual_seed(steps))
    exact = reference.describe(x, bands())
    for dtype, most in ((torch.float64, 1e-11), (torch.float32, bound)):
        found = operators.describe(x.to(dtype), bands().to(dtype)).double()
        torch.testing.assert_close(found, exact, rtol=most, atol=most)


def test_the_bands_of_the_indices_are_the_records() -> None:
    """Each month's indices change with the bands that they are made of, and with no other."""
    start = torch.randn(1, 4, 18, generator=torch.Generator().manual_seed(0)) / 4
    before = operators.describe(start, bands())[0, 72:80]
    for number, band in enumerate(BANDS):
        x = start.clone()
        x[0, 0, number] += 0.5
        found = operators.describe(x, bands())[0, 72:80] != before
        pairs = [band in pair for pair in reference.strong.INDEX_PAIRS]
        assert found.tolist() == [*pairs, band in ("B8", "B4", "B2")]


@every_size
def test_logits_and_distances_are_the_twins(name: str) -> None:
    for dtype, bound in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        given = arguments(name, dtype=dtype)
        # a number within rounding of a threshold may go either way: trees see the engine's own
        described = operators.describe(given[0], given[1]).float()
        count = len(given[NAMES.index("roots")])
        votes = count * reference.strong.tree_votes(described, *given[TREES])
        several = votes.dim() == 2
        forest = torch.log(votes + 0.5) - torch.log(0.5 + (count - votes) * (not several))
        # no opinion: of two classes half the votes, of several none
        even = changed(given, value=torch.full_like(given[TREES][-1], 0.0 if several else 0.5))
        kernel, apart = reference.strong_evaluate(*even)
        logits, distances = evaluate(given)
        expected = kernel + given[-1][1].double() * forest
        torch.testing.assert_close(logits.double(), expected, rtol=bound, atol=bound)
        torch.testing.assert_close(distances.double(), apart, rtol=bound, atol=bound)


@every_size
def test_the_bits_do_not_depend_on_threads_or_on_the_other_series(name: str) -> None:
    given = arguments(name, batch=611)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(evaluate(given))
    finally:
        torch.set_num_threads(threads)
    for sizes in (1, 7, 48, 200):
        rows = 50 if sizes == 1 else 611
        parts = [evaluate(changed(given, x=part)) for part in given[0][:rows].split(sizes)]
        results.append(tuple(torch.cat(part) for part in zip(*parts, strict=True)))
    for logits, distances in results:
        assert torch.equal(logits, results[0][0][: len(logits)])
        assert torch.equal(distances, results[0][1][: len(distances)])
    described = operators.describe(given[0], given[1])
    for start, size in ((0, 1), (3, 50), (600, 11)):
        part = operators.describe(given[0][start : start + size], given[1])
        assert torch.equal(part, described[start : start + size])


def test_a_known_series_is_at_no_distance_and_distances_are_in_units_of_the_usual_one() -> None:
    given = arguments("as learned")
    standard = (reference.describe(given[0], given[1]) - given[2][0]) / given[2][1]
    given = changed(given, known=(standard.clamp(-8, 8) @ given[3][0].double()).float()[:3])
    logits, distances = evaluate(given)
    assert (distances[:3] < 3e-3).all() and (distances[3:] > 0.1).all()
    doubled = torch.tensor([0.6, 0.8, -0.1, 1.4])
    torch.testing.assert_close(evaluate(changed(given, constants=doubled))[1], distances / 2)
    without = evaluate(changed(given, known=None))
    assert torch.equal(without[0], logits) and without[1].shape == (0,)


def test_opcheck_and_compile() -> None:
    tools = ("test_schema", "test_autograd_registration", "test_faketensor")
    for name in ("odd sizes", "24 months, nothing known", "five classes"):
        given = arguments(name)
        given[0].requires_grad_()
        torch.library.opcheck(
            torch.ops.timl.strong_evaluate.default, tuple(given), test_utils=tools
        )
        torch.library.opcheck(torch.ops.timl.describe.default, tuple(given[:2]), test_utils=tools)
    given = arguments("odd sizes")

    def doubled(x: Tensor) -> Tensor:
        return 2 * evaluate(changed(given, x=x))[0]

    compiled = torch.compile(doubled, fullgraph=True, dynamic=True, backend="aot_eager")
    for batch in (3, 101):
        assert torch.equal(compiled(given[0][:batch]), doubled(given[0][:batch]))


def test_derivatives_are_refused() -> None:
    given = arguments("odd sizes")
    given[0].requires_grad_()
    for result in (evaluate(given)[0], operators.describe(given[0], given[1])):
        with pytest.raises(RuntimeError, match=r"has no gradient: call it under torch\.no_grad"):
            result.sum().backward()
    plain = given[0].detach()
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="forward mode"):
        evaluate(changed(given, x=forward_ad.make_dual(plain, plain)))


BAD = {
    "NaN": (lambda a: {"x": a[0] * np.nan}, r"x is \[4, 5, 18\] with 360 NaN or infinite values"),
    "infinity": (lambda a: {"x": a[0] + np.inf}, r"x is \[4, 5, 18\] with 360 NaN or infinite"),
    "17 bands": (lambda a: {"x": a[0][..., 1:]}, r"x is \[4, 5, 17\]: give \[at least 1, 5, 18\]"),
    "three steps": (lambda a: {"x": a[0][:, :3]}, r"x is \[4, 3, 18\]: give at least 4 steps"),
    "no batch": (lambda a: {"x": a[0][0]}, r"x is \[5, 18\]: give 3 dimensions"),
    "an empty batch": (lambda a: {"x": a[0][:0]}, r"x is \[0, 5, 18\]: give \[at least 1, 5, 18\]"),
    "other dtypes": (lambda a: {"x": a[0].double()}, r"bands is float32 .* give float64"),
    "another length": (lambda a: {"x": a[0][:, :4]}, r"columns is \[2, 277\]: give \[2, 251\]"),
    "axes": (lambda a: {"axes": a[3][0]}, r"axes is \[277, 5\]: give 3 dimensions"),
    "points": (lambda a: {"points": a[8][..., 1:]}, r"points is \[3, 33, 4\]: give \[3, 33, 5\]"),
    "no label": (lambda a: {"points": a[8][:, :0]}, r"points \[3, 0, 5\]: give at least one"),
    "known": (lambda a: {"known": torch.zeros(2, 4)}, r"known is \[2, 4\]: give \[at least 1, 5\]"),
    "float nodes": (lambda a: {"left": a[11].float()}, r"left is float32 .* give int64$"),
    "a child outside": (lambda a: {"left": a[11] + 10**6}, "trees, which are none at node 0"),
    "a negative child": (lambda a: {"right": a[12] - 10**6}, "trees, which are none at node 0"),
    "a root outside": (lambda a: {"roots": a[10] - 1}, "trees, which are none at node -1"),
    "a circle": (lambda a: {"left": 0 * a[11]}, "trees, which are none at node"),
    "a feature outside": (lambda a: {"feature": a[13] + 277}, "trees, which are none at node 0"),
    "a threshold": (lambda a: {"threshold": a[14] * np.nan}, "threshold is .* with .* NaN"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named_with_its_shape(name: str) -> None:
    given = arguments("odd sizes", batch=4)
    change, message = BAD[name]
    with pytest.raises(RuntimeError, match=message):
        evaluate(changed(given, **change(given)))
