"""Checks of the operators' arguments by shape, dtype and device, in the words of the engine's own.

The compiled operators check what they compute on (cpp/bindings). Where PyTorch only works out
shapes, as in `torch.compile`, `torch.export` and on the meta device, these checks take their place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from timl._core import HAS_CUDA, LARGEST_SIZE
from timl.bands import BANDS
from timl.parameters import counts, film_shapes, lstm_shapes, tensor_count, weight_shapes
from timl.reference.strong import INDICES, LEAST_STEPS, MEASURED, STATISTICS

_NAMED = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.int32, torch.int64, torch.bool),
)
"""Dtypes that messages name."""


class Checks:
    """Checks of one call; a failed one raises RuntimeError.

    Parameters
    ----------
    operation
        Name of the operator.
    x : tensor
        First series of the call: its dtype and device are those of all tensors.
    """

    def __init__(self, operation: str, x: Tensor) -> None:
        self.operation, self.x = operation, x
        self.require(
            x.dtype in (torch.float32, torch.float64),
            f"x is {_name(x.dtype)} of shape {_text(x)}: give float32 or float64",
        )

    def require(self, holds: Any, message: str) -> None:
        """Raise unless a condition holds, which may be one of symbolic sizes."""
        torch._check(holds, lambda: f"{self.operation}: {message}")  # type: ignore[no-untyped-call]

    def tensor(
        self, name: str, tensor: Tensor, sizes: tuple[Any, ...], dtype: torch.dtype | None = None
    ) -> None:
        """Check device, layout, dtype (by default of `x`) and shape, where -1 is any size but 0."""
        shape, device = _text(tensor), tensor.device
        self.require(
            device.type in ("cpu", "meta", *(("cuda",) if HAS_CUDA else ())),
            f"{name} is {shape} on another device: this build of timl computes on the CPU "
            + ("and on CUDA only" if HAS_CUDA else "only")
            + ", so move the model and its inputs with .cpu()",
        )
        self.require(
            tensor.layout == torch.strided,
            f"{name} is {shape} of another layout than strided: give .to_dense()",
        )
        self.require(
            device == self.x.device,
            f"{name} is {shape} on {device}, x on {self.x.device}: give all tensors on one device",
        )
        wanted = dtype or self.x.dtype
        self.require(
            tensor.dtype == wanted,
            f"{name} is {_name(tensor.dtype)} of shape {shape}: give {_name(wanted)}"
            + ("" if dtype else ", all tensors of one dtype, float32 or float64"),
        )
        expected = ", ".join("at least 1" if _is_any(size) else str(size) for size in sizes)
        message = f"{name} is {shape}: give [{expected}]"
        self.require(tensor.dim() == len(sizes), message)
        for given, size in zip(tensor.shape, sizes, strict=True):
            self.require(given >= 1 if _is_any(size) else given == size, message)

    def size(self, name: str, tensor: Tensor, count: int, dimension: int) -> Any:
        """Return one size of a tensor of `count` dimensions, at most the greatest."""
        shape = _text(tensor)
        self.require(tensor.dim() == count, f"{name} is {shape}: give {count} dimensions")
        size = tensor.shape[dimension]
        self.require(
            size <= LARGEST_SIZE, f"{name} is {shape}: give sizes of at most {LARGEST_SIZE}"
        )
        return size

    def network_sizes(
        self, dimensions: int, hidden: int, layers: int, outputs: int
    ) -> tuple[Any, Any, int, int]:
        """Return T, F, P and Phi of series whose last two of so many dimensions are T and F."""
        x = self.x
        self.require(
            x.dim() == dimensions,
            f"x is {_text(x)}: give {dimensions} dimensions, the last two steps and bands",
        )
        steps, bands = x.shape[-2:]
        for size in (steps, bands, hidden, layers, outputs):
            self.require(
                (size >= 1) & (size <= LARGEST_SIZE),
                f"x is {_text(x)} for hidden {hidden}, layers {layers} and outputs {outputs}: give "
                f"steps, bands, hidden, layers and outputs from 1 to {LARGEST_SIZE}",
            )
        weights = sum(counts(weight_shapes(bands, hidden, layers, outputs)))
        return steps, bands, weights, sum(counts(film_shapes(steps, bands, hidden, layers)))

    def described_series(self) -> Any:
        """Return the number D of a description of `x`."""
        steps = self.size("x", self.x, 3, 1)
        self.require(
            steps >= LEAST_STEPS, f"x is {_text(self.x)}: give at least {LEAST_STEPS} steps"
        )
        self.tensor("x", self.x, (-1, steps, len(BANDS)))
        return steps * (len(BANDS) + INDICES) + STATISTICS * (INDICES + MEASURED)


def check_network(
    operation: str,
    x: Tensor,
    weights: Tensor,
    film: Tensor,
    mask: Tensor | None,
    running_mean: Tensor | None,
    running_variance: Tensor | None,
    hidden: int,
    layers: int,
    outputs: int,
) -> Checks:
    """Check the arguments that the operators of one task's network share."""
    check = Checks(operation, x)
    steps, bands, weights_size, film_size = check.network_sizes(3, hidden, layers, outputs)
    check.tensor("x", x, (-1, steps, bands))
    batch = x.shape[0]
    check.tensor("weights", weights, (weights_size,))
    check.tensor("film", film, (film_size,))
    if mask is not None:
        check.tensor("mask", mask, (batch, hidden))
    if running_mean is not None and running_variance is not None:
        check.tensor("running_mean", running_mean, (layers, hidden))
        check.tensor("running_variance", running_variance, (layers, hidden))
        return check
    missing = "running_mean" if running_mean is None else "running_variance"
    check.require(
        running_mean is running_variance,
        f"{missing} is None: give running_mean and running_variance both or neither",
    )
    check.require(
        batch >= 2,
        f"x is {_text(x)}: give at least 2 samples for BatchNorm with batch statistics, or call "
        f".eval() to use the running statistics",
    )
    return check


