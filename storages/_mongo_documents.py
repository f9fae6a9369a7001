"""Records as documents of MongoDB, and queries as its filters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson
from bson.binary import Binary
from bson.datetime_ms import DatetimeMS

from flowstore.errors import CorruptError, InvalidKeyError, UnsupportedError
from flowstore.record import Key, Query, Record, Ref
from flowstore.storages._records import bad_cursor, dump_headers, load_headers

Document = dict[str, Any]

MAX_SIZE: Final = 16 * 1024 * 1024 - 64 * 1024
"""Bytes that a record's payload, headers and key may have together: a document's limit without what surrounds them."""

WHOLE: Final = {"reclaim_at": False}
HEAD: Final = {"reclaim_at": False, "value": False, "payload": False}

# Lists of small numbers take up to six times their place in BSON, and servers take their time with them.
_LARGEST_NATIVE: Final = 64 * 1024
_DEEPEST: Final = 50
_INT64: Final = range(-(2**63), 2**63)
_LATEST: Final = 2**53
_POSITION: Final = re.compile(r"[0-9a-f]{16}-[0-9a-f]{64}")


def address_of(ref: Ref) -> str:
    """Return the ``_id`` of a record's document."""
    return ref.address.hex()


def fields_of(record: Record) -> Document:
    """Return the fields that each writing of a record sets.

    Raises:
        SerializationError: the headers are not JSON.
        UnsupportedError: it is larger than a document can be.
    """
    headers = dump_headers(record)
    ref, key = record.ref, record.ref.key
    parts = (ref.kind, key.flow_name, key.task_name, key.task_id, ref.name, record.run_id or "", record.state or "")
    size = len(record.payload) + len(headers) + 2 * sum(len(str(part).encode()) for part in parts)
    if size > MAX_SIZE:
        raise UnsupportedError(f"{ref} needs {size} bytes; one document of MongoDB holds {MAX_SIZE}")
    expires_at = record.expires_at
    fields: Document = {
        "run_id": record.run_id,
        "state": record.state,
        "stored_at": float(record.stored_at),
        "expires_at": None if expires_at is None else float(expires_at),
        "reclaim_at": None if expires_at is None else DatetimeMS(int(max(-_LATEST, min(expires_at * 1000, _LATEST)))),
        "headers": headers.decode(),
    }
    is_native, value = _native(record)
    if is_native:
        fields["value"] = value
    else:
        fields["payload"] = Binary(record.payload)
    return fields


def identity_of(ref: Ref, created: int) -> Document:
    """Return the fields that only the first writing of a record sets."""
    key = ref.key
    return {
        "kind": ref.kind,
        "flow_name": key.flow_name,
        "task_name": key.task_name,
        "task_id": key.task_id,
        "name": ref.name,
        "position": f"{created:016x}-{address_of(ref)}",
    }


def update_of(fields: Mapping[str, Any]) -> Document:
    """Return the update that writes a record over an older one."""
    return {
        "$set": fields,
        "$unset": {"payload" if "value" in fields else "value": ""},
        "$inc": {"revision": 1},
    }


def read_document(document: Mapping[str, Any], payload: bool) -> Record:
    """Read a record.

    Raises:
        CorruptError: the document is no record's.
    """
    where = f"the document {document.get('_id')!r}"
    try:
        key = Key(document["flow_name"], document["task_name"], document["task_id"])
        ref = Ref(document["kind"], key, document["name"])
        headers = load_headers(document["headers"], ref)
        revision = int(document["revision"])
        if not payload:
            data = b""
        elif "payload" in document:
            data = bytes(document["payload"])
        else:
            data = orjson.dumps(document["value"])
    except (KeyError, TypeError, ValueError, InvalidKeyError) as exc:
        raise CorruptError(f"{where} is not a record's ({type(exc).__name__}: {exc})") from exc
    return Record(ref, data, headers, revision)


def filter_of(query: Query, cursor: str | None) -> Document:
    """Return the filter that selects what follows a cursor.

    Names and ids are only ever compared as values: nothing in them can become an operator.
    """
    # What is no record has no position.
    clauses: list[Document] = [{"position": {"$gt": ""}}]
    for name in ("flow_name", "task_name", "task_id", "run_id"):
        value = getattr(query, name)
        if value is not None:
            clauses.append({name: {"$eq": str(value)}})
    for name, values in (("kind", query.kinds), ("task_id", query.task_ids), ("state", query.states)):
        if values is not None:
            clauses.append({name: {"$in": [str(value) for value in values]}})
    if query.stored_from is not None:
        clauses.append({"stored_at": {"$gte": float(query.stored_from)}})
    if query.stored_before is not None:
        clauses.append({"stored_at": {"$lt": float(query.stored_before)}})
    if query.live_at is not None:
        clauses.append(live(query.live_at))
    if query.expired_at is not None:
        clauses.append(expired(query.expired_at))
    if cursor is not None:
        if not _POSITION.fullmatch(cursor):
            raise bad_cursor(cursor)
        clauses.append({"position": {"$lt" if query.descending else "$gt": cursor}})
    return {"$and": clauses}


def live(now: float) -> Document:
    """Return the filter of what has not expired."""
    return {"$or": [{"expires_at": {"$eq": None}}, {"expires_at": {"$gt": float(now)}}]}


def expired(now: float) -> Document:
    """Return the filter of what has expired."""
    return {"expires_at": {"$lte": float(now)}}


def _native(record: Record) -> tuple[bool, Any]:
    """Return whether MongoDB can hold the payload as a value that gives the same bytes again, and the value."""
    if not record.is_json or len(record.payload) > _LARGEST_NATIVE:
        return False, None
    try:
        value = orjson.loads(record.payload)
        return orjson.dumps(value) == record.payload and _is_faithful(value, _DEEPEST), value
    except ValueError:
        return False, None


def _is_faithful(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind is dict:
        # MongoDB gives a meaning to dollars and dots, and to the order of keys that are numbers none.
        return depth > 0 and all(
            key and key[0] != "$" and "." not in key and "\0" not in key and _is_faithful(inner, depth - 1)
            for key, inner in value.items()
        )
    if kind is list:
        return depth > 0 and all(_is_faithful(inner, depth - 1) for inner in value)
    return kind is not int or value in _INT64
