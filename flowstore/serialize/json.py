"""Values as JSON: plain where that is faithful, so that the database's own tools can read them, else with marks."""

from __future__ import annotations

import gc
import json
from collections.abc import Collection, Iterable
from math import isfinite
from typing import Any, Final

import orjson

from flowstore.errors import SerializationError
from flowstore.serialize import tables
from flowstore.serialize.marks import MARK, SCALARS, Marks

PLAIN: Final = "json"
TYPED: Final = "json-typed"

_KEYS: Final = frozenset({str})
_CONTAINERS: Final = frozenset({list, dict})
_OTHERS: Final = _CONTAINERS | {float}
_PLAIN_TYPES: Final = SCALARS | _OTHERS
_MARKS: Final = Marks("JSON", binary=False)
_MARKED: Final = orjson.dumps(MARK)
_EXACT: Final = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
"""Refuse what would not come back as the type that it is."""


def dumps(value: object) -> tuple[bytes, str]:
    """Encode a value.

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
        return json.dumps(_MARKS.mark(value), separators=(",", ":"), allow_nan=False).encode(), TYPED
    except RecursionError:
        raise SerializationError("the value is nested too deeply to be stored, or contains itself") from None


loads = orjson.loads
"""Decode plain JSON."""


def loads_typed(payload: bytes) -> Any:
    """Decode JSON with marks."""
    return _MARKS.unmark(json.loads(payload))


def _dump_plain(value: object) -> bytes | None:
    """Return a value as plain JSON, or ``None`` for one that would not come back as it is."""
    try:
        payload = orjson.dumps(value, option=_EXACT)
    except (TypeError, ValueError):
        # Keys that are no strings, an integer over 64 bits, a lone surrogate, deep nesting, any other type.
        return None
    # What is left are types that orjson writes as others, infinities that it writes as null, and our own marks.
    # One character is found ten times faster than several.
    may_be_marked = b"$" in payload and _MARKED in payload
    is_faithful = is_plain(value) if may_be_marked else _has_plain_parts(value, payload)
    return payload if is_faithful else None


def _has_plain_parts(value: object, payload: bytes) -> bool:
    """Tell whether all parts of a value are of JSON's types, and its numbers finite. It must not contain itself."""
    # Hot: level by level, in C, takes a tenth of the time that a walk through the parts does.
    level = [value]
    while True:
        kinds = set(map(type, level))
        if not kinds <= _PLAIN_TYPES:
            return False
        if float in kinds and b"null" in payload and not _are_finite(level):
            return False
        if kinds.isdisjoint(_CONTAINERS):
            return True
        level = gc.get_referents(*level)


def _are_finite(values: Iterable[object]) -> bool:
    return all(map(isfinite, [value for value in values if type(value) is float]))


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
