"""Headers as JSON, conflicts and cursors."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from flowstore.errors import ConflictError, CorruptError, SerializationError, StorageError, UnreachableError
from flowstore.record import Record, Ref
from flowstore.storage import check_headers, mistake_in

MAX_HEADERS: Final = 2**20
"""The most bytes of a record's headers; reading them takes about thirty times as much memory."""

_NUMBER: Final = re.compile("[0-9]{1,18}")


def dump_headers(record: Record) -> bytes:
    """Encode the headers of a record.

    Raises:
        SerializationError: a header can't be JSON, a known one has the wrong type, an integer needs more than 64
            bits, or the headers are too large.
    """
    try:
        headers = record.headers
        text = orjson.dumps(headers if type(headers) is dict else dict(headers))
    except (TypeError, ValueError) as exc:
        raise SerializationError(f"the headers of {record.ref} are not JSON: {exc}", "$.headers") from exc
    if len(text) > MAX_HEADERS:
        message = f"the headers of {record.ref} take {len(text)} bytes; the maximum is {MAX_HEADERS}"
        raise SerializationError(message, "$.headers")
    # JSON changes some types; headers that could not be read again must not be stored.
    if mistake_in(headers) is not None and (mistake := mistake_in(orjson.loads(text))) is not None:
        raise SerializationError(f"the headers of {record.ref} can't be stored: {mistake}", "$.headers")
    return text


def load_headers(text: str | bytes, ref: Ref) -> dict[str, Any]:
    """Return the headers in a text.

    Raises:
        CorruptError: the text is not a JSON object or too long, or a known header has the wrong type.
    """
    if len(text) > MAX_HEADERS:
        raise corrupt(ref, f"the stored headers of {ref} have {len(text)} bytes; the maximum is {MAX_HEADERS}")
    try:
        headers = orjson.loads(text)
    except ValueError as exc:
        raise corrupt(ref, f"the stored headers of {ref} are not JSON: {exc}") from exc
    if type(headers) is not dict:
        raise corrupt(ref, f"the stored headers of {ref} are a JSON {type(headers).__name__}, not an object")
    check_headers(headers, ref)
    return headers


def corrupt(ref: Ref | None, message: str) -> CorruptError:
    """Return the error for a record that can't be read."""
    error = CorruptError(message)
    error.ref = ref
    return error


def without_payload(record: Record) -> Record:
    """Return a record without its payload."""
    return Record(record.ref, b"", record.headers, record.revision)


def conflict(ref: Ref, current: Record | None, expected: int) -> ConflictError:
    """Return the error for a condition that does not hold."""
    now = f"at revision {current.revision}" if current else "not stored"
    condition = f"revision {expected}" if expected else "no record"
    return ConflictError(f"{ref} is {now}; expected was {condition}", current)


def kept_changing(where: object, tries: int) -> UnreachableError:
    """Return the error for a write that met other writers, or reads of a server that lag behind writes, each time."""
    return UnreachableError(
        f"{where}: other writers kept changing the record, or reads lag behind writes ({tries} tries)"
    )


def cursor_number(cursor: str) -> int:
    """Return the number in a cursor.

    Raises:
        StorageError: the text is not a cursor.
    """
    if not _NUMBER.fullmatch(cursor):
        raise bad_cursor(cursor)
    return int(cursor)


def bad_cursor(cursor: str) -> StorageError:
    """Return the error for a text that is not a cursor."""
    return StorageError(f"{cursor!r} is not a cursor of this storage")
