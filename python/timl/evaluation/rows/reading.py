"""Rows by their names, from TOML files or as Python objects."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timl.evaluation.rows.baselines import BaselineRow
from timl.evaluation.rows.embeddings import EmbeddingRow
from timl.evaluation.rows.estimators import EstimatorRow
from timl.evaluation.rows.given import imported, name_of, row_name
from timl.evaluation.rows.modules import ModuleRow
from timl.evaluation.rows.networks import (
    CropPreTrainingRow,
    MetaTrainedRow,
    ScratchRow,
)
from timl.evaluation.rows.pooled import PooledBaselineRow
from timl.evaluation.rows.row import Row
from timl.evaluation.rows.strong import StrongRow

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PAPER_ROWS = (
    "random-forest",
    "logistic-regression",
    "no-pre-training",
    "crop-pre-training",
    "maml",
    "timl",
    "timl-without-forgetting",
    "timl-without-encoder",
    "timl-without-task-information",
)
"""The paper's rows and logistic regression, in the table's order."""

DEFAULT_ROWS = (*_PAPER_ROWS, "strong")
"""The paper's rows, logistic regression and the strong protocol, in the table's order."""

_FURTHER_ROWS = (
    "temporal-cnn",
    "maml-first-order",
    "anil",
    "maml-learned-step-sizes",
    "logistic-regression-cv",
    "gradient-boosting",
    "nearest-class-mean",
    "extra-trees-described",
    "logistic-regression-described",
    "gradient-boosting-described",
    "random-forest-pooled",
    "logistic-regression-pooled",
    "gradient-boosting-pooled",
    "nearest-class-mean-pooled",
    "extra-trees-described-pooled",
    "logistic-regression-described-pooled",
    "strong-without-learning",
    "strong-without-network",
    "strong",
)
"""The order of the rows after the paper's; others of the folder follow them."""

METHODS: dict[str, type[Row]] = {
    "baseline": BaselineRow,
    "pooled-baseline": PooledBaselineRow,
    "embedding": EmbeddingRow,
    "estimator": EstimatorRow,
    "module": ModuleRow,
    "no-pre-training": ScratchRow,
    "crop-pre-training": CropPreTrainingRow,
    "meta-training": MetaTrainedRow,
    "strong": StrongRow,
}
"""Classes of rows by the name that a row's file gives."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
_RESERVED = {
    "mean",  # a column of the table
    "world",  # the folder of a simulated world
    "con", "prn", "aux", "nul",  # devices of Windows
    *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)),
}  # fmt: skip
"""Names that a row's folder may not have, in small letters."""

_FOLDER = Path(__file__).parent
_SUFFIX = ".toml"


def row_names() -> list[str]:
    """Return the names of the package's rows, the TOML files of this folder, in table order."""
    ordered = (*_PAPER_ROWS, *_FURTHER_ROWS)
    files = {path.stem for path in _FOLDER.glob(f"*{_SUFFIX}")}
    return [*ordered, *sorted(files.difference(ordered))]


def find_rows(rows: Sequence[Any] | None) -> list[Row]:
    """Return rows in the table's order: the package's, then the user's as given.

    Parameters
    ----------
    rows
        Names of the package's rows, paths of TOML files, rows, or what `row_of` takes; None: the
        default ones.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    TypeError
        If an entry is of another kind.
    ValueError
        If there is no row of a name, none is given, two have one name, a name is no word of
        letters, digits, - and _ or is reserved, or a file is malformed.
    """
    names, known = [], row_names()
    own: list[Row] = []
    for row in DEFAULT_ROWS if rows is None else rows:
        if isinstance(row, Row):
            own.append(row)
        elif isinstance(row, str | Path) and Path(row).suffix == _SUFFIX:
            own.append(read_row(row))
        elif not isinstance(row, str | Path) or ":" in str(row):
            own.append(row_of(row))
        else:
            names.append(str(row))
    unknown = [name for name in names if name not in known]
    if unknown or not (names or own):
        raise ValueError(
            f"no row {', '.join(unknown) or 'is given'}: choose of {', '.join(known)}, or give the "
            f"path of a {_SUFFIX} file or module:name"
        )
    found = [read_row(_FOLDER / f"{name}{_SUFFIX}") for name in known if name in names] + own
    return named(found)


