"""Values to bytes and back.

Every supported value comes back equal and of the same type. A subclass, and what else the JSON of Celery takes, comes
back as the nearest of these types, and its place is noted; where that is not allowed, and for what has no form at all,
it is refused with its place. No class is ever imported because stored data names it, except by pickle, where a storage
allows that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

from flowstore.encoding.serialize import json, msgpack, pickle, tables
from flowstore.encoding.serialize.flatten import UNKNOWN, Forms, Registered, add_forms
from flowstore.encoding.serialize.json import PLAIN, TYPED, dumps
from flowstore.encoding.serialize.marks import Places
from flowstore.errors import CorruptError, SerializationError
from flowstore.interrupts import is_interrupt
from flowstore.record import JSON

__all__ = [
    "CONTENT_TYPES",
    "PICKLED",
    "PLAIN",
    "RAW",
    "TYPED",
    "UNKNOWN",
    "WRITERS",
    "Forms",
    "Places",
    "Registered",
    "Serializer",
    "add_forms",
    "dumps",
    "dumps_shown",
    "loads",
]

Serializer = Literal["json", "msgpack", "pickle"]

_loads_plain = json.loads

RAW: Final = "bytes"
"""Names bytes that are stored as they are."""

PICKLED: Final = pickle.NAME

WRITERS: Final[dict[str, Callable[[object, Places | None], tuple[bytes, str]]]] = {
    "json": json.dumps,
    "msgpack": msgpack.dumps,
    "pickle": pickle.dumps,
}
"""By the name that a configuration gives: what encodes a value, and returns the name by which ``loads`` reads it."""

_OCTETS: Final = "application/octet-stream"
_MSGPACK: Final = "application/vnd.msgpack"
_ARROW: Final = "application/vnd.apache.arrow.stream"

_READERS: Final[dict[str, tuple[Callable[[bytes], Any], str]]] = {
    PLAIN: (json.loads, JSON),
    TYPED: (json.loads_typed, JSON),
    RAW: (lambda payload: payload, _OCTETS),
    msgpack.PLAIN: (msgpack.loads, _MSGPACK),
    msgpack.TYPED: (msgpack.loads_typed, _MSGPACK),
    tables.PANDAS: (tables.loads_pandas, _ARROW),
    tables.POLARS: (tables.loads_polars, _ARROW),
    tables.TABLE: (tables.loads_table, _ARROW),
    tables.BATCH: (tables.loads_batch, _ARROW),
    PICKLED: (pickle.loads, _OCTETS),
}

CONTENT_TYPES: Final = {name: content_type for name, (_, content_type) in _READERS.items()}


def loads(payload: bytes, serializer: object, *, pickled: bool = False) -> Any:
    """Decode bytes by the serializer named in their record.

    Args:
        pickled: whether a pickle may be loaded.

    Raises:
        CorruptError: the bytes are not what that serializer writes, or it can't be used here.
    """
    try:
        if serializer == PLAIN:  # nearly all values
            return _loads_plain(payload)
        return _reader(serializer, pickled)(payload)
    except CorruptError:
        raise
    except MemoryError:
        raise
    except ImportError as exc:
        hint = "" if serializer == PICKLED else f"; it was stored with the serializer {serializer!r}"
        raise CorruptError(f"the value can't be read without what is not installed here: {exc}{hint}") from exc
    except Exception as exc:  # what the constructors of the values raise at what they can't take
        if is_interrupt(exc):
            raise
        raise CorruptError(f"the stored value is not what the serializer {serializer!r} writes: {exc}") from exc


def _reader(serializer: object, pickled: bool) -> Callable[[bytes], Any]:
    reader = _READERS.get(serializer) if isinstance(serializer, str) else None
    if reader is None:
        raise CorruptError(f"the value was stored with the serializer {serializer!r}, which is not known here")
    if serializer == PICKLED and not pickled:
        raise CorruptError("the value is pickled, and only a storage with 'serializer: pickle' may load it")
    return reader[0]


def dumps_shown(payload: bytes, serializer: str) -> bytes:
    """Return JSON text that shows a stored value, a table as a list of its rows.

    Raises:
        CorruptError: as ``loads``.
        SerializationError: it has no JSON form, or is pickled and not to be loaded for that.
    """
    if serializer == PICKLED:
        raise SerializationError("the value is pickled: it is not loaded to be shown")
    if CONTENT_TYPES.get(serializer) == JSON:
        try:
            json.check(payload)
        except (ValueError, RecursionError) as exc:
            raise CorruptError(f"the stored value is not JSON: {exc}") from exc
        return payload
    value = loads(payload, serializer)
    return dumps(tables.as_rows(value) if CONTENT_TYPES[serializer] == _ARROW else value)[0]
