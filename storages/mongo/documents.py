"""Records as documents of MongoDB, and queries as its filters."""

from __future__ import annotations

import gc
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from flowstore.errors import InvalidKeyError, UnsupportedError
from flowstore.record import JSON, PIECE, Key, Query, Record, Ref
from flowstore.record.matching import Scalar, field_path, literal_prefix, load_cursor, prefix_end
from flowstore.storages.shared.headers import bad_cursor, corrupt, dump_headers, load_headers

MongoDocument = dict[str, Any]

MAX_SIZE: Final = 16 * 1024 * 1024 - 64 * 1024
"""Bytes of a record's payload, headers and key together: the limit of a document, less the rest of it."""

WHOLE: Final = {"reclaim_at": False}
"""The projection of a record."""
HEAD: Final = {"reclaim_at": False, "value": False, "payload": False}
"""The projection of a record without its payload."""
REVISION: Final = {"revision": True}
"""The projection of a record's revision."""

# Lists of small numbers take up to six times their place in BSON, and servers take their time with them.
_LARGEST_NATIVE: Final = 64 * 1024
_DEEPEST: Final = 50
_CONTAINERS: Final = frozenset({list, dict})
_INT64: Final = range(-(2**63), 2**63)
_LATEST: Final = 2**53
_POSITION: Final = re.compile(r"[0-9a-f]{16}-[0-9a-f]{64}")


ANY_RECORD: Final[MongoDocument] = {
    "_id": {"$regex": "^[0-9a-f]{64}$"},
    "position": {"$regex": "^[0-9a-f]{16}-[0-9a-f]{64}$"},
    "kind": {"$gte": ""},
    "headers": {"$exists": True},
}
"""The filter of documents that are records, damaged ones included."""


def address_of(ref: Ref) -> str:
    """Return the ``_id`` of a record's document."""
    return ref.address.hex()


def fields_of(record: Record) -> MongoDocument:
    """Return the fields that each write of a record sets.

    Raises:
        SerializationError: the headers are not JSON.
        UnsupportedError: the record is larger than a document can be.
    """
    headers = dump_headers(record)
    ref, key = record.ref, record.ref.key
    parts = (ref.kind, key.flow_name, key.task_name, key.task_id, ref.name, record.run_id or "", record.state or "")
    size = len(record.payload) + len(headers) + 2 * sum(len(str(part).encode()) for part in parts)
    if size > MAX_SIZE:
        raise UnsupportedError(f"{ref} needs {size} bytes; one document of MongoDB holds {MAX_SIZE}")
    expires_at = record.expires_at
    fields: MongoDocument = {
        "run_id": record.run_id,
        "state": record.state,
        "stored_at": float(record.stored_at),
        "expires_at": None if expires_at is None else float(expires_at),
        "reclaim_at": None if expires_at is None else _date(expires_at),
        "headers": headers.decode(),
    }
    is_native, value = _native(record)
    if is_native:
        fields["value"] = value
    else:
        fields["payload"] = bytes(record.payload)
    return fields


def _date(seconds: float) -> Any:
    # A part of the driver, which has been loaded by then. Python's own dates end with the year 9999.
    from bson.datetime_ms import DatetimeMS

    return DatetimeMS(int(max(-_LATEST, min(seconds * 1000, _LATEST))))


def identity_of(ref: Ref, created: int) -> MongoDocument:
    """Return the fields that only the first write of a record sets."""
    key = ref.key
    return {
        "kind": ref.kind,
        "flow_name": key.flow_name,
        "task_name": key.task_name,
        "task_id": key.task_id,
        "name": ref.name,
        "position": f"{created:016x}-{address_of(ref)}",
    }


def update_of(fields: Mapping[str, Any]) -> MongoDocument:
    """Return the update that writes a record over an older one."""
    return {
        "$set": fields,
        "$unset": {"payload" if "value" in fields else "value": ""},
        "$inc": {"revision": 1},
    }


def read_document(document: Mapping[str, Any], payload: bool) -> Record:
    """Return the record in a document.

    Raises:
        CorruptError: the document is not a record.
    """
    where = f"the document {document.get('_id')!r}"
    ref: Ref | None = None
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
        raise corrupt(ref, f"{where} is not a record ({type(exc).__name__}: {exc})") from exc
    return Record(ref, data, headers, revision)