def check_film_lstm(
    operation: str,
    x: Tensor,
    weights: Tensor,
    film: Tensor | None,
    mask: Tensor | None,
    hidden: int,
) -> Checks:
    """Check the arguments that the operators of the LSTM alone share."""
    check = Checks(operation, x)
    check.require(x.dim() == 3, f"x is {_text(x)}: give 3 dimensions, the last two steps and bands")
    batch, steps, bands = x.shape
    for size in (steps, bands, hidden):
        check.require(
            (size >= 1) & (size <= LARGEST_SIZE),
            f"x is {_text(x)} for hidden {hidden}: give steps, bands and hidden from 1 to "
            f"{LARGEST_SIZE}",
        )
    check.tensor("x", x, (-1, steps, bands))
    check.tensor("weights", weights, (sum(counts(lstm_shapes(bands, hidden))),))
    if film is not None:
        check.tensor("film", film, (2, steps, bands))
    if mask is not None:
        check.tensor("mask", mask, (batch, hidden))
    return check


def check_meta_gradient(
    support_x: Tensor,
    support_y: Tensor,
    query_x: Tensor,
    query_y: Tensor,
    weights: Tensor,
    film: Tensor,
    support_mask: Tensor | None,
    query_mask: Tensor | None,
    class_weights: Tensor | None,
    step_sizes: Tensor,
    hidden: int,
    layers: int,
    outputs: int,
    order: int,
) -> None:
    """Check the arguments of the meta-gradient but for labels and finite values."""
    check = Checks("timl::meta_gradient", support_x)
    steps, bands, weights_size, film_size = check.network_sizes(5, hidden, layers, outputs)
    check.require(
        0 <= order <= 2,
        f"order is {order}: give 0 (losses only), 1 (first order) or 2 (exact second order)",
    )
    check.tensor("support_x", support_x, (-1, -1, -1, steps, bands))
    tasks, inner_steps, support = support_x.shape[:3]
    check.tensor("query_x", query_x, (tasks, -1, steps, bands))
    query = query_x.shape[1]
    for size in (support, query):
        check.require(
            size >= 2,
            f"support_x is {_text(support_x)} and query_x {_text(query_x)}: give at least 2 "
            f"samples in each batch for BatchNorm with batch statistics",
        )
    check.tensor("support_y", support_y, (tasks, inner_steps, support))
    check.tensor("query_y", query_y, (tasks, query))
    check.tensor("weights", weights, (weights_size,))
    check.tensor("film", film, (tasks, film_size))
    check.tensor("step_sizes", step_sizes, (inner_steps, tensor_count(layers)))
    if support_mask is not None:
        check.tensor("support_mask", support_mask, (tasks, inner_steps, support, hidden))
    if query_mask is not None:
        check.tensor("query_mask", query_mask, (tasks, query, hidden))
    if class_weights is not None:
        check.tensor("class_weights", class_weights, (tasks, max(2, outputs)))


