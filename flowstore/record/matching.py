"""What the parts of a query mean: patterns, fields and cursors.

Every adapter gives them the same meaning, in the language of its database or with these functions.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

import orjson

from flowstore.errors import InvalidKeyError, StorageError
from flowstore.record.keys import SortKey, check_text

Scalar = str | int | float | bool | None

MAX_PATTERN: Final = 1000
"""Characters of a pattern."""
MAX_FIELDS: Final = 16
MAX_FIELD_DEPTH: Final = 16
_INT64: Final = range(-(2**63), 2**63)
_LAST: Final = 0x10FFFF
_BEFORE_SURROGATES, _AFTER_SURROGATES = 0xD7FF, 0xE000

_CURSOR: Final = re.compile("([0-9a-f]{64})[.]([A-Za-z0-9_-]*={0,2})")


# Patterns


def check_pattern(pattern: str) -> None:
    """Validate a pattern.

    Raises:
        InvalidKeyError: it is not a string of at most 1,000 characters.
    """
    if len(check_text(pattern, "pattern")) > MAX_PATTERN:
        raise InvalidKeyError(f"pattern has {len(pattern)} characters; the maximum is {MAX_PATTERN}")


def matches_pattern(text: str, pattern: str) -> bool:
    """Return whether the whole text matches the pattern.

    ``*`` matches any characters or none, ``?`` any single one; every other character matches itself. The time grows at
    most with the product of both lengths.
    """
    # fnmatch's regular expression never backtracks past an earlier star, so no pattern takes exponential time.
    return fnmatchcase(text, pattern.replace("[", "[[]"))


def literal_prefix(pattern: str) -> str:
    """Return the prefix that all texts matching the pattern share."""
    return re.split("[*?]", pattern, maxsplit=1)[0]


def prefix_end(prefix: str) -> str | None:
    """Return the exclusive upper bound of all strings with this prefix.

    By code points. Returns None if there is no upper bound.
    """
    for end in range(len(prefix), 0, -1):
        code = ord(prefix[end - 1])
        if code < _LAST:
            return prefix[: end - 1] + chr(_AFTER_SURROGATES if code == _BEFORE_SURROGATES else code + 1)
    return None


# Fields


def field_path(field: str) -> list[str]:
    """Split the dotted name of a field into its keys."""
    return field.split(".")


def check_fields(where: Mapping[str, Scalar]) -> None:
    """Validate the conditions of ``Query.where``.

    Raises:
        InvalidKeyError: the name of a field is invalid.
        ValueError: a value is not a JSON scalar that every database compares alike, or there are too many fields.
    """
    if len(where) > MAX_FIELDS:
        raise ValueError(f"where names {len(where)} fields; the maximum is {MAX_FIELDS}")
    for field, expected in where.items():
        keys = field_path(check_text(field, "a field in where"))
        if "" in keys or len(keys) > MAX_FIELD_DEPTH:
            raise InvalidKeyError(
                f"where: {field!r} is not a path of up to {MAX_FIELD_DEPTH} non-empty keys separated by dots"
            )
        if isinstance(expected, str):
            check_text(expected, f"the value of {field!r} in where")
        elif isinstance(expected, float) and not math.isfinite(expected):
            raise ValueError(f"where: {field!r} can't be {expected!r}, which JSON can't represent")
        elif type(expected) is int and expected not in _INT64:
            raise ValueError(f"where: the value of {field!r} must fit into 64 bits")
        elif expected is not None and not isinstance(expected, bool | int | float):
            raise ValueError(
                f"where: the value of {field!r} must be a string, number, boolean or None, "
                f"not {type(expected).__name__}"
            )


def matches_fields(payload: str | bytes, where: Mapping[str, Scalar]) -> bool:
    """Return whether a JSON object has these values in its fields.

    Returns False if the payload is not JSON. Paths lead through objects only, never lists. Numbers are compared as
    numbers: 1 equals 1.0, but not ``True``.
    """
    try:
        document = orjson.loads(payload)
    except ValueError:
        return False
    return all(_equals(document, field, expected) for field, expected in where.items())


def _equals(document: Any, field: str, expected: Scalar) -> bool:
    for key in field_path(field):
        if type(document) is not dict or key not in document:
            return False
        document = document[key]
    if isinstance(expected, bool) or expected is None:
        return document is expected
    if isinstance(expected, str):
        return type(document) is str and document == expected
    return type(document) in (int, float) and bool(document == expected)


# Order


def dump_cursor(position: SortKey) -> str:
    """Return the cursor of a listing by task id."""
    task_id, address = position
    return f"{address.hex()}.{base64.urlsafe_b64encode(task_id.encode()).decode()}"


def load_cursor(cursor: str) -> SortKey:
    """Parse the cursor of a listing by task id.

    Raises:
        StorageError: it is not one.
    """
    found = _CURSOR.fullmatch(cursor)
    try:
        if found is None:
            raise ValueError
        return base64.urlsafe_b64decode(found[2]).decode(), bytes.fromhex(found[1])
    except (ValueError, binascii.Error):
        raise StorageError(f"{cursor!r} is not a cursor of a listing by task id") from None
