"""The known headers of records, and validating their types.

Anyone who can write to the database, or a failing disk, can put anything into the headers of a record. None of that
may affect other records, so nothing uses a header that ``check_headers`` has not validated. Unknown headers are kept as
they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from flowstore.errors import CorruptError
from flowstore.record import FORMAT, Ref

MAX_PIECES: Final = 1 << 24
"""Pieces of one content: 16 TiB with 1 MiB each. Limits how many pieces a forged number makes readers look for."""

_GENERATION: Final = re.compile(r"[0-9a-f]{32}")

Headers = Mapping[str, Any]
Types = frozenset[type]

_NONE: Final[type] = type(None)
_INT: Final[Types] = frozenset({int})
_SHAPE: Final[Types] = frozenset()
_TEXT: Final[Types] = frozenset({str, _NONE})
_INT_OR_NOT: Final[Types] = frozenset({int, _NONE})
_TIME: Final[Types] = frozenset({float, int})
_TIME_OR_NOT: Final[Types] = frozenset({float, int, _NONE})

KNOWN: Final[dict[str, Types]] = {
    # How the payload is decoded
    "format": _INT,
    "serializer": _TEXT,
    "content_type": _TEXT,
    "size": _INT,
    "digest": _TEXT,
    "token": _TEXT,
    "codecs": _SHAPE,
    "full_size": _INT,
    "key_id": _TEXT,
    "salt": _TEXT,
    # Where payloads that are too large for a record are
    "blob": _SHAPE,
    "content": _SHAPE,
    "generations": _SHAPE,
    "of": _SHAPE,
    # Times
    "stored_at": _TIME,
    "expires_at": _TIME_OR_NOT,
    "published_at": _TIME_OR_NOT,
    "started_at": _TIME_OR_NOT,
    "finished_at": _TIME_OR_NOT,
    # About a task and its run
    "state": _TEXT,
    "error": _TEXT,
    "run_id": _TEXT,
    "parent_run_id": _TEXT,
    "attempt": _INT,
    "worker": _TEXT,
    "parents": _SHAPE,
    "joins": _TEXT,
    "group_id": _TEXT,
    "group_index": _INT_OR_NOT,
    "chord_id": _TEXT,
    "root_id": _TEXT,
    "parent_id": _TEXT,
    "celery_task": _TEXT,
    # Of other kinds
    "event": frozenset({str}),
    "sequence": _INT,
    "owner": _TEXT,
}
"""The JSON types of each header; empty if ``_SHAPES`` validates it."""

_WORDS: Final[dict[type, str]] = {
    str: "a string", int: "an integer", float: "a number", bool: "true or false", list: "a list", dict: "an object",
    _NONE: "null",
}  # fmt: skip


def check_headers(headers: Headers, where: object, ref: Ref | None = None) -> None:
    """Raise CorruptError if a known header has the wrong type.

    Adapters call this with headers they have read, before they create a record.

    Args:
        where: names the record in the message; preferably its reference.
        ref: its reference, if ``where`` is something else.

    Raises:
        CorruptError: names the record, the header, and the value found.
    """
    mistake = mistake_in(headers)
    if mistake is None:
        return
    version = headers.get("format")
    if type(version) is int and version != FORMAT:
        mistake = f"it has the record format {version}, and this version of flowstore reads {FORMAT}: {mistake}"
    error = CorruptError(f"the stored headers of {where} can't be used: {mistake}")
    error.ref = where if ref is None and isinstance(where, Ref) else ref
    raise error


def mistake_in(headers: Headers) -> str | None:
    """Return what is wrong with the known headers, or None.

    Only the exact types that JSON returns are valid.
    """
    # Hot: runs for each record that is read or written.
    known = KNOWN.get
    for name, value in headers.items():
        types = known(name)
        if types is None or type(value) in types:
            continue
        shape = _SHAPES.get(name)
        mistake = f"is {_shown(value)}, not {_wanted(types)}" if shape is None else shape(value, headers)
        if mistake is not None:
            return f"{name!r} {mistake}"
    return None


def is_generation(name: object) -> bool:
    """Return whether a name has the form of flowstore's generations.

    Never true for a path, or for names of other programs.
    """
    return type(name) is str and _GENERATION.fullmatch(name) is not None


def _is_texts(value: object) -> bool:
    return type(value) is list and all(type(one) is str for one in value)


def _is_number_of(value: object, maximum: int | None = None) -> bool:
    return type(value) is int and value >= 0 and (maximum is None or value <= maximum)


def _codecs(value: Any, _: Headers) -> str | None:
    return None if _is_texts(value) else f"is {_shown(value)}, not a list of names"


def _names(value: Any, _: Headers) -> str | None:
    return None if _is_texts(value) and len(value) == 5 else f"is {_shown(value)}, not a list of five strings"


def _parents(value: Any, _: Headers) -> str | None:
    is_right = type(value) is list and all(_is_texts(one) and len(one) == 2 for one in value)
    return None if is_right else f"is {_shown(value)}, not a list of pairs of a task's name and id"


def _blob(value: Any, headers: Headers) -> str | None:
    if value is not True:
        return f"is {_shown(value)}, not true"
    return None if "size" in headers and "digest" in headers else "is true, without the size and digest of a blob"


def _content(value: Any, _: Headers) -> str | None:
    if type(value) is not dict:
        return f"is {_shown(value)}, not an object"
    if not is_generation(value.get("generation")):
        return f"names the generation {_shown(value.get('generation'))}, which is not a name from flowstore"
    if not _is_number_of(value.get("pieces"), MAX_PIECES):
        return f"has {_shown(value.get('pieces'))} as number of pieces"
    if not _is_number_of(value.get("size")):
        return f"has {_shown(value.get('size'))} as size"
    if type(value.get("content_type")) not in _TEXT:
        return f"has {_shown(value['content_type'])} as content type"
    return None


def _generations(value: Any, _: Headers) -> str | None:
    if type(value) is not dict:
        return f"is {_shown(value)}, not an object"
    for generation, pieces in value.items():
        if not is_generation(generation):
            return f"names the generation {_shown(generation)}, which is not a name from flowstore"
        if not _is_number_of(pieces, MAX_PIECES):
            return f"has {_shown(pieces)} as number of pieces"
    return None


_SHAPES: Final[dict[str, Callable[[Any, Headers], str | None]]] = {
    "blob": _blob,
    "codecs": _codecs,
    "of": _names,
    "parents": _parents,
    "content": _content,
    "generations": _generations,
}


def _shown(value: object) -> str:
    word, text = _WORDS.get(type(value), f"of the type {type(value).__name__}"), repr(value)
    if value is None or isinstance(value, list | dict):
        return word
    return f"{word} ({text if len(text) <= 80 else text[:80] + '…'})"


def _wanted(types: Types) -> str:
    return " or ".join(word for of, word in _WORDS.items() if of in types and not (of is int and float in types))