def filter_of(query: Query, cursor: str | None) -> MongoDocument:
    """Return the filter for the records after a cursor.

    Names and ids are only ever compared as values: nothing in them can become an operator.
    """
    # Other documents have no position.
    clauses: list[MongoDocument] = [{"position": {"$gt": ""}}]
    for name in ("flow_name", "task_name", "task_id", "run_id"):
        value = getattr(query, name)
        if value is not None:
            clauses.append({name: {"$eq": str(value)}})
    for name, values in (("kind", query.kinds), ("task_id", query.task_ids), ("state", query.states)):
        if values is not None:
            clauses.append({name: {"$in": [str(value) for value in values]}})
    if query.kinds is None:
        clauses.append({"kind": {"$ne": PIECE}})
    if query.stored_from is not None:
        clauses.append({"stored_at": {"$gte": float(query.stored_from)}})
    if query.stored_before is not None:
        clauses.append({"stored_at": {"$lt": float(query.stored_before)}})
    if query.live_at is not None:
        clauses.append(live(query.live_at))
    if query.expired_at is not None:
        clauses.append(expired(query.expired_at))
    if query.pattern is not None:
        clauses += _like(query.pattern)
    if query.where:
        clauses.append(_may_have(query.where))
    if cursor is not None:
        clauses.append(_after(query, cursor))
    return {"$and": clauses}


def _after(query: Query, cursor: str) -> MongoDocument:
    beyond = "$lt" if query.descending else "$gt"
    if query.order == "task_id":
        task_id, address = load_cursor(cursor)
        later = {"task_id": {"$eq": task_id}, "_id": {beyond: address.hex()}}
        return {"$or": [{"task_id": {beyond: task_id}}, later]}
    if not _POSITION.fullmatch(cursor):
        raise bad_cursor(cursor)
    return {"position": {beyond: cursor}}


def order_of(query: Query) -> list[tuple[str, int]]:
    """Return the sort order of a listing."""
    direction = -1 if query.descending else 1
    names = ("task_id", "_id") if query.order == "task_id" else ("position",)
    return [(name, direction) for name in names]


def _like(pattern: str) -> list[MongoDocument]:
    start = literal_prefix(pattern)
    # An index finds the ids with this prefix.
    clauses: list[MongoDocument] = [{"task_id": {"$gte": start}}]
    end = prefix_end(start)
    if end is not None:
        clauses.append({"task_id": {"$lt": end}})
    if pattern.rstrip("*") == start != pattern:
        return clauses
    head, *parts = (_regex(part) for part in re.split("[*]+", pattern))
    # What stands between two stars is searched once, without backtracking: no pattern takes long.
    stars = [f"(?>.*?{part})" for part in parts[:-1]] + [f".*{part}" for part in parts[-1:]]
    return [*clauses, {"task_id": {"$regex": f"^(?s:{head}{''.join(stars)})(?!.|\\n)"}}]


def _regex(part: str) -> str:
    """Return a regular expression for a pattern without stars."""
    return "".join(
        "." if character == "?" else character if ord(character) > 127 else f"\\x{ord(character):02x}"
        for character in part
    )


def _may_have(where: Mapping[str, Scalar]) -> MongoDocument:
    """Return the filter for records that may have these values.

    MongoDB looks into lists too: reading the payload decides.
    """
    # JSON that MongoDB could not hold as it is.
    as_bytes: MongoDocument = {"payload": {"$exists": True}, "headers": {"$regex": f'"content_type":"{JSON}"'}}
    if any(key[0] == "$" or "\0" in key for field in where for key in field_path(field)):
        return as_bytes
    as_value = [{f"value.{field}": {"$eq": wanted}} for field, wanted in where.items()]
    return {"$or": [{"$and": as_value}, as_bytes]}


def live(now: float) -> MongoDocument:
    """Return the filter for records that have not expired."""
    return {"$or": [{"expires_at": {"$eq": None}}, {"expires_at": {"$gt": float(now)}}]}


def expired(now: float) -> MongoDocument:
    """Return the filter for records that have expired."""
    return {"expires_at": {"$lte": float(now)}}


def _native(record: Record) -> tuple[bool, Any]:
    """Return whether MongoDB keeps a payload exactly, and its value."""
    if not record.is_json or len(record.payload) > _LARGEST_NATIVE:
        return False, None
    try:
        value = orjson.loads(record.payload)
        return orjson.dumps(value) == record.payload and _is_faithful(value), value
    except ValueError:
        return False, None


def _is_faithful(value: Any) -> bool:
    keys: set[str] = set()
    # Level by level, in C, takes a third of the time of a recursive walk.
    level = [value]
    for _ in range(_DEEPEST + 1):
        kinds = set(map(type, level))
        if int in kinds and not all(one in _INT64 for one in level if type(one) is int):
            return False
        if dict in kinds:
            keys.update(*(one for one in level if type(one) is dict))
        if kinds.isdisjoint(_CONTAINERS):
            return all(map(_is_faithful_key, keys))
        level = gc.get_referents(*level)
    return False


def _is_faithful_key(key: str) -> bool:
    # MongoDB gives dollars and dots a meaning.
    return bool(key) and key[0] != "$" and "." not in key and "\0" not in key
