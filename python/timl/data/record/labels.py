"""The table of labels: read from labels.geojson without trusting it, kept as arrays in a store."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from timl.data.record.archives import Skipped

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("index", "dataset", "lat", "lon", "label", "classification_label", "is_crop", "is_test")
"""Properties that every feature has; further ones are kept as they are."""

_PLACE = ("lat", "lon")
_VOCABULARY = "vocabulary"
_SPACE = re.compile(r"[ \t\r\n]*")
_SURROGATE = re.compile("[\ud800-\udfff]")
_MOST_COLUMNS = 1000
_LARGEST_INDEX = 10**18


def read_labels(path: Path) -> tuple[dict[str, list[Any]], list[Skipped]]:
    """Read the properties of a GeoJSON file's features, one feature at a time.

    Parameters
    ----------
    path
        File with a FeatureCollection. Geometries are not looked at: a feature's place is its lat
        and lon.

    Returns
    -------
    columns
        Properties by name, None where a feature lacks one; all lists have the same length.
    skipped
        Features that were left out: without a data set or an index, with a place that is none,
        with a label that is no text, or with the data set and index of an earlier one.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no GeoJSON, a property is missing everywhere, or every feature is left out.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"path is {path}, which does not exist: give the folder of CropHarvest's files"
        )
    columns: dict[str, list[Any]] = {}
    skipped: list[Skipped] = []
    seen: set[tuple[str, int]] = set()
    known: dict[str, str] = {}
    count = 0
    try:
        for number, feature in enumerate(_features(path.read_text(encoding="utf-8-sig"))):
            properties: Any = feature.get("properties") if isinstance(feature, dict) else None
            reason = _wrong(properties)
            if reason is None:
                key = properties["dataset"], int(properties["index"])
                reason = "a second row of this data set and index" if key in seen else None
            if reason is not None:
                skipped.append(Skipped(f"{path.name}, feature {number}", reason))
                if isinstance(properties, dict):
                    for name in properties:
                        if name not in columns:
                            columns[name] = [None] * count
                continue
            seen.add(key)
            for name, value in properties.items():
                # Repeated texts are kept once: the record has a few hundred of them.
                if isinstance(value, str):
                    if value not in known:
                        known[value] = value.encode("utf-8", "replace").decode()
                    value = known[value]
                if name not in columns:
                    columns[name] = [None] * count
                columns[name].append(value)
            count += 1
            if len(columns) > _MOST_COLUMNS:
                raise ValueError(f"the features have more than {_MOST_COLUMNS} properties")
            for values in columns.values():
                if len(values) < count:
                    values.append(None)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not a GeoJSON file of features, or was cut short: {error!r}"
        ) from error
    missing = [column for column in COLUMNS if column not in columns]
    if missing:
        raise ValueError(f"{path}: the features lack the properties {', '.join(missing)}")
    if not count:
        raise ValueError(
            f"{path}: not one of {len(skipped)} features can be used; the first: "
            f"{skipped[0].reason}"
        )
    columns["index"] = [int(value) for value in columns["index"]]
    return columns, skipped


def pack_labels(columns: dict[str, list[Any]]) -> bytes:
    """Turn columns into the bytes of an .npz file: numbers as they are, all else as codes.

    The same columns give the same bytes.
    """
    arrays: dict[str, NDArray[Any]] = {}
    vocabulary: dict[str, list[Any]] = {}
    for name, values in columns.items():
        numbers = _numbers(name, values)
        if numbers is not None:
            arrays[name] = numbers
            continue
        codes: dict[tuple[bool, str | None], int] = {}
        words = ((True, v) if v is None or isinstance(v, str) else _as_json(v) for v in values)
        arrays[name] = np.array([codes.setdefault(word, len(codes)) for word in words], np.int32)
        vocabulary[name] = [word if plain else json.loads(str(word)) for plain, word in codes]
    text = json.dumps([list(columns), vocabulary]).encode()
    buffer = io.BytesIO()
    contents: dict[str, Any] = {_VOCABULARY: np.frombuffer(text, np.uint8)}
    contents |= {f"column {number}": arrays[name] for number, name in enumerate(columns)}
    np.savez(buffer, **contents)
    return buffer.getvalue()


