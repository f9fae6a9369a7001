"""What the parts of a query mean, for every adapter alike: patterns, fields of payloads, and the order by task id."""

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

Scalar = str | int | float | bool | None

LONGEST_PATTERN: Final = 1000
MOST_FIELDS: Final = 16
DEEPEST_FIELD: Final = 16
_INT64: Final = range(-(2**63), 2**63)
_LAST: Final = 0x10FFFF
_BEFORE_SURROGATES, _AFTER_SURROGATES = 0xD7FF, 0xE000

Place = tuple[str, bytes]
"""Where a record comes in the order by task id: its task id, then the address of its reference."""

_CURSOR: Final = re.compile("([0-9a-f]{64})[.]([A-Za-z0-9_-]*={0,2})")


def check_text(text: object, what: str) -> str:
    """Return a text that any database can keep or compare with.

    Raises:
        InvalidKeyError: it is not a string, or holds a lone surrogate.
    """
    if not isinstance(text, str):
        raise InvalidKeyError(f"{what} must be a string, not {type(text).__name__}: {text!r}")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidKeyError(
            f"{what} {text!r} holds a lone surrogate at {exc.start}, which no database can keep"
        ) from exc
    return text


# Patterns


def check_limit(limit: int | None) -> None:
    """Refuse a negative number of what is to be listed.

    Raises:
        ValueError: it is one.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit must be at least 0, or None for all, not {limit}")


def check_pattern(pattern: str) -> None:
    """Refuse a pattern that can't be one.

    Raises:
        InvalidKeyError: it is not a string of up to 1,000 characters.
    """
    if len(check_text(pattern, "pattern")) > LONGEST_PATTERN:
        raise InvalidKeyError(f"pattern has {len(pattern)} characters; {LONGEST_PATTERN} are the most")


def matches_pattern(text: str, pattern: str) -> bool:
    """Tell whether a whole text is like a pattern, in a time that grows with the product of their lengths at most.

    ``*`` stands for any characters or none, ``?`` for any one; every other character for itself.
    """
    # What it is turned into never goes back behind a star that was met, so that no pattern takes exponential time.
    return fnmatchcase(text, pattern.replace("[", "[[]"))


def literal_start(pattern: str) -> str:
    """Return what every text like that pattern starts with."""
    return re.split("[*?]", pattern, maxsplit=1)[0]


def first_behind(start: str) -> str | None:
    """Return the smallest text, by code points, that is behind all that start so; ``None`` if none is."""
    for end in range(len(start), 0, -1):
        code = ord(start[end - 1])
        if code < _LAST:
            return start[: end - 1] + chr(_AFTER_SURROGATES if code == _BEFORE_SURROGATES else code + 1)
    return None


# Fields


def path_of(field: str) -> list[str]:
    """Split the dotted name of a field into the keys that lead to it."""
    return field.split(".")


def check_fields(where: Mapping[str, Scalar]) -> None:
    """Refuse conditions on fields that can't be asked.

    Raises:
        InvalidKeyError: a field's name is not one.
        ValueError: a value is not a JSON scalar that every database compares alike, or there are too many fields.
    """
    if len(where) > MOST_FIELDS:
        raise ValueError(f"where names {len(where)} fields; {MOST_FIELDS} are the most")
    for field, wanted in where.items():
        keys = path_of(check_text(field, "a field in where"))
        if "" in keys or len(keys) > DEEPEST_FIELD:
            raise InvalidKeyError(
                f"where: {field!r} is no path of up to {DEEPEST_FIELD} keys with dots between, none of them empty"
            )
        if isinstance(wanted, str):
            check_text(wanted, f"the value of {field!r} in where")
        elif isinstance(wanted, float) and not math.isfinite(wanted):
            raise ValueError(f"where: {field!r} can't be {wanted!r}, which JSON has no form for")
        elif type(wanted) is int and wanted not in _INT64:
            raise ValueError(f"where: the value of {field!r} must fit into 64 bits")
        elif wanted is not None and not isinstance(wanted, bool | int | float):
            raise ValueError(
                f"where: the value of {field!r} must be a string, number, boolean or None, not {type(wanted).__name__}"
            )


def matches_fields(payload: str | bytes, where: Mapping[str, Scalar]) -> bool:
    """Tell whether a JSON text is an object with those values in its fields; ``False`` if it is no JSON.

    Only objects are followed, never lists. Numbers are compared as numbers, so that 1 equals 1.0; ``True`` does not.
    """
    try:
        document = orjson.loads(payload)
    except ValueError:
        return False
    return all(_equals(document, field, wanted) for field, wanted in where.items())


def _equals(document: Any, field: str, wanted: Scalar) -> bool:
    for key in path_of(field):
        if type(document) is not dict or key not in document:
            return False
        document = document[key]
    if isinstance(wanted, bool) or wanted is None:
        return document is wanted
    if isinstance(wanted, str):
        return type(document) is str and document == wanted
    return type(document) in (int, float) and bool(document == wanted)


# Order


def dump_place(place: Place) -> str:
    """Return the cursor of a listing by task id."""
    task_id, address = place
    return f"{address.hex()}.{base64.urlsafe_b64encode(task_id.encode()).decode()}"


def load_place(cursor: str) -> Place:
    """Read the cursor of a listing by task id.

    Raises:
        StorageError: no page of such a listing gave it.
    """
    found = _CURSOR.fullmatch(cursor)
    try:
        if found is None:
            raise ValueError
        return base64.urlsafe_b64decode(found[2]).decode(), bytes.fromhex(found[1])
    except (ValueError, binascii.Error):
        raise StorageError(f"{cursor!r} is not a cursor of a listing by task id") from None
