"""Values as JSON: plain where that is faithful, so that the database's own tools can read them, else with marks."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Collection
from math import isfinite
from typing import Any, Final

import orjson
import ormsgpack

from flowstore.encoding.serialize import tables
from flowstore.encoding.serialize.marks import MARK, SCALARS, Marks, Places
from flowstore.errors import SerializationError

PLAIN: Final = "json"
TYPED: Final = "json-typed"

_KEYS: Final = frozenset({str})
_CONTAINERS: Final = frozenset({list, dict})
_OTHERS: Final = _CONTAINERS | {float}
_MARKS: Final = Marks("JSON", binary=False)
_MARKED: Final = orjson.dumps(MARK)
_EXACT: Final = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
"""Refuse what would not come back as the type that it is."""
_EXACT_PARTS: Final = (
    ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
_FLOAT: Final = b"\xcb"
"""What comes before each float in msgpack."""
_NOT_FINITE: Final = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")
"""How one begins that is not finite, and now and then something else."""


def dumps(value: object, places: Places | None = None) -> tuple[bytes, str]:
    """Encode a value.

    Args:
        places: takes down what is kept as another type than it has; without it, such a value is refused.

    Returns:
        The bytes, and the name of the serializer that ``loads`` needs to read them.

    Raises:
        SerializationError: a part of the value has no faithful form; names its path and type.
    """
    try:
        payload = _dump_plain(value)
        if payload is not None:
            return payload, PLAIN
        table = tables.dumps(value)
        if table is not None:
            return table
        tree = Marks("JSON", binary=False, places=places).mark(value)
        if places is not None and places.count and (payload := _dump_plain(tree)) is not None:
            return payload, PLAIN
        return json.dumps(tree, separators=(",", ":"), allow_nan=False).encode(), TYPED
    except RecursionError:
        raise SerializationError("the value is nested too deeply to be stored, or contains itself") from None


loads = orjson.loads
"""Decode plain JSON."""


def loads_typed(payload: bytes) -> Any:
    """Decode JSON with marks."""
    return _MARKS.unmark(json.loads(payload))


def check(payload: bytes) -> None:
    """Raise ValueError or RecursionError where bytes are not JSON."""
    json.loads(payload)


def _dump_plain(value: object) -> bytes | None:
    """Return a value as plain JSON, or ``None`` for one that would not come back as it is."""
    try:
        payload = orjson.dumps(value, option=_EXACT)
        # orjson writes tuples, UUIDs and enumerations as others. This refuses them, and is the fastest that can.
        packed = ormsgpack.packb(value, option=_EXACT_PARTS)
    except (TypeError, ValueError):
        # Keys that are no strings, an integer over 64 bits, a lone surrogate, deep nesting, any other type.
        return None
    # What is left are infinities, which orjson writes as null, and our own marks.
    # One character is found ten times faster than several.
    if _FLOAT in packed and b"null" in payload and _NOT_FINITE.search(packed) and not _are_finite(value):
        return None
    if b"$" in payload and _MARKED in payload and not is_plain(value):
        return None
    return payload


def _are_finite(value: object) -> bool:
    """Tell whether all floats in a value of JSON's types are finite. It must not contain itself."""
    # Hot: level by level, in C, takes a tenth of the time that a walk through the parts does.
    level = [value]
    while level:
        if not all(map(isfinite, [part for part in level if type(part) is float])):
            return False
        level = gc.get_referents(*level)
    return True


def is_plain(value: object, scalars: frozenset[type] = SCALARS) -> bool:
    """Tell whether a value is of these scalars, finite floats, lists and dicts with string keys and no marks."""
    kind = type(value)
    if kind is dict:
        if not _KEYS.issuperset(map(type, value)) or MARK in value:  # type: ignore[call-overload, operator]
            return False
        return _all_plain(value.values(), scalars)  # type: ignore[attr-defined]
    if kind is list:
        return _all_plain(value, scalars)  # type: ignore[arg-type]
    return kind in scalars or (kind is float and isfinite(value))  # type: ignore[arg-type]


def _all_plain(values: Collection[object], scalars: frozenset[type]) -> bool:
    # Hot: one set of types a container keeps the loop over its scalars in C.
    others = set(map(type, values)) - scalars
    if not others:
        return True
    if not others <= _OTHERS:
        return False
    if float in others:
        for value in values:
            if type(value) is float and not isfinite(value):
                return False
        if len(others) == 1:
            return True
    return all(is_plain(value, scalars) for value in values if type(value) in _CONTAINERS)