def named(rows: Sequence[Row]) -> list[Row]:
    """Return rows, or raise ValueError unless their names are words and all different."""
    if not rows:
        raise ValueError("no row is given: give one or more")
    for row in rows:
        _check_name(row)
    # some systems' folders do not tell capitals from small letters
    all_names = [row.name.lower() for row in rows]
    repeated = sorted({name for name in all_names if all_names.count(name) > 1})
    if repeated:
        raise ValueError(
            f"several rows are called {', '.join(repeated)}: give them other names, an "
            f"estimator as EstimatorRow(name=..., title=..., estimator=...)"
        )
    for name in all_names:
        stem, _, number = name.rpartition("-")
        if stem in all_names and number.isdecimal():
            raise ValueError(
                f"rows are called {stem} and {name}, which is the folder of a repetition of "
                f"{stem}: give one another name"
            )
    return list(rows)


def row_of(given: Any) -> Row:
    """Return the row of an object that others bring, called after its class or function.

    Parameters
    ----------
    given
        An estimator in scikit-learn's manner or its class (see `EstimatorRow`); a class of
        `torch.nn.Module` or a function that makes a network (see `ModuleRow`) or an estimator; a
        row, or a class of rows that needs a name and a title alone; "module:name" of such a thing.

    Raises
    ------
    TypeError
        If it is of another kind.
    ValueError
        If it cannot serve, as the row's class says.
    """
    from torch import nn

    if isinstance(given, Row):
        return given
    if isinstance(given, str | Path):
        given = imported(str(given), "rows", str(given))
    title = name_of(given)
    name = row_name(title)
    if isinstance(given, type) and issubclass(given, Row):
        try:
            return given(name=name, title=title)
        except TypeError as error:
            raise ValueError(
                f"rows holds {title}, a class of rows that cannot be made with name and title "
                f"alone ({error}): give an object"
            ) from error
    if isinstance(given, nn.Module) or (isinstance(given, type) and issubclass(given, nn.Module)):
        return ModuleRow(name=name, title=title, module=given)
    if hasattr(given, "fit"):
        return EstimatorRow(name=name, title=title, estimator=given)
    if not callable(given) or isinstance(given, type):
        raise TypeError(
            f"rows holds a {type(given).__name__}: give names, paths of {_SUFFIX} files, "
            f"module:name, Rows, estimators, or functions that make networks or estimators"
        )
    made = given()
    if title == "<lambda>":
        title = name_of(made)
        name = row_name(title)
    if isinstance(made, nn.Module):
        return ModuleRow(name=name, title=title, module=given)
    return EstimatorRow(name=name, title=title, estimator=made)


def _check_name(row: Row) -> None:
    """Raise ValueError unless a row's name can be that of a folder, and its title be shown."""
    if not isinstance(row.name, str) or not _NAME.fullmatch(row.name):
        raise ValueError(
            f"a row is called {row.name!r}: give a name of 1 to 80 letters, digits, - and _"
        )
    if row.name.lower() in _RESERVED:
        raise ValueError(f"a row is called {row.name!r}, which is reserved: give another name")
    if not isinstance(row.title, str) or not row.title.strip() or not row.title.isprintable():
        raise ValueError(
            f"row {row.name!r} has the title {row.title!r}: give one line of printable characters"
        )


def read_row(path: str | Path) -> Row:
    """Read a row from a TOML file; its name is the file's.

    The file holds ``title``, ``method`` (a key of `METHODS`) and the method's options, which are
    the fields of its class in `timl.evaluation.rows`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not TOML, or its keys or values do not fit the method.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give the path of a row's TOML file")
    try:
        given: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}") from error
    name, method = path.stem, given.pop("method", None)
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"{path}: method is {method!r}: choose of {', '.join(METHODS)}")
    kind = METHODS[method]
    fields = {field.name: field for field in dataclasses.fields(kind) if field.name != "name"}
    unknown = [key for key in given if key not in fields]
    missing = [
        key
        for key, field in fields.items()
        if key not in given and field.default is dataclasses.MISSING
    ]
    if unknown or missing:
        raise ValueError(
            f"{path}: unknown keys {unknown}, missing keys {missing}: method {method} takes "
            f"{', '.join(fields)}"
        )
    for key, value in given.items():
        wanted = str(fields[key].type)
        wanted = "str" if wanted == "Any" else wanted  # an object, as module:name
        kinds = (
            (int, float) if wanted == "float" else {"str": str, "bool": bool, "int": int}[wanted]
        )
        if not isinstance(value, kinds) or (isinstance(value, bool) and wanted != "bool"):
            raise ValueError(f"{path}: {key} is {value!r}: give a {wanted}")
    row = kind(name=name, **given)
    _check_name(row)
    return row
