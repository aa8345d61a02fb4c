"""Objects that others bring as methods: found by their names, and described for provenance."""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import os
import re
import sys
import sysconfig
from pathlib import Path
from typing import Any

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def imported(row: str, key: str, text: str) -> Any:
    """Return what a text "module:name" names; modules of the working directory are found too.

    What comes from there goes to worker processes by value, as what a script defines.

    Parameters
    ----------
    row, key
        Names of the row and of its option, for messages.
    text
        Module and name with a colon between; the name may have dots.

    Raises
    ------
    ValueError
        If the text is of another form, or there is no such module or name.
    """
    module, colon, name = text.partition(":")
    if not (module and colon and name):
        raise ValueError(
            f"row {row!r}: {key} is {text!r}: give module:name, such as my_methods:MyClassifier"
        )
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # as `python -m` has it, last
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"row {row!r}: {key} is {text!r}, which cannot be imported ({error}): give the name of "
            f"a class or function in a module that Python finds"
        ) from error
    _send_by_value(module)
    return found


def _send_by_value(module: str) -> None:
    """Let what a module of the working directory defines be pickled by value."""
    import cloudpickle

    package = sys.modules[module.partition(".")[0]]
    places = [Path(place) for place in getattr(package, "__path__", [])]
    places += [Path(package.__file__)] if package.__file__ else []
    installed = {Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib", "stdlib")}
    own = [p for p in places if Path.cwd() in p.parents and not installed & {*p.parents}]
    if own and package.__name__ != "timl":
        cloudpickle.register_pickle_by_value(package)


def name_of(given: Any) -> str:
    """Return the name of a class, function or object's class, for titles."""
    if isinstance(given, functools.partial):
        return name_of(given.func)
    steps = getattr(given, "steps", None)  # of scikit-learn's pipelines
    if isinstance(steps, list) and not isinstance(given, type):
        return " + ".join(name_of(step) for _, step in steps)
    named = given if isinstance(given, type) or inspect.isroutine(given) else type(given)
    return str(named.__name__)


def row_name(title: str) -> str:
    """Return a name for files from that of a class, k-neighbors-classifier for example."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", title)
    return re.sub(r"[^A-Za-z0-9]+", "-", words).strip("-").lower()[:80]


def described(given: Any) -> dict[str, Any]:
    """Return module, class or function, and parameters of an object, as JSON takes them.

    Parameters are those of scikit-learn's `get_params`, or the arguments of a `functools.partial`.
    """
    if isinstance(given, functools.partial):
        arguments = {str(number): value for number, value in enumerate(given.args)}
        return {
            **described(given.func),
            "parameters": _texts({**arguments, **given.keywords}),
        }
    named = given if isinstance(given, type) or inspect.isroutine(given) else type(given)
    parameters = {}
    if named is not given:
        getter = getattr(given, "get_params", None)
        parameters = vars(given) if getter is None else getter(deep=True)
    return {
        "object": f"{named.__module__}:{named.__qualname__}",
        "parameters": _texts(parameters),
    }


def source_digest(given: Any) -> str | None:
    """Return 16 digits of the SHA-256 of the source text of an object's class, or of a function.

    The classes of parameters that are estimators themselves count too. None where there is no
    source text.
    """
    if isinstance(given, functools.partial):
        return source_digest(given.func)
    found = [given]
    if not isinstance(given, type) and hasattr(given, "get_params"):
        found += [v for v in given.get_params(deep=True).values() if hasattr(v, "get_params")]
    digest = hashlib.sha256()
    for one in found:
        named = one if isinstance(one, type) or inspect.isroutine(one) else type(one)
        try:
            digest.update(inspect.getsource(named).encode())
        except (OSError, TypeError):
            return None
    return digest.hexdigest()[:16]


def _texts(parameters: dict[str, Any]) -> dict[str, str]:
    """Return parameters as texts without addresses of memory, by name."""
    return {name: _ADDRESS.sub("", repr(parameters[name])) for name in sorted(parameters)}