def check_adapt(
    support_x: Tensor,
    support_y: Tensor,
    weights: Tensor,
    film: Tensor,
    support_mask: Tensor | None,
    class_weights: Tensor | None,
    step_sizes: Tensor,
    hidden: int,
    layers: int,
    outputs: int,
) -> None:
    """Check the arguments of the inner steps alone but for labels and finite values."""
    check = Checks("timl::adapt", support_x)
    steps, bands, weights_size, film_size = check.network_sizes(4, hidden, layers, outputs)
    check.tensor("support_x", support_x, (-1, -1, steps, bands))
    inner_steps, support = support_x.shape[:2]
    check.require(
        support >= 2,
        f"support_x is {_text(support_x)}: give at least 2 samples in each batch for BatchNorm "
        f"with batch statistics",
    )
    check.tensor("support_y", support_y, (inner_steps, support))
    check.tensor("weights", weights, (weights_size,))
    check.tensor("film", film, (film_size,))
    check.tensor("step_sizes", step_sizes, (inner_steps, tensor_count(layers)))
    if support_mask is not None:
        check.tensor("support_mask", support_mask, (inner_steps, support, hidden))
    if class_weights is not None:
        check.tensor("class_weights", class_weights, (max(2, outputs),))


def check_describe(x: Tensor, bands: Tensor) -> Any:
    """Check the arguments of the description and return its size D."""
    check = Checks("timl::describe", x)
    size = check.described_series()
    check.tensor("bands", bands, (2, len(BANDS)))
    return size


def check_strong_evaluate(
    x: Tensor,
    bands: Tensor,
    columns: Tensor,
    axes: Tensor,
    hidden_weight: Tensor,
    hidden_vectors: Tensor,
    point_weight: Tensor,
    heads: Tensor,
    points: Tensor,
    coefficients: Tensor,
    roots: Tensor,
    left: Tensor,
    right: Tensor,
    feature: Tensor,
    threshold: Tensor,
    value: Tensor,
    known: Tensor | None,
    constants: Tensor,
) -> None:
    """Check the arguments of the strong protocol's classifier but for values."""
    check = Checks("timl::strong_evaluate", x)
    size = check.described_series()
    networks, dimensions = check.size("axes", axes, 3, 0), check.size("axes", axes, 3, 2)
    width = check.size("hidden_weight", hidden_weight, 3, 1)
    labels = check.size("points", points, 3, 1)
    if known is not None:
        check.size("known", known, 2, 0)
    outputs = check.size("constants", constants, 1, 0) - 3
    check.require(
        outputs > 0,
        f"constants is {_text(constants)}: give [3 + outputs]: kernel weight, slope, shifts, usual "
        f"distance",
    )
    for least in (networks, dimensions, labels):
        check.require(
            least > 0,
            f"axes is {_text(axes)} and points {_text(points)}: give at least one network, "
            f"dimension and label",
        )
    check.tensor("bands", bands, (2, len(BANDS)))
    check.tensor("columns", columns, (2, size))
    check.tensor("axes", axes, (networks, size, dimensions))
    check.tensor("hidden_weight", hidden_weight, (networks, width, size))
    check.tensor("hidden_vectors", hidden_vectors, (networks, 3 + outputs, width))
    check.tensor("point_weight", point_weight, (networks, dimensions, width))
    check.tensor("heads", heads, (networks, 2 + outputs))
    check.tensor("points", points, (networks, labels, dimensions))
    check.tensor(
        "coefficients",
        coefficients,
        (networks, labels) if outputs == 1 else (networks, outputs, labels),
    )
    check.tensor("constants", constants, (3 + outputs,))
    if known is not None:
        check.tensor("known", known, (-1, dimensions))
    check.tensor("roots", roots, (-1,), torch.int64)
    check.tensor("left", left, (-1,), torch.int64)
    nodes = left.shape[0]
    check.tensor("right", right, (nodes,), torch.int64)
    check.tensor("feature", feature, (nodes,), torch.int64)
    check.tensor("threshold", threshold, (nodes,))
    check.tensor("value", value, (nodes,) if outputs == 1 else (nodes, outputs))


def _is_any(size: Any) -> bool:
    """Return whether a size stands for any but 0."""
    return isinstance(size, int) and size == -1


def _text(tensor: Tensor) -> str:
    """Return a tensor's shape as messages show it."""
    return f"[{', '.join(str(size) for size in tensor.shape)}]"


def _name(dtype: torch.dtype) -> str:
    """Return a dtype as messages show it."""
    return str(dtype).removeprefix("torch.") if dtype in _NAMED else "an unsupported dtype"
