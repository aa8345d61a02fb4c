"""Episodes: a meta-batch of support and query sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from timl.data.tasks.information import INFO_SIZE

if TYPE_CHECKING:
    import torch

    Floats: TypeAlias = NDArray[np.floating[Any]] | torch.Tensor

_SHAPES = {
    "info": "N,13",
    "support_x": "N,S,B,T,F",
    "support_y": "N,S,B",
    "query_x": "N,Q,T,F",
    "query_y": "N,Q",
}


@dataclass(frozen=True, eq=False)
class Episodes:
    """A meta-batch: for each of N tasks S support sets of B series, and Q query series.

    All arrays are NumPy arrays, or all are PyTorch tensors on one device; all have one dtype,
    float32 or float64. Every size is at least 1.

    Parameters
    ----------
    info : array or tensor of shape [N, 13]
        Information of the tasks (`timl.data.task_information`).
    support_x : array or tensor of shape [N, S, B, T, F]
        Normalised series of T steps and F bands, one set of B for each of S inner steps.
    support_y : array or tensor of shape [N, S, B]
        Labels of the support series: 0 or 1 with one output, else classes 0 to K - 1; -1 for a
        series that the loss leaves out. Each set has one that counts.
    query_x : array or tensor of shape [N, Q, T, F]
        Normalised series that the adapted classifier is scored on.
    query_y : array or tensor of shape [N, Q]
        Labels of the query series, alike.
    outputs
        Number K of logits that the labels are for: 1 for positives against negatives, else one
        for each class.
    class_weights : array or tensor of shape [N, 2] with one output, else [N, K]
        Weights of each task's classes, by which its losses are weighted means; None for ones.

    Raises
    ------
    TypeError
        If a field is neither an array nor a tensor, kinds are mixed, or a dtype is not float32
        or float64 throughout.
    ValueError
        If shapes do not fit, a size is 0, a value is NaN or infinite, a label is no class, a set
        has only labels of -1, a weight is negative, or tensors lie on different devices.
    """

    info: Floats
    support_x: Floats
    support_y: Floats
    query_x: Floats
    query_y: Floats
    outputs: int = 1
    class_weights: Floats | None = None

    def __post_init__(self) -> None:
        if isinstance(self.outputs, bool) or not isinstance(self.outputs, int) or self.outputs < 1:
            raise ValueError(f"outputs is {self.outputs!r}: give an integer of at least 1")
        _check_kinds(self)
        _check_shapes(self)
        _check_values(self)

    def __len__(self) -> int:
        return int(self.info.shape[0])

    def to_torch(
        self, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> Episodes:
        """Return the same episodes as PyTorch tensors; what needs no conversion shares its memory.

        Parameters
        ----------
        dtype
            Type of the tensors, float32 or float64; by default the one they have.
        device
            Device of the tensors; by default the one they are on.
        """
        import torch

        tensors: dict[str, Any] = {
            name: torch.as_tensor(value, dtype=dtype, device=device)
            for name, value in _arrays(self).items()
        }
        return Episodes(**tensors, outputs=self.outputs)


def _arrays(episodes: Episodes) -> dict[str, Any]:
    """Return the arrays by name, the weights of the classes only where there are any."""
    values = {name: getattr(episodes, name) for name in _SHAPES}
    if episodes.class_weights is not None:
        values["class_weights"] = episodes.class_weights
    return values


def _check_kinds(episodes: Episodes) -> None:
    values = _arrays(episodes)
    for name, value in values.items():
        if not (isinstance(value, np.ndarray) or type(value).__module__.startswith("torch")):
            raise TypeError(
                f"{name} is a {type(value).__name__}: give a NumPy array or a PyTorch tensor"
            )
        dtype = str(value.dtype).removeprefix("torch.")
        if dtype not in ("float32", "float64"):
            raise TypeError(f"{name} is {dtype}: give float32 (or float64)")
    types = {name: f"{type(value).__module__}.{value.dtype}" for name, value in values.items()}
    kinds = {(isinstance(value, np.ndarray), str(value.dtype)) for value in values.values()}
    if len(kinds) > 1:
        raise TypeError(f"the fields are of types {types}: give one type")
    devices = {name: str(getattr(value, "device", "cpu")) for name, value in values.items()}
    if len(set(devices.values())) > 1:
        raise ValueError(f"the fields are on devices {devices}: give one device")


def _check_shapes(episodes: Episodes) -> None:
    shapes = {name: tuple(value.shape) for name, value in _arrays(episodes).items()}
    classes = max(2, episodes.outputs)
    sizes: dict[str, int] = {str(INFO_SIZE): INFO_SIZE, str(classes): classes}
    wanted = {**_SHAPES, "class_weights": f"N,{classes}"}
    for name in shapes:
        letters = wanted[name]
        shape, expected = shapes[name], letters.split(",")
        if len(shape) != len(expected):
            raise ValueError(
                f"{name} has shape {list(shape)}: give [{letters}], {len(expected)} dimensions"
            )
        for letter, size in zip(expected, shape, strict=True):
            if size == 0:
                raise ValueError(
                    f"{name} [{letters}] has shape {list(shape)} and is empty: give every size at "
                    "least 1"
                )
            if sizes.setdefault(letter, size) != size:
                given = ", ".join(f"{n} {list(s)}" for n, s in shapes.items())
                raise ValueError(
                    f"{letter} is {size} in {name} [{letters}], of {given}: give {sizes[letter]}"
                )


def _check_values(episodes: Episodes) -> None:
    classes = max(2, episodes.outputs)
    named = "labels 0 and 1 only" if classes == 2 else f"labels 0 to {classes - 1} only"
    for name, value in _arrays(episodes).items():
        good: Any
        if name.endswith("_y"):
            # arrays and tensors alike; NaN compares false
            good = (value >= -1) & (value < classes) & (value == value.round())
            wanted = f"{named}, or -1 for a series that the loss leaves out"
        elif name == "class_weights":
            good = (value >= 0) & (value < np.inf)
            wanted = "finite weights of at least 0 only"
        else:
            good = abs(value) < np.inf
            wanted = "finite values only"
        if not bool(good.all()):
            bad = int((~good).sum())
            raise ValueError(
                f"{name} {list(value.shape)} holds {bad} values of another kind: give {wanted}"
            )
        if name.endswith("_y") and not bool((value >= 0).any(-1).all()):
            raise ValueError(
                f"{name} {list(value.shape)} holds a set of -1 alone: give each set a label that "
                f"counts"
            )
