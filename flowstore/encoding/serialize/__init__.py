"""Values to bytes and back.

Every supported value comes back equal and of the same type. Instances of subclasses, and other values that Celery's
JSON accepts, come back as the nearest supported type, and their paths are noted. If that is not allowed, and for all
other values, an error names the path. Stored data never causes a class to be imported, except by pickle, if a storage
allows that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

from flowstore.encoding.serialize import json, msgpack, pickle, tables
from flowstore.encoding.serialize.conversion import UNSUPPORTED, Converter, RegisteredValue, register_converter
from flowstore.encoding.serialize.json import PLAIN, TYPED, dumps
from flowstore.encoding.serialize.tags import ConvertedPaths
from flowstore.errors import CorruptError, SerializationError
from flowstore.interrupts import is_interrupt
from flowstore.record import JSON

__all__ = [
    "CONTENT_TYPES",
    "PICKLED",
    "PLAIN",
    "RAW",
    "TYPED",
    "UNSUPPORTED",
    "WRITERS",
    "ConvertedPaths",
    "Converter",
    "RegisteredValue",
    "Serializer",
    "dumps",
    "dumps_shown",
    "loads",
    "register_converter",
]

Serializer = Literal["json", "msgpack", "pickle"]

_loads_plain = json.loads

RAW: Final = "bytes"
"""The serializer name of bytes that are stored as they are."""

PICKLED: Final = pickle.NAME

WRITERS: Final[dict[str, Callable[[object, ConvertedPaths | None], tuple[bytes, str]]]] = {
    "json": json.dumps,
    "msgpack": msgpack.dumps,
    "pickle": pickle.dumps,
}
"""By configured name: functions that encode a value and return the serializer name for ``loads``."""

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
    """Decode bytes with the serializer that their record names.

    Args:
        pickled: whether a pickle may be loaded.

    Raises:
        CorruptError: the serializer did not write these bytes, or is not available.
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
        raise CorruptError(f"the value can't be read because a package is missing: {exc}{hint}") from exc
    except Exception as exc:  # constructors of the values' types may raise anything
        if is_interrupt(exc):
            raise
        raise CorruptError(f"the stored value is not what the serializer {serializer!r} writes: {exc}") from exc


def _reader(serializer: object, pickled: bool) -> Callable[[bytes], Any]:
    reader = _READERS.get(serializer) if isinstance(serializer, str) else None
    if reader is None:
        raise CorruptError(f"the value was stored with the serializer {serializer!r}, which is unknown here")
    if serializer == PICKLED and not pickled:
        raise CorruptError("the value is pickled, and only a storage with 'serializer: pickle' may load it")
    return reader[0]


def dumps_shown(payload: bytes, serializer: str) -> bytes:
    """Return a stored value as JSON text, a table as a list of rows.

    Raises:
        CorruptError: as ``loads``.
        SerializationError: it has no JSON form, or is pickled: it is not loaded to be shown.
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