def load_labels(path: Path) -> pd.DataFrame:
    """Read what `pack_labels` made.

    Raises
    ------
    OSError, ValueError, KeyError
        If the file is damaged.
    """
    import pandas as pd

    with np.load(path) as file:
        names, vocabulary = json.loads(file[_VOCABULARY].tobytes())
        table: dict[str, Any] = {}
        for number, name in enumerate(names):
            values = file[f"column {number}"]
            if name in vocabulary:
                words = np.empty(len(vocabulary[name]), object)
                for code, word in enumerate(vocabulary[name]):
                    words[code] = word
                values = words[values]
            table[name] = values
    return pd.DataFrame(table)


def _features(text: str) -> Iterator[Any]:
    """Decode the features of a FeatureCollection one by one.

    Decoding all at once would take ten times the file's size in memory.
    """
    decoder = json.JSONDecoder()
    sign, at = _open(text, 0, "{}")
    found = False
    while sign != "}":
        key, at = decoder.raw_decode(text, at)
        _, at = _sign(text, at, ":")
        if key == "features" and not found:
            found = True
            sign, at = _open(text, at, "[]")
            while sign != "]":
                feature, at = decoder.raw_decode(text, at)
                yield feature
                sign, at = _sign(text, at, ",]")
        else:
            _, at = decoder.raw_decode(text, at)
        sign, at = _sign(text, at, ",}")
    if not found:
        raise ValueError("it has no member 'features'")
    if at < len(text):
        raise ValueError(f"there is more after its end at character {at}")


def _open(text: str, at: int, pair: str) -> tuple[str, int]:
    """Read an opening bracket, and the closing one if nothing is between them."""
    sign, at = _sign(text, at, pair[0])
    return _sign(text, at, pair[1]) if text.startswith(pair[1], at) else (sign, at)


def _sign(text: str, at: int, expected: str) -> tuple[str, int]:
    """Read one of the expected characters and the white space around it."""
    start = _SPACE.match(text, at).end()  # type: ignore[union-attr]
    sign = text[start : start + 1]
    if not sign or sign not in expected:
        raise ValueError(f"character {start} is {sign!r}, not one of {expected!r}")
    return sign, _SPACE.match(text, start + 1).end()  # type: ignore[union-attr]


def _wrong(properties: Any) -> str | None:
    """Say why a feature cannot be used."""
    if not isinstance(properties, dict):
        return "has no properties"
    index: Any
    index, dataset = properties.get("index"), properties.get("dataset")
    if not _is_number(index) or index % 1 != 0 or not 0 <= index < _LARGEST_INDEX:
        return f"'index' is {_short(index)}, no whole number"
    if not _is_text(dataset) or not dataset:
        return f"'dataset' is {_short(dataset)}, no text"
    for name, limit in (("lat", 90), ("lon", 180)):
        value: Any = properties.get(name)
        if not _is_number(value) or not abs(value) <= limit:
            return f"{name!r} is {_short(value)}, no number from -{limit} to {limit}"
    for name in ("label", "classification_label"):
        if properties.get(name) is not None and not _is_text(properties[name]):
            return f"{name!r} is {_short(properties[name])}, neither a text nor null"
    if properties.get("is_crop") not in (0, 1, None):
        return f"'is_crop' is {_short(properties['is_crop'])}, not 0, 1 or null"
    if properties.get("is_test") not in (0, 1):
        return f"'is_test' is {_short(properties.get('is_test'))}, neither true nor false"
    return None


def _as_json(value: Any) -> tuple[bool, str | None]:
    return False, json.dumps(value, sort_keys=True)


def _numbers(name: str, values: list[Any]) -> NDArray[Any] | None:
    """Return a column of numbers as an array, null as NaN; None if it holds anything else."""
    kinds = {type(value) for value in values}
    if kinds == {bool} or name == "is_test":
        return np.array(values, np.bool_)
    if name == "is_crop":
        return np.array(values, np.float64 if None in values else np.int64)
    if kinds == {type(None)} or not kinds <= {int, float, type(None)}:
        return None
    if any(type(value) is int and abs(value) > _LARGEST_INDEX for value in values):
        return None
    return np.array(values, np.int64 if kinds == {int} and name not in _PLACE else np.float64)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _is_text(value: Any) -> bool:
    """Tell whether a value is a text, without halves of surrogate pairs, which JSON may hold."""
    return isinstance(value, str) and not _SURROGATE.search(value)


def _short(value: Any) -> str:
    return ascii(value)[:100]
