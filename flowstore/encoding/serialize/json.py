"""JSON: plain if lossless, readable with database tools; else tagged."""

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
from flowstore.encoding.serialize.tags import SCALARS, TAG, ConvertedPaths, Tagger
from flowstore.errors import SerializationError

PLAIN: Final = "json"
TYPED: Final = "json-typed"

_KEYS: Final = frozenset({str})
_CONTAINERS: Final = frozenset({list, dict})
_OTHERS: Final = _CONTAINERS | {float}
_TAGGER: Final = Tagger("JSON", binary=False)
_TAG: Final = orjson.dumps(TAG)
_EXACT: Final = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
"""Refuse values that would come back as another type."""
_EXACT_PARTS: Final = (
    ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
_FLOAT: Final = b"\xcb"
"""The byte before each float in msgpack."""
_NOT_FINITE: Final = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")
"""The first bytes of a float that isn't finite; sometimes other data."""


def dumps(value: object, converted: ConvertedPaths | None = None) -> tuple[bytes, str]:
    """Encode a value.

    Args:
        converted: collects the paths of values stored as another type; without it, these are refused.

    Returns:
        The bytes, and the serializer name for ``loads``.

    Raises:
        SerializationError: a part of the value can't be stored; names its path and type.
    """
    try:
        payload = _dump_plain(value)
        if payload is not None:
            return payload, PLAIN
        table = tables.dumps(value)
        if table is not None:
            return table
        tree = Tagger("JSON", binary=False, converted=converted).tag(value)
        if converted is not None and converted.count and (payload := _dump_plain(tree)) is not None:
            return payload, PLAIN
        return json.dumps(tree, separators=(",", ":"), allow_nan=False).encode(), TYPED
    except RecursionError:
        raise SerializationError("the value is nested too deeply to be stored, or contains itself") from None


loads = orjson.loads
"""Decode plain JSON."""


def loads_typed(payload: bytes) -> Any:
    """Decode tagged JSON."""
    return _TAGGER.untag(json.loads(payload))


def check(payload: bytes) -> None:
    """Raise ValueError or RecursionError if the bytes are not JSON."""
    json.loads(payload)


def _dump_plain(value: object) -> bytes | None:
    """Encode as plain JSON; return None if that would lose something."""
    try:
        payload = orjson.dumps(value, option=_EXACT)
        # orjson converts tuples, UUIDs and enumerations. ormsgpack refuses them, and is the fastest way to find them.
        packed = ormsgpack.packb(value, option=_EXACT_PARTS)
    except (TypeError, ValueError):
        # Keys that are no strings, an integer over 64 bits, a lone surrogate, deep nesting, any other type.
        return None
    # What is left are infinities, which orjson writes as null, and our own tags.
    # One character is found ten times faster than several.
    if _FLOAT in packed and b"null" in payload and _NOT_FINITE.search(packed) and not _are_finite(value):
        return None
    if b"$" in payload and _TAG in payload and not is_plain(value):
        return None
    return payload


def _are_finite(value: object) -> bool:
    """Return whether all floats in the value are finite.

    The value consists of JSON's types and must not contain itself.
    """
    # Hot: level by level, in C, takes a tenth of the time that a walk through the parts does.
    level = [value]
    while level:
        if not all(map(isfinite, [part for part in level if type(part) is float])):
            return False
        level = gc.get_referents(*level)
    return True


def is_plain(value: object, scalars: frozenset[type] = SCALARS) -> bool:
    """Return whether plain JSON or msgpack represents a value losslessly.

    It does for these scalars, finite floats, lists, and dicts with string keys and no tag.
    """
    kind = type(value)
    if kind is dict:
        if not _KEYS.issuperset(map(type, value)) or TAG in value:  # type: ignore[call-overload, operator]
            return False
        return _all_plain(value.values(), scalars)  # type: ignore[attr-defined]
    if kind is list:
        return _all_plain(value, scalars)  # type: ignore[arg-type]
    return kind in scalars or (kind is float and isfinite(value))  # type: ignore[arg-type]


def _all_plain(values: Collection[object], scalars: frozenset[type]) -> bool:
    # Hot: one set of types per container keeps the loop over its scalars in C.
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
