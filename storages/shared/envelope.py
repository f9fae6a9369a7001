"""A record as bytes: a line of JSON that describes it, then the payload."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from flowstore.errors import CorruptError, InvalidKeyError, SerializationError
from flowstore.record import Key, Record, Ref
from flowstore.storage import check_headers

from .headers import MAX_HEADERS, dump_headers

ENVELOPE_FORMAT: Final = 1
_MAX_LINE: Final = 16 * MAX_HEADERS  # with names, which are longer than any that people give
_NAMES: Final = ("kind", "flow_name", "task_name", "task_id", "name")


@dataclass(frozen=True, slots=True)
class Stored:
    """A record and when it was first stored, in nanoseconds."""

    record: Record
    created: int

    @property
    def position(self) -> tuple[int, str]:
        """The position of the record in a listing."""
        return self.created, self.record.ref.address.hex()


def first_line(record: Record, revision: int, created: int) -> bytes:
    """Return the first line of a record's bytes.

    Raises:
        SerializationError: the names and headers are too large.
    """
    ref, key = record.ref, record.ref.key
    envelope = {
        "format": ENVELOPE_FORMAT,
        "kind": ref.kind,
        "flow_name": key.flow_name,
        "task_name": key.task_name,
        "task_id": key.task_id,
        "name": ref.name,
        "revision": revision,
        "created": created,
        "size": len(record.payload),
        "headers": orjson.Fragment(dump_headers(record)),
    }
    line = orjson.dumps(envelope, option=orjson.OPT_APPEND_NEWLINE)
    if len(line) > _MAX_LINE:
        raise SerializationError(
            f"the names and headers of {ref.kind} take {len(line)} bytes, the maximum is {_MAX_LINE}"
        )
    return line


def read_envelope(data: bytes, total: int, payload: bool, where: str, expected: Ref | None = None) -> Stored:
    """Read a record from its bytes.

    Args:
        data: all bytes, or at least the first line without ``payload``.
        total: the size of the whole.
        where: what is read, for messages.
        expected: the reference that the record should have; if it matches, it is reused.

    Raises:
        CorruptError: the bytes are not whole, or not a record of this format.
    """
    end = data.find(b"\n") + 1
    if not end:
        raise damaged(where, "its first line has no end")
    stored, size = _parse(data[:end], data[end:] if payload else b"", where, expected)
    if end + size != total:
        raise damaged(where, f"its payload has {total - end} bytes instead of {size}")
    return stored


def _parse(line: bytes, payload: bytes, where: str, expected: Ref | None) -> tuple[Stored, int]:
    if len(line) > _MAX_LINE:
        raise damaged(where, f"its first line has {len(line)} bytes, the maximum is {_MAX_LINE}")
    try:
        envelope: dict[str, Any] = orjson.loads(line)
        if envelope["format"] != ENVELOPE_FORMAT:
            raise damaged(where, f"it has the format {envelope['format']!r}, this version reads {ENVELOPE_FORMAT}")
        kind, *key, name = (envelope[part] for part in _NAMES)
        # Making a reference takes longer than the rest of reading.
        ref = expected if expected is not None and expected.names == (kind, *key, name) else Ref(kind, Key(*key), name)
        headers, revision, created, size = (envelope[name] for name in ("headers", "revision", "created", "size"))
    except (ValueError, KeyError, TypeError, InvalidKeyError) as exc:
        raise damaged(where, f"its first line does not describe a record ({type(exc).__name__}: {exc})") from exc
    if not (type(headers) is dict and type(revision) is type(created) is type(size) is int):
        raise damaged(where, "its first line does not describe a record")
    check_headers(headers, f"{ref} in {where}", ref)
    return Stored(Record(ref, payload, headers, revision), created), size


def damaged(where: str, why: str) -> CorruptError:
    """Return the error for bytes that are not a record."""
    return CorruptError(f"{where} can't be read: {why}")
