"""Arrays of numbers as users give them: what NumPy would silently turn into others is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 1e15
"""Largest number of a series, as measured or normalised: its square fits float32 many times."""


def real_numbers(given: Any, name: str) -> NDArray[Any]:
    """Return an array of real numbers of what was given.

    Parameters
    ----------
    given
        Array, tensor, table or nested lists; None in an array of objects stands for NaN.
    name
        Name of the argument in messages.

    Returns
    -------
    array of any shape
        Of the dtype that was given; float64 for objects.

    Raises
    ------
    TypeError
        If it is a sparse matrix, a masked array, or of strings, dates or other objects.
    ValueError
        If it is of complex numbers, or of lists of different lengths.
    """
    if hasattr(given, "toarray"):
        raise TypeError(
            f"{name} is a sparse {type(given).__name__} of shape {_shape(given)}: give a dense "
            f"array, with {name}.toarray()"
        )
    if isinstance(given, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array of shape {_shape(given)}: give one with NaN where a value "
            f"is missing, with {name}.filled(numpy.nan)"
        )
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise ValueError(f"{name} is of lists of different lengths: give an array") from error
    if array.dtype.kind == "c":
        # the words that scikit-learn asks of an estimator
        raise ValueError(
            f"Complex data not supported: {name} is {array.dtype} of shape {_shape(array)}, give "
            f"real numbers"
        )
    if array.dtype.kind == "O":
        array = _of_objects(array, name)
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"{name} is {array.dtype} of shape {_shape(array)}: give numbers, such as float32"
        )
    return array


def class_labels(given: Any, name: str, classes: int) -> NDArray[Any]:
    """Return labels as an array [n], or raise a ValueError unless each is one of so many classes.

    With two classes 1 is the positives', 0 the negatives'.
    """
    labels = real_numbers(given, name)
    if labels.ndim != 1:
        raise ValueError(f"{name} is of shape {_shape(labels)}: give labels of shape [n]")
    other = ~np.isin(labels, np.arange(classes))
    if other.any():
        raise ValueError(
            f"{name} is {labels[other][0]} at place {int(other.argmax())}, of shape "
            f"{_shape(labels)}: give "
            + ("1 for positives and 0 for negatives" if classes == 2 else f"0 to {classes - 1}")
        )
    return labels


def labelled_series(
    x: Any, y: Any, name: str, classes: int = 2
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return series and their labels [n], 0 to classes - 1, as arrays.

    Parameters
    ----------
    x : array of shape [n, ...]
        Series.
    y : array of shape [n]
        Labels.
    name
        Name of the labels in messages.
    classes
        Number of classes.

    Raises
    ------
    TypeError, ValueError
        If they are no real numbers, a label is none of the classes, or their numbers differ.
    """
    series, labels = real_numbers(x, "x"), class_labels(y, name, classes)
    if series.ndim == 0 or len(series) != len(labels):
        raise ValueError(
            f"x is of shape {_shape(series)} and {name} of {len(labels)} labels: give one label of "
            f"each series"
        )
    return series, labels


def require_size(values: NDArray[np.floating], name: str, advice: str) -> None:
    """Raise ValueError where a number of series [n, T, F] is beyond `LARGEST`; NaN passes.

    Parameters
    ----------
    values : array of shape [n, T, F]
        Series.
    name
        What they are, for the message.
    advice
        What to give instead.
    """
    too_large = np.abs(values) > LARGEST
    if not too_large.any():
        return
    sample, step, band = np.unravel_index(int(too_large.argmax()), values.shape)
    raise ValueError(
        f"{name} is {values[sample, step, band]:.3g} in sample {sample} at time step {step} of "
        f"feature {band}, the first of {int(too_large.sum())} numbers beyond {LARGEST:.0e}: "
        f"{advice}"
    )


def _of_objects(array: NDArray[Any], name: str) -> NDArray[np.float64]:
    """Return an array of objects as float64, or raise a TypeError that names one without number."""
    for value in array.flat:
        if value is not None and not isinstance(value, int | float | np.number | np.bool_):
            # the words that scikit-learn asks of an estimator
            raise TypeError(
                f"{name} is of objects, shape {_shape(array)}, with a {type(value).__name__}: each "
                f"argument must be no string, date or other object, but a number"
            )
    return array.astype(np.float64)


def _shape(given: Any) -> list[int]:
    return list(given.shape)
