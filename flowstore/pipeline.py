"""A value and the facts about it, to a record and back.

Decoding is driven by the headers in the record alone, so that what was stored stays readable whatever the
configuration says later.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from typing import Any

from flowstore import serialize
from flowstore.errors import CorruptError
from flowstore.failure import Failure, RemoteTaskError
from flowstore.record import FORMAT, JSON, Record, Ref


def encode(ref: Ref, value: object, facts: Mapping[str, Any] | None = None) -> Record:
    """Build the record that stores a value.

    Args:
        ref: where it belongs.
        value: anything that ``flowstore.serialize`` keeps faithfully; not changed.
        facts: further headers, JSON-able.

    Returns:
        A record with revision 0. Its ``token`` is new with each call and marks this one write, so that a write that
        is tried again is told apart from somebody else's.

    Raises:
        SerializationError: the value can't be stored; nothing has been written.
    """
    payload, serializer = serialize.dumps(value)
    headers = {
        "format": FORMAT,
        "serializer": serializer,
        "content_type": JSON,
        "size": len(payload),
        "digest": _digest(payload),
        "token": os.urandom(8).hex(),
        "stored_at": time.time(),
        **(facts or {}),
    }
    return Record(ref, payload, headers)


def decode(record: Record) -> Any:
    """Return the value of a record: a new object with every call.

    Raises:
        CorruptError: the payload is damaged, or was written in a way that this version does not know.
    """
    headers = record.headers
    if headers.get("format") != FORMAT:
        raise CorruptError(
            f"{record.ref} has the record format {headers.get('format')!r}; this version of flowstore reads {FORMAT}"
        )
    if headers.get("digest") != _digest(record.payload):
        raise CorruptError(f"the stored payload of {record.ref} does not match its digest")
    return serialize.loads(record.payload, headers.get("serializer", ""))


def encode_error(ref: Ref, exc: BaseException, facts: Mapping[str, Any]) -> Record:
    """Build the record of an error; ``facts["node_args"]``, the task's arguments, may be anything: kept as text."""
    headers = {"state": "FAILURE", **facts}
    return encode(ref, Failure.of(exc, headers.pop("node_args", None)).to_dict(), headers)


def decode_error(record: Record) -> RemoteTaskError:
    """Read the record of an error.

    Raises:
        CorruptError: as ``decode``, or it holds something else.
    """
    value = decode(record)
    try:
        failure = Failure.from_dict(value)
    except (KeyError, TypeError, AttributeError) as exc:
        raise CorruptError(f"{record.ref} does not hold a failure") from exc
    return RemoteTaskError(failure, record.key, dict(record.headers))


def _digest(payload: bytes) -> str:
    return hashlib.blake2b(payload, digest_size=16).hexdigest()
